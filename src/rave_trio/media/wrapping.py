"""Pictures in memory of ours as libav frames: the memory itself, by DLPack, or a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from rave_trio.color.samples import blank, tagged
from rave_trio.frames import SurfaceDescriptor

PAIRED = ("nv12", "p010le", "p016le")
"""Formats with interleaved chroma that PyAV wraps."""


def can_be_wrapped(descriptor: SurfaceDescriptor, planes: int) -> bool:
    """Whether PyAV makes frames of so many planes in memory of ours: an odd size with subsampled chroma it refuses."""
    pixel_format, odd_width, odd_height = descriptor.pixel_format, descriptor.width % 2, descriptor.height % 2
    if planes == 2 and pixel_format.name not in PAIRED:
        return False
    return not ((pixel_format.chroma_shift_x and odd_width) or (pixel_format.chroma_shift_y and odd_height))


def wrapped(planes: list[npt.NDArray[Any]], descriptor: SurfaceDescriptor) -> VideoFrame:
    """A frame of ``planes``, rows x samples in the order of libav's format, with the descriptor's colour tags.

    Its memory is that of the arrays.  Libav's references keep them, and let go of them on whatever thread holds the
    last one, which waits for the GIL.  Raises ValueError or NotImplementedError for what cannot be wrapped.
    """
    name, width, height = descriptor.pixel_format.name, descriptor.width, descriptor.height
    return tagged(VideoFrame.from_dlpack(planes, format=name, width=width, height=height), descriptor)


def copied(planes: list[npt.NDArray[Any]], descriptor: SurfaceDescriptor) -> VideoFrame:
    """The same in memory of libav's own."""
    frame = blank(descriptor)
    for source, plane in zip(planes, frame.planes, strict=True):
        rows: npt.NDArray[Any] = np.ndarray(
            source.shape, source.dtype, memoryview(plane), 0, (plane.line_size, source.itemsize)
        )
        np.copyto(rows, source)
    return frame
