"""The samples of a libav frame as numpy arrays: views of its planes wherever numpy can make one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

from rave_trio.color.layout import BYTES, Component, Layout, Packing
from rave_trio.frames import SurfaceDescriptor

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


PALETTE_COLOUR = Component(0, BYTES, 8, step=1)
"""What is left of a palette once it has been looked into."""


class Samples:
    """One component of one frame, row by row."""

    def __init__(self, words: Array, component: Component) -> None:
        self._words = words
        self._component = component
        self._is_plain = component.shift == 0 and not component.shared

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in samples."""
        height, width = self._words.shape
        return height, width

    def rows(self, start: int, stop: int) -> Array:
        """Rows ``start`` to ``stop`` as code values: an integer (or float) array, a view where that is possible."""
        words = self._words[start:stop]
        if self._is_plain:
            return words
        codes: Array = words >> self._component.shift
        if self._component.shared:
            codes &= (1 << self._component.bits) - 1
        return codes

    def write(self, start: int, values: Floats) -> None:
        """Store ``values`` from row ``start`` on: cut to whole numbers, which must lie in the component's code range.

        Components that share their words with others need the words to be zero before.
        """
        words = self._words[start : start + len(values)]
        if self._is_plain:
            np.copyto(words, values, casting="unsafe")
        else:
            words |= values.astype(words.dtype) << self._component.shift


def colours_of(frame: VideoFrame, layout: Layout, surface: SurfaceDescriptor) -> list[Samples]:
    """The components of ``frame`` that make its colours.  What is not packed in bits can be written to."""
    shift_x, shift_y = surface.pixel_format.chroma_shift_x, surface.pixel_format.chroma_shift_y
    whole = surface.width, surface.height
    chroma = -(-surface.width >> shift_x), -(-surface.height >> shift_y)
    return [
        _samples_of(frame, layout, component, *(chroma if index else whole))
        for index, component in enumerate(layout.colours)
    ]


def alpha_of(frame: VideoFrame, layout: Layout, surface: SurfaceDescriptor) -> Samples | None:
    """The alpha of ``frame``, if it has any."""
    if layout.alpha is None:
        return None
    return _samples_of(frame, layout, layout.alpha, surface.width, surface.height)


def blank(target: SurfaceDescriptor) -> VideoFrame:
    """A frame of that size and format, with its colour tags; its contents are undefined."""
    return tagged(VideoFrame(target.width, target.height, target.pixel_format.name), target)


def tagged(frame: VideoFrame, target: SurfaceDescriptor) -> VideoFrame:
    """``frame`` with the colour tags of ``target``."""
    frame.colorspace, frame.color_range = target.color.matrix, target.color.range
    frame.color_primaries, frame.color_trc = target.color.primaries, target.color.transfer
    return frame


def paint(target: VideoFrame, source: VideoFrame) -> None:
    """Copy the picture of ``source``, of the same size and format and stored from its first row down, whatever lies
    between its rows."""
    for there, here in zip(target.planes, source.planes, strict=True):
        common = min(there.line_size, here.line_size)  # a row of samples at least
        _lines(there)[:, :common] = _lines(here)[:, :common]


def clear(frame: VideoFrame) -> None:
    """Set every byte of every plane to zero."""
    for plane in frame.planes:
        np.frombuffer(memoryview(plane), np.uint8)[:] = 0


def _samples_of(frame: VideoFrame, layout: Layout, component: Component, width: int, height: int) -> Samples:
    if layout.packing == Packing.WORDS:
        words = _words(frame, component.plane, component.dtype, component.step, component.offset, width, height)
        return Samples(words, component)
    if layout.packing == Packing.PALETTE:
        colours = np.frombuffer(memoryview(frame.planes[component.plane]), np.uint32)  # in the machine's byte order
        colour = (colours >> component.shift).astype(np.uint8)
        return Samples(colour[_words(frame, 0, BYTES, 1, 0, width, height)], PALETTE_COLOUR)
    bits = np.unpackbits(_words(frame, 0, BYTES, 1, 0, -(-width // 8), height), axis=1)[:, :width]
    return Samples(bits ^ 1 if layout.packing == Packing.INVERTED_BITS else bits, component)


def _words(
    frame: VideoFrame, plane: int, dtype: np.dtype[Any], step: int, offset: int, width: int, height: int
) -> Array:
    source = frame.planes[plane]
    pitch = source.line_size
    words: Array = np.ndarray((height, width), dtype, memoryview(source), offset, (abs(pitch), step))
    return words[::-1] if pitch < 0 else words  # a picture stored from its last row up


def _lines(plane: VideoPlane) -> npt.NDArray[np.uint8]:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
