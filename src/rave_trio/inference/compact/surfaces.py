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
from rave_trio.inference.compact.kernels_protocol import PLANES, KernelSet
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
    """What turns surfaces into fp16 tensors, 3 x H x W, and these into surfaces, loaded onto one device.

    One caller at a time, from any thread.
    """

    def __init__(self, ends: Ends, kernels: KernelSet, stream: Stream, launcher: Launcher) -> None:
        """``kernels`` are the network's.  Raises InputFormatUnsupported for surfaces that a GPU does not hold."""
        self._ends = ends
        self._taken, self._given = layout(ends.source), layout(ends.target, ends.alignment)
        half: Any = np.float16
        self.read = Conversion(ends.source, reading(ends.source, half), stream, launcher)
        """From a surface into a tensor."""
        self.tail = kernels.tail_into(ends.target, dither=ends.dither)
        """From activations into a surface, where the kernels do that."""
        self.write: Conversion | None = None
        """From a tensor into a surface, where they do not."""
        if self.tail is None:
            self.write = Conversion(ends.target, writing(ends.target, half, dither=ends.dither), stream, launcher)

    def picture(self, frame: Frame) -> DevicePicture:
        """The planes of a frame's surface.  Raises DecodeError and ValueError for another than the ends say."""
        return picture_of(frame, self._ends.source, self._taken)

    def room(self, pool: DevicePool) -> Surface:
        """A surface for a result.  Raises OutOfMemory."""
        lease = pool.lease(self._given.nbytes)
        return Surface(self._ends.target, self._given.picture(lease.memory), lease)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Of the tensors: what is read into, and what is written from, if anything is."""
        ends = self._ends
        surfaces = [ends.source] if self.write is None else [ends.source, ends.target]
        return [(PLANES, surface.height, surface.width) for surface in surfaces]


def address_of(picture: DevicePicture) -> tuple[tuple[int, int], ...]:
    """Where the planes lie: what kernels are told of them."""
    return tuple((plane.pointer, plane.pitch) for plane in picture.planes)
