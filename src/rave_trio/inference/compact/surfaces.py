"""Surfaces in place of tensors on either side of a network."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from rave_trio.color.cuda.conversion import Conversion, picture_of
from rave_trio.color.cuda.planes import ROW_ALIGNMENT, layout
from rave_trio.color.cuda.specialisation import reading, writing
from rave_trio.devices.arrays import DevicePicture
from rave_trio.devices.interface import Launcher, Stream
from rave_trio.frames import Frame, Surface, SurfaceDescriptor
from rave_trio.inference.device_backend import DevicePool


@attrs.frozen(kw_only=True)
class Ends:
    """What surfaces a network takes and what it gives: its scale times as large."""

    source: SurfaceDescriptor
    target: SurfaceDescriptor
    dither: bool = False
    """Whether samples are rounded by an ordered threshold."""
    alignment: int = ROW_ALIGNMENT
    """Bytes; rows of the target begin at multiples of it, 1 for dense ones."""


class Surfaces:
    """The two conversions between surfaces and fp16 tensors, 3 x H x W, loaded onto one device.

    One caller at a time, from any thread.
    """

    def __init__(self, ends: Ends, stream: Stream, launcher: Launcher) -> None:
        """Raises InputFormatUnsupported for surfaces that a GPU does not hold."""
        self._ends = ends
        self._taken, self._given = layout(ends.source), layout(ends.target, ends.alignment)
        dtype: Any = np.float16
        self.read = Conversion(ends.source, reading(ends.source, dtype), stream, launcher)
        """From a surface into a tensor."""
        self.write = Conversion(ends.target, writing(ends.target, dtype, dither=ends.dither), stream, launcher)
        """From a tensor into a surface."""

    def picture(self, frame: Frame) -> DevicePicture:
        """The planes of a frame's surface.  Raises DecodeError and ValueError for another than the ends say."""
        return picture_of(frame, self._ends.source, self._taken)

    def room(self, pool: DevicePool) -> Surface:
        """A surface for a result.  Raises OutOfMemory."""
        lease = pool.lease(self._given.nbytes)
        return Surface(self._ends.target, self._given.picture(lease.memory), lease)

    @property
    def shapes(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Of the tensors."""
        source, target = self._ends.source, self._ends.target
        return (3, source.height, source.width), (3, target.height, target.width)


def address_of(picture: DevicePicture) -> tuple[tuple[int, int], ...]:
    """Where the planes lie: what kernels are told of them."""
    return tuple((plane.pointer, plane.pitch) for plane in picture.planes)
