"""ONNX's Resize of height and width, as weighted sums that repeat with every pixel of the picture."""

from __future__ import annotations

import math
from fractions import Fraction

import attrs

from rave_trio.inference.compact.kernels_protocol import Resampling

HALF = Fraction(1, 2)

WHERE = {
    "half_pixel": HALF,
    "half_pixel_symmetric": HALF,
    "pytorch_half_pixel": HALF,
    "asymmetric": Fraction(0),
}
"""Where a pixel's centre lies from its first edge, by ONNX's coordinate_transformation_mode, for whole scales."""

ROUNDINGS = {
    "round_prefer_floor": lambda x: math.ceil(x - HALF),
    "round_prefer_ceil": lambda x: math.floor(x + HALF),
    "floor": math.floor,
    "ceil": math.ceil,
}


class CannotResize(ValueError):
    """A resize whose weights do not repeat, or are not known here; says which."""


@attrs.frozen
class Resize:
    """What ONNX's Resize does to height and width alike: ``ratio`` is the result's size in those of its input."""

    ratio: Fraction
    mode: str
    """nearest, linear or cubic."""
    where: str
    """Its coordinate_transformation_mode."""
    rounding: str = "round_prefer_floor"
    """Its nearest_mode."""
    cubic: float = -0.75
    """Its cubic_coeff_a."""

    def nearest(self, at: int) -> int:
        """Which row of the input, before it is held within the picture, row ``at`` of the result repeats."""
        return int(ROUNDINGS[self.rounding](self._position(at)))

    def over(self, factor: int) -> Resampling:
        """The same of a picture that is itself ``factor`` times as large as another.  Raises CannotResize."""
        scale = factor * self.ratio
        if self.where not in WHERE:
            raise CannotResize(f"its coordinates are {self.where}")
        if scale.denominator > 1:
            raise CannotResize(f"{factor} times {self.ratio} is not a whole number")
        rows = [self._weights(phase) for phase in range(int(scale))]
        most = max(len(weights) for _, weights in rows)
        first = tuple(begin for begin, _ in rows)
        taps = tuple((*map(float, weights), *[0.0] * (most - len(weights))) for _, weights in rows)
        return Resampling(int(scale), first, taps)

    def _position(self, at: int) -> Fraction:
        centre = WHERE[self.where]
        return (at + centre) / self.ratio - centre

    def _weights(self, at: int) -> tuple[int, list[float]]:
        """The first row of the input that counts, and the weights from it on."""
        if self.mode == "nearest":
            return self.nearest(at), [1.0]
        position = self._position(at)
        left = math.floor(position)
        beyond = float(position - left)
        if self.mode == "linear":
            weights, begin = [1 - beyond, beyond], left
        elif self.mode == "cubic":
            weights = [_cubic(self.cubic, abs(beyond - offset)) for offset in (-1, 0, 1, 2)]
            begin = left - 1
        else:
            raise CannotResize(f"its mode is {self.mode}")
        while len(weights) > 1 and weights[-1] == 0:
            weights.pop()
        while len(weights) > 1 and weights[0] == 0:
            weights.pop(0)
            begin += 1
        return begin, weights


def _cubic(a: float, distance: float) -> float:
    """Keys's kernel: R. Keys, "Cubic convolution interpolation for digital image processing", 1981."""
    d = distance
    if d <= 1:
        return ((a + 2) * d - (a + 3)) * d * d + 1
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
