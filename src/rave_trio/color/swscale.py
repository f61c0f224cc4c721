"""Surface <-> tensor on the CPU, by libswscale with accurate rounding and full chroma interpolation.

The picture passes through planar float RGB (``gbrpf32``), which is the model's layout but for the order of the
planes, so no precision is lost between 8, 10 and 12 bit video and the network.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from rave_trio import errors
from rave_trio.frames import UNSPECIFIED, ColorRange, ColorSpec, Frame, Surface, SurfaceDescriptor, Tensor
from rave_trio.memory import HostPool

FLOAT_RGB = "gbrpf32le"
PLANES_OF_RGB = (2, 0, 1)
"""Where R, G and B are among the planes of ``gbrpf32``."""

EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP

HD_LINES = 720
"""Untagged video is BT.601 below this height and BT.709 from it on: the rule that players follow."""

MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
"""H.273 matrix coefficients to libswscale's."""


def matrix_of(color: ColorSpec, height: int) -> Colorspace:
    """The matrix to convert with: the tagged one where libswscale knows it, else the usual guess from the height."""
    guess = Colorspace.ITU601 if height < HD_LINES else Colorspace.ITU709
    return guess if color.matrix == UNSPECIFIED else MATRICES.get(color.matrix, guess)


def range_of(color: ColorSpec) -> ColorRange:
    """The range to convert with; untagged is limited."""
    return ColorRange.FULL if color.range == ColorRange.FULL else ColorRange.LIMITED


class SurfaceToTensor:
    """Surfaces of one size and format to 3 x H x W float32 RGB in [0, 1].  One caller at a time, from any thread."""

    def __init__(self, source: SurfaceDescriptor, pool: HostPool) -> None:
        self._source = source
        self._pool = pool
        self._reformatter = VideoReformatter()
        self._matrix = matrix_of(source.color, source.height)
        self._range = range_of(source.color)

    def convert(self, frame: Frame) -> Frame:
        """The same frame with a tensor in place of its surface."""
        found = frame.surface.descriptor
        if (found.width, found.height, found.pixel_format) != self._shape:
            raise errors.DecodeError(
                f"the picture changes to {found.width}x{found.height} {found.pixel_format.name} at frame "
                f"{frame.index}; it began as {self._source.width}x{self._source.height} "
                f"{self._source.pixel_format.name}",
                remedy="split the input where it changes and upscale the pieces one by one",
            )
        rgb = self._reformatter.reformat(
            frame.surface.native,
            format=FLOAT_RGB,
            src_colorspace=self._matrix,
            src_color_range=int(self._range),
            interpolation=EXACT,
            threads=1,
        )
        planes = [_pixels(rgb, plane) for plane in PLANES_OF_RGB]
        shape = (3, *planes[0].shape)
        lease = self._pool.lease(4 * math.prod(shape))
        tensor = lease.array(shape, np.float32)
        np.stack(planes, out=tensor)
        return frame.become(Tensor(tensor, lease))

    @property
    def _shape(self) -> tuple[int, int, Any]:
        return self._source.width, self._source.height, self._source.pixel_format


class TensorToSurface:
    """3 x H x W (or 1 x H x W, grey) float32 in [0, 1] to surfaces of one format.  Values outside are clipped.

    One caller at a time, from any thread.
    """

    def __init__(self, target: SurfaceDescriptor) -> None:
        self._target = target
        self._reformatter = VideoReformatter()
        self._matrix = matrix_of(target.color, target.height)
        self._range = range_of(target.color)

    def convert(self, frame: Frame) -> Frame:
        """The same frame with a surface in place of its tensor."""
        tensor = frame.tensor
        height, width = tensor.shape[1:]
        rgb = VideoFrame(width, height, FLOAT_RGB)
        for channel, plane in enumerate(PLANES_OF_RGB):
            _pixels(rgb, plane)[:] = tensor[channel if tensor.shape[0] == 3 else 0]
        native = self._reformatter.reformat(
            rgb,
            format=self._target.pixel_format.name,
            dst_colorspace=self._matrix,
            dst_color_range=int(self._range),
            interpolation=EXACT,
            threads=1,
        )
        return frame.become(Surface(self._target, native))


def _pixels(frame: VideoFrame, plane: int) -> npt.NDArray[np.float32]:
    """One float plane as H x W, without the padding that its pitch leaves at the end of each row.  A view."""
    source = frame.planes[plane]
    rows: npt.NDArray[np.float32] = np.frombuffer(memoryview(source), np.float32)
    return rows.reshape(source.height, source.line_size // 4)[:, : source.width]
