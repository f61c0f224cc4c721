"""What lies in a device's memory: arrays by shape and pitch, and pictures as several of them."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np

from rave_trio.devices.interface import DeviceMemory


def _dtype(value: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(value)
    return dtype


@attrs.frozen(eq=False)
class DeviceArray:
    """An array in a device's memory, as kernels and libraries are told of it; it owns nothing.

    All axes but the last two are dense above one another: ``pitch`` is the distance in bytes from one row (the last
    axis) to the next, the row's own length if it is not given.
    """

    memory: DeviceMemory = attrs.field(repr=False)
    shape: tuple[int, ...]
    dtype: np.dtype[Any] = attrs.field(converter=_dtype)
    offset: int = 0
    """Bytes from the memory's beginning."""
    pitch: int = attrs.field()

    @pitch.default
    def _dense(self) -> int:
        return self.row_bytes

    def __attrs_post_init__(self) -> None:
        if self.pitch < self.row_bytes:
            raise ValueError(f"a pitch of {self.pitch} bytes is shorter than a row of {self.row_bytes}")
        if self.offset + self.nbytes > self.memory.nbytes:
            raise ValueError(f"{self.nbytes} bytes from {self.offset} on do not fit into {self.memory.nbytes}")

    @property
    def row_bytes(self) -> int:
        """What of a row is samples."""
        return self.shape[-1] * self.dtype.itemsize

    @property
    def rows(self) -> int:
        """Rows of all planes together."""
        return math.prod(self.shape[:-1])

    @property
    def nbytes(self) -> int:
        """From the first sample to the last."""
        return (self.rows - 1) * self.pitch + self.row_bytes if self.rows else 0

    @property
    def pointer(self) -> int:
        """The device address of the first sample.  Raises ValueError once the memory is closed."""
        return self.memory.pointer + self.offset


@attrs.frozen(eq=False)
class DevicePicture:
    """The planes of one picture in a device's memory, in the order of libav's format: what a surface's ``native`` is.

    Interleaved chroma (nv12, p010le) is one plane, rows x 2 * chroma width.
    """

    planes: tuple[DeviceArray, ...]

    @property
    def memory(self) -> DeviceMemory:
        """What all planes lie in."""
        return self.planes[0].memory
