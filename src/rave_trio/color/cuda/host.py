"""Pictures in the host's memory whose planes are copied to and from a device's, as libav's frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from rave_trio.color.cuda.planes import SurfaceLayout
from rave_trio.color.samples import blank, tagged
from rave_trio.frames import SurfaceDescriptor

PAIRED = ("nv12", "p010le", "p016le")
"""Formats with interleaved chroma that PyAV wraps."""


def host_planes(native: VideoFrame, descriptor: SurfaceDescriptor, layout: SurfaceLayout) -> list[npt.NDArray[Any]]:
    """The planes of a libav frame as rows x samples, in the order and of the shapes of ``layout``.

    They are views of its memory, which they keep: what lies between the rows is the frame's own.  Only a picture that
    is stored from its last row up is copied, and is to be read, not written.  Raises ValueError for a frame that is
    not what ``descriptor`` says.
    """
    found = native.width, native.height, native.format.name
    expected = descriptor.width, descriptor.height, descriptor.pixel_format.name
    if found != expected:
        raise ValueError("a picture of {}x{} {} is not one of {}x{} {}".format(*found, *expected))
    planes = []
    for source, plane in zip(native.planes, layout.planes, strict=True):
        pitch = source.line_size
        rows: npt.NDArray[Any] = np.ndarray(
            (plane.rows, plane.samples), plane.dtype, memoryview(source), 0, (abs(pitch), plane.dtype.itemsize)
        )
        planes.append(rows[::-1].copy() if pitch < 0 else rows)
    return planes


def placed_planes(raw: npt.NDArray[np.uint8], layout: SurfaceLayout) -> list[npt.NDArray[Any]]:
    """The planes of ``layout`` in ``raw``, as rows x samples: views."""
    return [
        np.ndarray((plane.rows, plane.samples), plane.dtype, raw, plane.offset, (plane.pitch, plane.dtype.itemsize))
        for plane in layout.planes
    ]


def can_be_wrapped(descriptor: SurfaceDescriptor, planes: int) -> bool:
    """Whether PyAV makes frames of so many planes in memory of ours: an odd size with subsampled chroma it refuses."""
    pixel_format, odd_width, odd_height = descriptor.pixel_format, descriptor.width % 2, descriptor.height % 2
    if planes == 2 and pixel_format.name not in PAIRED:
        return False
    return not ((pixel_format.chroma_shift_x and odd_width) or (pixel_format.chroma_shift_y and odd_height))


def wrapped(planes: list[npt.NDArray[Any]], descriptor: SurfaceDescriptor) -> VideoFrame:
    """A libav frame of ``planes``, rows x samples in its format's order, with the descriptor's colour tags.

    Its memory is that of the arrays.  Libav's references keep them, and let go of them on whatever thread holds the
    last one, which waits for the GIL.  Raises ValueError or NotImplementedError for what cannot be wrapped.
    """
    name, width, height = descriptor.pixel_format.name, descriptor.width, descriptor.height
    return tagged(VideoFrame.from_dlpack(planes, format=name, width=width, height=height), descriptor)


def copied(planes: list[npt.NDArray[Any]], descriptor: SurfaceDescriptor, layout: SurfaceLayout) -> VideoFrame:
    """The same in memory of libav's own."""
    frame = blank(descriptor)
    for source, target in zip(planes, host_planes(frame, descriptor, layout), strict=True):
        np.copyto(target, source)
    return frame
