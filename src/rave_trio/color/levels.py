"""From code values to numbers and back: the quantisation of ITU-T H.273."""

from __future__ import annotations

import attrs

from rave_trio.color.layout import Component
from rave_trio.frames import ColorRange, ColorSpec, PixelFormat


@attrs.frozen
class Levels:
    """A code value is ``scale * value + offset``, where value is nominally in [0, 1], for chroma in [-0.5, 0.5]."""

    scale: float
    offset: float


AS_IT_IS = Levels(1.0, 0.0)
"""Of floating-point samples."""


def range_of(color: ColorSpec, pixel_format: PixelFormat) -> ColorRange:
    """LIMITED or FULL: as tagged; untagged is full for RGB, grey and libav's old yuvj formats, else limited."""
    if color.range != ColorRange.UNSPECIFIED:
        return color.range
    full = pixel_format.is_rgb or pixel_format.is_grey or pixel_format.name.startswith("yuvj")
    return ColorRange.FULL if full else ColorRange.LIMITED


def luma_levels(bits: int, range: ColorRange) -> Levels:
    """Of luma, R, G, B and grey: 0 to 2^n - 1 in full range, else 16 to 235 in units of 2^(n - 8).

    H.273, clause 8.3, the equations for Y and for R, G, B.  Samples of less than 8 bits have no limited range.
    """
    if range == ColorRange.FULL or bits < 8:
        return Levels(2**bits - 1, 0)
    unit = 2 ** (bits - 8)
    return Levels(219 * unit, 16 * unit)


def levels_of(component: Component, range: ColorRange) -> Levels:
    """The levels of one component that is no colour difference."""
    return AS_IT_IS if component.is_float else luma_levels(component.bits, range)


def chroma_levels(bits: int, range: ColorRange, *, wide: bool = False) -> Levels:
    """Of colour differences: around 2^(n - 1), 2^n - 1 wide in full range, else 224 in units of 2^(n - 8).

    H.273, clause 8.3, the equations for Cb and Cr.  ``wide``: in the steps of luma, as YCgCo is.
    """
    if range == ColorRange.FULL:
        return Levels(2**bits - 1, 2 ** (bits - 1))
    unit = 2 ** (bits - 8)
    return Levels((219 if wide else 224) * unit, 128 * unit)
