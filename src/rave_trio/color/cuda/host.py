"""Pictures in the host's memory whose planes are copied to and from a device's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from rave_trio.color.cuda.planes import SurfaceLayout
from rave_trio.frames import SurfaceDescriptor


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
