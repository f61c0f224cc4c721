"""Resizes as OpenVINO's CPU plugin computes them fast: the same results by convolutions and moved pixels.

Two forms are looked for, in a graph of static shape:

- A cubic resize by p/q.  Its weights repeat every p output pixels, so it is a convolution of stride q with p x p filters
  a channel, whose results DepthToSpace puts in their places.
- ``depth_to_space(y) + nearest(x)``, with or without such a resize after it: the end of a network that corrects its
  enlarged input.  A resize is linear and so takes y and x apart.  What becomes of x is computed at x's own size, as x
  itself plus weighted differences to its neighbours.  When the network runs in bf16 the plugin leaves what follows the
  last convolution in fp32, x with it, and only the small differences and y are rounded.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import openvino as ov
import openvino.opset13 as ops

SIGNIFICANT_BITS = {"fp32": 24, "fp16": 11, "bf16": 8}

LARGEST = 4
"""The largest p or q: filters grow with p * p, and all common factors lie below."""

HALF = Fraction(1, 2)

Array = npt.NDArray[np.float64]


@attrs.frozen
class _Cubic:
    """A cubic resize by ``ratio``, half-pixel centres, pixels beyond the edge equal to those at it."""

    ratio: Fraction
    coefficient: float

    def weights(self, phases: int, block: int) -> tuple[Array, int]:
        """Weights of ``phases`` output pixels in a row on the input pixels around them, and where the first one lies.

        Input pixels are counted in blocks of ``block``, whose pixels are all the same.
        """
        taps: list[tuple[int, int, float]] = []
        for phase in range(phases):
            centre = (phase + HALF) / self.ratio - HALF
            left = math.floor(centre)
            taps += [(phase, at // block, self._weight(abs(float(centre - at)))) for at in range(left - 1, left + 3)]
        first, last = min(at for _, at, _ in taps), max(at for _, at, _ in taps)
        weights = np.zeros((phases, last - first + 1))
        for phase, at, weight in taps:
            weights[phase, at - first] += weight
        return weights, first

    def _weight(self, distance: float) -> float:
        a, d = self.coefficient, distance
        if d <= 1:
            return ((a + 2) * d - (a + 3)) * d * d + 1
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a


def rewrite_resizes(model: ov.Model, precision: str) -> None:
    """Rewrite ``model``, of static shape, in place, to be run in ``precision``.

    Each result differs from the old one by rounding only.
    """
    bits = SIGNIFICANT_BITS[precision]
    for node in reversed(model.get_ordered_ops()):
        used = node.output(0).get_target_inputs() if node.get_output_size() == 1 else ()
        new = _rewritten(node, bits) if used else None
        if new is not None:
            new = ops.convert(new, node.get_element_type())
            new.set_friendly_name(node.get_friendly_name())
            for port in used:
                port.replace_source_output(new.output(0))
    model.validate_nodes_and_infer_types()


def _rewritten(node: Any, bits: int) -> Any | None:
    cubic = _cubic(node)
    if cubic is None:
        parts = _corrected(node)
        return None if parts is None else _sum(*parts)
    before = node.input_value(0)
    parts = _corrected(before.get_node())
    if parts is not None:
        shuffle, small = parts
        block = _block(shuffle)
        phases = cubic.ratio * block
        if phases.denominator == 1:
            weights, first = cubic.weights(int(phases), block)
            ...
    p, q = cubic.ratio.as_integer_ratio()
    ...
