"""Surfaces to tensors on the CPU, in float32 arithmetic."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from av.video.frame import VideoFrame

from rave_trio import errors
from rave_trio.color.chroma import Upsampler, grids_of
from rave_trio.color.layout import Component, layout_of
from rave_trio.color.levels import Levels, chroma_levels, levels_of, range_of
from rave_trio.color.matrix import holds_gbr, matrix_of
from rave_trio.color.samples import Floats, Samples, alpha_of, colours_of
from rave_trio.color.strips import strip_lines, strips
from rave_trio.frames import ColorRange, Frame, SurfaceDescriptor, Tensor
from rave_trio.memory import HostPool

Colour = tuple[float, float, float]
"""R, G and B in [0, 1]."""


class SurfaceToTensor:
    """Surfaces of one size and format to 3 x H x W float32 RGB, nominally in [0, 1], in memory leased from a pool.

    Nothing is clipped: blacker than black, whiter than white and what lies outside the RGB cube survive.  Subsampled
    chroma is interpolated where the descriptor says that it lies.  The colour tags that count are those of ``source``.

    Pictures with alpha, which is straight (not premultiplied), are laid over ``background``.

    One caller at a time, from any thread; scratch memory is kept, a few times the size of a strip.
    """

    def __init__(self, source: SurfaceDescriptor, pool: HostPool, background: Colour | None = None) -> None:
        """Raises InputFormatUnsupported for a format that cannot be read, and for alpha without a background."""
        layout = layout_of(source.pixel_format.name)
        if source.pixel_format.has_alpha and background is None:
            raise errors.InputFormatUnsupported(
                f"{layout.name} has an alpha channel, and there is no background to lay the pictures over"
            )
        self._source = source
        self._pool = pool
        self._layout = layout
        self._lines = strip_lines(source.width, source.height)
        self._colours = _reader(source, layout.colours, self._lines)
        self._overlay = None
        if background is not None and layout.alpha is not None:
            self._overlay = _Overlay(layout.alpha, background, source.width, self._lines)

    def convert(self, frame: Frame) -> Frame:
        """The same frame with a tensor in place of its surface, which is closed.

        Raises DecodeError, and leaves the frame as it is, when its size or format is not the source's.
        """
        source, found = self._source, frame.surface.descriptor
        if (found.width, found.height, found.pixel_format) != (source.width, source.height, source.pixel_format):
            raise errors.DecodeError(
                f"the picture changes to {found.width}x{found.height} {found.pixel_format.name} at frame "
                f"{frame.index}; it began as {source.width}x{source.height} {source.pixel_format.name}",
                remedy="split the input where it changes and upscale the pieces one by one",
            )
        lease = self._pool.lease(4 * 3 * source.height * source.width)
        try:
            tensor = lease.array((3, source.height, source.width), np.float32)
            self._fill(tensor, frame.surface.native)
        except BaseException:
            lease.close()
            raise
        return frame.become(Tensor(tensor, lease))

    def _fill(self, tensor: Floats, native: VideoFrame) -> None:
        colours = colours_of(native, self._layout, self._source)
        alpha = None if self._overlay is None else alpha_of(native, self._layout, self._source)
        for start, stop in strips(self._source.height, self._lines):
            strip = tensor[:, start:stop]
            self._colours.strip(colours, start, strip)
            if self._overlay is not None and alpha is not None:
                self._overlay.strip(alpha, start, strip)


class _Reader(Protocol):
    def strip(self, colours: list[Samples], start: int, out: Floats) -> None:
        """Fill ``out``, 3 x lines x width, with the lines from ``start`` on."""


def _reader(source: SurfaceDescriptor, colours: tuple[Component, ...], lines: int) -> _Reader:
    range = range_of(source.color, source.pixel_format)
    if len(colours) == 1:
        return _GreyReader(levels_of(colours[0], range))
    if source.pixel_format.is_rgb:
        return _RgbReader([levels_of(c, range) for c in colours], (0, 1, 2))
    if holds_gbr(source.color, source.pixel_format):
        return _RgbReader([levels_of(c, range) for c in colours], (1, 2, 0))
    return _YuvReader(source, colours, range, lines)


class _GreyReader:
    def __init__(self, levels: Levels) -> None:
        self._levels = levels

    def strip(self, colours: list[Samples], start: int, out: Floats) -> None:
        _read(colours[0], start, self._levels, out[0])
        out[1:] = out[0]


class _RgbReader:
    """Components that need no matrix; ``channels`` says what they are, counted in R, G, B."""

    def __init__(self, levels: list[Levels], channels: tuple[int, int, int]) -> None:
        self._levels = levels
        self._channels = channels

    def strip(self, colours: list[Samples], start: int, out: Floats) -> None:
        for samples, levels, channel in zip(colours, self._levels, self._channels, strict=True):
            _read(samples, start, levels, out[channel])


class _YuvReader:
    def __init__(
        self, source: SurfaceDescriptor, colours: tuple[Component, ...], range: ColorRange, lines: int
    ) -> None:
        matrix = matrix_of(source.color, source.height)
        x, y = grids_of(source.color, source.pixel_format)
        self._luma_levels = levels_of(colours[0], range)
        # Cb is measured in what it adds to B and Cr in what it adds to R, which saves multiplying both there.
        to_rgb = matrix.to_rgb
        cb, cr = float(to_rgb[2, 1]), float(to_rgb[0, 2])
        self._cb_in_red, self._cb_in_green = float(to_rgb[0, 1]) / cb, float(to_rgb[1, 1]) / cb
        self._cr_in_green, self._cr_in_blue = float(to_rgb[1, 2]) / cr, float(to_rgb[2, 2]) / cr
        chroma = chroma_levels(colours[1].bits, range, wide=matrix.wide_chroma)
        levels = Levels(chroma.scale / cb, chroma.offset), Levels(chroma.scale / cr, chroma.offset)
        self._upsampler = Upsampler(x, y, levels, colours[1].bits, source.width, lines)
        self._scratch = np.empty((4, lines, source.width), np.float32)

    def strip(self, colours: list[Samples], start: int, out: Floats) -> None:
        red, green, blue = out
        luma, product, cb, cr = self._scratch[:, : len(red)]
        self._upsampler.strip((colours[1], colours[2]), start, self._scratch[2:, : len(red)])
        _read(colours[0], start, self._luma_levels, luma)
        np.multiply(cb, self._cb_in_green, out=product)
        np.add(luma, product, out=green)
        if self._cr_in_green:
            np.multiply(cr, self._cr_in_green, out=product)
            np.add(green, product, out=green)
        np.add(luma, cr, out=red)
        np.add(luma, cb, out=blue)
        if self._cb_in_red:
            np.add(red, np.multiply(cb, self._cb_in_red, out=product), out=red)
        if self._cr_in_blue:
            np.add(blue, np.multiply(cr, self._cr_in_blue, out=product), out=blue)


class _Overlay:
    """Straight alpha over one colour: ``alpha * rgb + (1 - alpha) * background``."""

    def __init__(self, component: Component, background: Colour, width: int, lines: int) -> None:
        self._levels = levels_of(component, ColorRange.FULL)
        self._background = background
        self._scratch = np.empty((3, lines, width), np.float32)

    def strip(self, samples: Samples, start: int, out: Floats) -> None:
        alpha, rest, share = self._scratch[:, : out.shape[1]]
        _read(samples, start, self._levels, alpha)
        np.subtract(1, alpha, out=rest)
        for channel, behind in zip(out, self._background, strict=True):
            np.multiply(channel, alpha, out=channel)
            np.multiply(rest, behind, out=share)
            np.add(channel, share, out=channel)


def _read(samples: Samples, start: int, levels: Levels, out: Floats) -> None:
    """Lines ``start`` on as numbers."""
    np.copyto(out, samples.rows(start, start + len(out)), casting="unsafe")
    if levels.offset:
        np.subtract(out, levels.offset, out=out)
    if levels.scale != 1:
        np.multiply(out, 1 / levels.scale, out=out)
