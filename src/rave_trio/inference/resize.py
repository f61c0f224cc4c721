"""Cubic resizes in the form that OpenVINO's CPU plugin computes fast: the same results by convolution.

The weights of a resize by p/q repeat every p output pixels, so it is a convolution of stride q with p * p filters a
channel, whose results DepthToSpace puts in their places.

Where a network that corrects its enlarged input ends in one, ``resize(correction + nearest(x))``, the two terms are
resized by themselves, which is the same.  What becomes of x is computed at x's own size, as x itself plus weighted
differences to its neighbours.  In bf16 the plugin leaves what follows the last convolution in fp32, x with it, so that
only the small correction and the differences are rounded.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import openvino as ov
import openvino.opset13 as ops

from rave_trio.inference.graph import input_shape, output_shape, resize_ratio, sources

SIGNIFICANT_BITS = {"fp32": 24, "fp16": 11, "bf16": 8}

LARGEST = 4
"""The largest p and q: there are p * p filters, and the factors in use lie below."""

PICTURE_CHANNELS = 3
"""Repeating the pixels of anything wider costs more than it saves."""

HALF = Fraction(1, 2)

Weights = npt.NDArray[np.float64]


@attrs.frozen
class _Cubic:
    """A cubic resize of height and width by ``ratio``: half-pixel centres, the edge repeated beyond itself."""

    ratio: Fraction
    coefficient: float

    def taps(self, phases: int, block: int = 1) -> tuple[Weights, int]:
        """How ``phases`` neighbouring output pixels weigh input pixels, and where the first one weighed lies.

        With a ``block`` each input pixel is repeated that many times before it is resized.
        """
        found = []
        for phase in range(phases):
            centre = (phase + HALF) / self.ratio - HALF
            left = math.floor(centre)
            found += [(phase, at // block, self._weight(abs(float(centre - at)))) for at in range(left - 1, left + 3)]
        first, last = min(at for _, at, _ in found), max(at for _, at, _ in found)
        weights = np.zeros((phases, last - first + 1))
        for phase, at, weight in found:
            weights[phase, at - first] += weight
        return weights, first

    def _weight(self, distance: float) -> float:
        a, d = self.coefficient, distance
        if d <= 1:
            return ((a + 2) * d - (a + 3)) * d * d + 1
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a


@attrs.frozen
class _Corrected:
    """``correction + nearest(x)``, each pixel of x being repeated ``block`` x ``block`` times."""

    correction: Any
    x: Any
    block: int


def rewrite_resizes(model: ov.Model, precision: str) -> None:
    """Rewrite ``model``, of static shape, in place, for running in ``precision``; results differ by rounding only."""
    bits = SIGNIFICANT_BITS[precision]
    for node in reversed(model.get_ordered_ops()):
        cubic = _as_cubic(node)
        if cubic is None:
            continue
        new = ops.convert(_rewritten(node.input_value(0), cubic, bits), node.get_element_type())
        for reader in node.output(0).get_target_inputs():
            reader.replace_source_output(new.output(0))
    model.validate_nodes_and_infer_types()


def _rewritten(source: Any, cubic: _Cubic, bits: int) -> Any:
    corrected = _as_corrected(source.get_node())
    if corrected is None or (cubic.ratio * corrected.block).denominator > 1:
        return _resized(source, cubic, bits)
    return ops.add(_resized(corrected.correction, cubic, bits), _enlarged(corrected, cubic, bits))


def _as_cubic(node: Any) -> _Cubic | None:
    """The resize that ``node`` does, if it is one that can be rewritten."""
    if node.get_type_name() != "Interpolate":
        return None
    how = node.get_attributes()
    if how["mode"] != "cubic" or how["coordinate_transformation_mode"] != "half_pixel" or how["antialias"]:
        return None
    ratio = _ratio(node)
    if ratio is None or ratio == 1 or max(ratio.as_integer_ratio()) > LARGEST:
        return None
    return _Cubic(ratio, how["cube_coeff"])


def _as_corrected(node: Any) -> _Corrected | None:
    """The terms of the sum that ``node`` computes, if one of them is an enlarged picture."""
    if node.get_type_name() != "Add":
        return None
    for correction, picture in itertools.permutations(sources(node)):
        block, shape = _repeats(picture), output_shape(picture)
        if block is not None and shape == output_shape(correction) and shape[1] <= PICTURE_CHANNELS:
            return _Corrected(correction.output(0), picture.input_value(0), block)
    return None


def _repeats(node: Any) -> int | None:
    """How often a resize repeats each pixel in both directions, if that is all it does."""
    if node.get_type_name() != "Interpolate":
        return None
    how, ratio = node.get_attributes(), _ratio(node)
    kind = how["mode"], how["coordinate_transformation_mode"], how["nearest_mode"]
    if kind != ("nearest", "asymmetric", "floor") or ratio is None or ratio.denominator > 1:
        return None
    return int(ratio)


def _ratio(node: Any) -> Fraction | None:
    """By how much a resize changes both height and width, if it is exactly that and nothing else changes."""
    if input_shape(node, 0)[:2] != output_shape(node)[:2]:
        return None
    ratio = resize_ratio(node, 2)
    return ratio if ratio == resize_ratio(node, 3) else None


def _resized(source: Any, cubic: _Cubic, bits: int) -> Any:
    """``source`` resized: N x C x H x W to N x C x H * p/q x W * p/q."""
    p, q = cubic.ratio.as_integer_ratio()
    taps, first = cubic.taps(p)
    return _in_place(_filtered(source, _squared(taps), first, q, bits), p)


def _enlarged(corrected: _Corrected, cubic: _Cubic, bits: int) -> Any:
    """The second term resized: each pixel of x becomes ``phases`` x ``phases``."""
    phases = int(cubic.ratio * corrected.block)
    taps, first = cubic.taps(phases, corrected.block)
    differences = _squared(taps)
    differences[:, -first, -first] -= 1
    return _in_place(
        ops.add(_filtered(corrected.x, differences, first, 1, bits), _repeated(corrected.x, phases)), phases
    )


def _filtered(source: Any, filters: Weights, first: int, stride: int, bits: int) -> Any:
    """Each channel by itself through ``filters`` (F x k x k), whose first weight meets the pixel at ``first``."""
    channels, size = source.get_shape()[1], filters.shape[-1]
    before, after = -first, first + size - stride
    padded = ops.pad(_fp32(source), [0, 0, before, before], [0, 0, after, after], "edge")
    weights = np.tile(_rounded(filters, bits)[:, np.newaxis], (channels, 1, 1, 1, 1)).astype(np.float32)
    return ops.group_convolution(padded, ops.constant(weights), [stride, stride], [0, 0], [0, 0], [1, 1])


def _repeated(x: Any, block: int) -> Any:
    """``x`` in the layout that DepthToSpace turns into blocks of ``block`` x ``block`` equal pixels."""
    channels = x.get_shape()[1]
    return ops.gather(_fp32(x), np.repeat(np.arange(channels), block * block), 1)


def _in_place(phases: Any, block: int) -> Any:
    return phases if block == 1 else ops.depth_to_space(phases, "depth_first", block)


def _fp32(output: Any) -> Any:
    """Weights are not to be rounded to the graph's fp16; the plugin drops conversions that change nothing."""
    return ops.convert(output, ov.Type.f32)


def _squared(taps: Weights) -> Weights:
    """Filters of both directions, n * n x k x k, from those of one, n x k."""
    phases, size = taps.shape
    squared: Weights = np.einsum("ay,bx->abyx", taps, taps)
    return squared.reshape(phases * phases, size, size)


def _rounded(filters: Weights, bits: int) -> Weights:
    """Each filter in ``bits`` significant bits with its sum kept, so that flat areas keep their level.

    The error of each weight is carried on to the next smaller one.
    """
    result = np.zeros_like(filters)
    for weights, rounded in zip(filters.reshape(len(filters), -1), result.reshape(len(filters), -1), strict=True):
        carry = 0.0
        for at in np.argsort(-np.abs(weights), kind="stable")[: np.count_nonzero(weights)]:
            rounded[at] = _round(weights[at] + carry, bits)
            carry += weights[at] - rounded[at]
    return result


def _round(value: float, bits: int) -> float:
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, bits)), exponent - bits)
