"""Tensors to surfaces on the CPU, in float32 arithmetic."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from av.video.frame import VideoFrame

from rave_trio import errors
from rave_trio.color.chroma import Downsampler, grids_of
from rave_trio.color.dither import CB, CR, Rounding
from rave_trio.color.layout import Component, layout_of
from rave_trio.color.levels import Levels, chroma_levels, levels_of, range_of
from rave_trio.color.matrix import BLUE, GREEN, RED, holds_gbr, matrix_of
from rave_trio.color.samples import Floats, Samples, alpha_of, blank, clear, colours_of
from rave_trio.color.strips import strip_lines, strips
from rave_trio.frames import ColorRange, Frame, Surface, SurfaceDescriptor

BOUND = 1e6
"""Far outside any code range, and small enough that sums of a few such numbers and their multiples stay finite."""


class TensorToSurface:
    """3 x H x W RGB or 1 x H x W grey, float32, nominally in [0, 1], to surfaces of one size and format.

    Every sample is rounded once, to the nearest code value, and clipped to what the format can hold, so values outside
    [0, 1] stay outside the nominal range where there is room.  What is not a number counts as 0.  Alpha, where the
    format has it, is opaque.

    With ``dither`` samples are rounded up or down by an ordered threshold in place of 1/2: see
    :mod:`rave_trio.color.dither`.  So slopes that are too slight for the format keep their mean, and the same tensor
    always gives the same surface; what is a code value already stays what it is.

    One caller at a time, from any thread; scratch memory is kept, a few times the size of a strip.
    """

    def __init__(self, target: SurfaceDescriptor, *, dither: bool = False) -> None:
        """Raises InputFormatUnsupported for a format that cannot be written."""
        layout = layout_of(target.pixel_format.name)
        if not layout.is_writable:
            raise errors.InputFormatUnsupported(f"pictures cannot be written in the pixel format {layout.name}")
        self._target = target
        self._layout = layout
        self._lines = strip_lines(target.width, target.height)
        self._colours = _writer(target, layout.colours, self._lines, dither=dither)

    def convert(self, frame: Frame) -> Frame:
        """The same frame with a surface in place of its tensor, which is closed.

        Raises ValueError, and leaves the frame as it is, when the tensor is not of the target's size.
        """
        target, tensor = self._target, frame.tensor
        if tensor.shape[1:] != (target.height, target.width) or tensor.shape[0] not in (1, 3):
            raise ValueError(f"a tensor of shape {tensor.shape} is no {target.width}x{target.height} picture")
        native = blank(target)
        if self._layout.padded:
            clear(native)
        colours = colours_of(native, self._layout, target)
        rgb = tensor if len(tensor) == 3 else np.broadcast_to(tensor, (3, *tensor.shape[1:]))
        with np.errstate(over="ignore", invalid="ignore"):
            for start, stop in strips(target.height, self._lines):
                self._colours.strip(rgb, start, stop, colours)
        self._make_opaque(native)
        return frame.become(Surface(target, native))

    def _make_opaque(self, native: VideoFrame) -> None:
        alpha, target = alpha_of(native, self._layout, self._target), self._target
        if alpha is None or self._layout.alpha is None:
            return
        full = levels_of(self._layout.alpha, ColorRange.FULL).scale
        opaque = np.full((self._lines, target.width), full, np.float32)
        for start, stop in strips(target.height, self._lines):
            alpha.write(start, opaque[: stop - start])


class _Writer(Protocol):
    def strip(self, rgb: Floats, start: int, stop: int, colours: list[Samples]) -> None:
        """Write lines ``start`` to ``stop`` of the picture ``rgb``, 3 x height x width."""


def _writer(target: SurfaceDescriptor, components: tuple[Component, ...], lines: int, *, dither: bool) -> _Writer:
    range = range_of(target.color, target.pixel_format)
    rounding = Rounding(target.width, lines, dither=dither)
    if len(components) == 1:
        return _GreyWriter(target, components[0], range, lines, rounding)
    if target.pixel_format.is_rgb:
        return _RgbWriter(components, range, (RED, GREEN, BLUE), target.width, lines, rounding)
    if holds_gbr(target.color, target.pixel_format):
        return _RgbWriter(components, range, (GREEN, BLUE, RED), target.width, lines, rounding)
    return _YuvWriter(target, components, range, lines, rounding)


class _RgbWriter:
    """Components that need no matrix; ``channels`` says what they are."""

    def __init__(
        self,
        components: tuple[Component, ...],
        range: ColorRange,
        channels: tuple[int, int, int],
        width: int,
        lines: int,
        rounding: Rounding,
    ) -> None:
        self._channels = channels
        self._rounding = rounding
        self._components, self._levels = components, [levels_of(c, range) for c in components]
        self._scratch = np.empty((lines, width), np.float32)

    def strip(self, rgb: Floats, start: int, stop: int, colours: list[Samples]) -> None:
        values = self._scratch[: stop - start]
        for channel, component, levels, samples in zip(
            self._channels, self._components, self._levels, colours, strict=True
        ):
            np.copyto(values, rgb[channel, start:stop])
            if not math.isfinite(values.max() - values.min()):
                _make_finite(values)
            _write(_code(values, levels), component, samples, start, self._rounding)


class _Luma:
    """The weighted sum of red, green and blue."""

    def __init__(self, weights: tuple[float, float, float], width: int, lines: int) -> None:
        self._weights = np.array(weights, np.float32)
        self._scratch = np.empty((lines, width), np.float32)

    def of(self, rgb: Floats) -> tuple[Floats, Floats]:
        """Luma, in scratch memory, and ``rgb``: a copy of it without what is not finite, if there is any."""
        luma = self._scratch[: rgb.shape[1]]
        np.einsum("c,cyx->yx", self._weights, rgb, out=luma)
        if not math.isfinite(luma.max() - luma.min()):
            rgb = rgb.copy()
            _make_finite(rgb)
            np.einsum("c,cyx->yx", self._weights, rgb, out=luma)
        return luma, rgb


class _GreyWriter:
    def __init__(
        self, target: SurfaceDescriptor, component: Component, range: ColorRange, lines: int, rounding: Rounding
    ) -> None:
        self._rounding = rounding
        self._luma = _Luma(matrix_of(target.color, target.height).luma, target.width, lines)
        self._component, self._levels = component, levels_of(component, range)

    def strip(self, rgb: Floats, start: int, stop: int, colours: list[Samples]) -> None:
        luma, _ = self._luma.of(rgb[:, start:stop])
        _write(_code(luma, self._levels), self._component, colours[0], start, self._rounding)


class _YuvWriter:
    def __init__(
        self,
        target: SurfaceDescriptor,
        components: tuple[Component, ...],
        range: ColorRange,
        lines: int,
        rounding: Rounding,
    ) -> None:
        self._rounding = rounding
        matrix = matrix_of(target.color, target.height)
        x, y = grids_of(target.color, target.pixel_format)
        self._factor = y.factor
        self._components = components
        self._luma_levels = levels_of(components[0], range)
        self._differences = matrix.cb, matrix.cr
        chroma = chroma_levels(components[1].bits, range, wide=matrix.wide_chroma)
        cb, cr = (Levels(chroma.scale * difference.factor, chroma.offset) for difference in self._differences)
        self._downsampler = Downsampler(x, y, (cb, cr), target.width, lines)
        self._luma = _Luma(matrix.luma, target.width, lines + self._downsampler.above + self._downsampler.below)

    def strip(self, rgb: Floats, start: int, stop: int, colours: list[Samples]) -> None:
        first = max(start - self._downsampler.above, 0)
        luma, rgb = self._luma.of(rgb[:, first : stop + self._downsampler.below])
        pictures = (*rgb, luma)
        pairs = [(pictures[difference.minuend], pictures[difference.subtrahend]) for difference in self._differences]
        planes = self._downsampler.strip(pairs, start - first, -(-(stop - start) // self._factor))
        chroma = zip(planes, self._components[1:], colours[1:], (CB, CR), strict=True)
        for codes, component, samples, moved in chroma:
            _write(codes, component, samples, start // self._factor, self._rounding, moved)
        luma = luma[start - first :][: stop - start]
        _write(_code(luma, self._luma_levels), self._components[0], colours[0], start, self._rounding)


def _code(values: Floats, levels: Levels) -> Floats:
    """Code values, not rounded, in the place of numbers."""
    np.multiply(values, levels.scale, out=values)
    if levels.offset:
        np.add(values, levels.offset, out=values)
    return values


def _write(
    codes: Floats,
    component: Component,
    samples: Samples,
    start: int,
    rounding: Rounding,
    moved: tuple[int, int] = (0, 0),
) -> None:
    """Round, clip and store code values, which are lost, from row ``start`` on."""
    if not component.is_float:
        highest = 2**component.bits - 1
        rounding.add(codes, start, moved)  # what follows the point is cut off when they are stored
        if codes.min() < 0 or codes.max() > highest:
            np.clip(codes, 0, highest, out=codes)
    samples.write(start, codes)


def _make_finite(values: Floats) -> None:
    """In place: what is not a number becomes 0, infinities become numbers far outside any code range."""
    np.nan_to_num(values, copy=False, nan=0.0, posinf=BOUND, neginf=-BOUND)
