"""A decoder, converters and an encoder without a codec: pictures of one colour each, in memory leased from a pool.

Frame i is of the value ``i % 251`` all over, so that a frame in another's place is seen for what it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.devices.pool import settle
from rave_trio.errors import DecodeError, EncodeError
from rave_trio.frames import Closable, Frame, PixelFormat, Surface, SurfaceDescriptor, Tensor
from rave_trio.memory.pool import bucket_size
from rave_trio.pipeline import PipelineConfig

PLANAR_RGB = PixelFormat("gbrp", 8, is_rgb=True)
TIME_BASE = Fraction(1, 90_000)
COLOURS = 251
"""A prime, so that no power of two brings the same picture again."""


class ArrayLease(Protocol):
    """A loan of memory that can be seen as an array."""

    @property
    def memory(self) -> Any: ...

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]: ...

    def close(self) -> None: ...


class Lender(Protocol):
    """A pool, of whichever device."""

    def lease(self, nbytes: int) -> ArrayLease: ...


@attrs.define(eq=False)
class LeasedSurface(Surface):
    """A surface whose samples, 3 x H x W bytes, are in leased memory."""

    lease: Closable | None = attrs.field(default=None, repr=False)

    def close(self) -> None:
        lease, self.lease, self.native = self.lease, None, None
        if lease is not None:
            lease.close()


class SyntheticDecoder:
    """Gives out ``frames`` pictures of one colour each, at slightly uneven times."""

    def __init__(self, frames: int, width: int, height: int, pool: Lender) -> None:
        self.frames = frames
        self._width, self._height = width, height
        self._pool = pool
        self._index = 0

    def read(self) -> Frame | None:
        """The next frame, the caller's; None after the last."""
        index = self._index
        if index == self.frames:
            return None
        surface = _surface(self._pool, self._width, self._height)
        surface.native[:] = index % COLOURS
        self._index += 1
        pts = 3000 * index + index % 3
        return Frame(index, pts, 3000, TIME_BASE, key_frame=index % 12 == 0, picture=surface)


class SyntheticToTensor:
    """Surfaces of one size to tensors."""

    def __init__(self, width: int, height: int, pool: Lender) -> None:
        self._width, self._height = width, height
        self._pool = pool

    def convert(self, frame: Frame) -> Frame:
        """The same frame with a tensor.  Raises DecodeError for another size; the frame stays the caller's then."""
        size = frame.surface.descriptor
        if (size.width, size.height) != (self._width, self._height):
            raise DecodeError(
                f"the picture changes to {size.width}x{size.height}; it began as {self._width}x{self._height}"
            )
        shape = (3, self._height, self._width)
        lease = _lease(self._pool, 4 * math.prod(shape))
        array = lease.array(shape, np.float32)
        np.divide(frame.surface.native, np.float32(255), out=array)
        return frame.become(Tensor(array, lease))


class SyntheticToSurface:
    """Tensors of one size to surfaces."""

    def __init__(self, width: int, height: int, pool: Lender) -> None:
        self._width, self._height = width, height
        self._pool = pool

    def convert(self, frame: Frame) -> Frame:
        """The same frame with a surface.  Raises ValueError for another size; the frame stays the caller's then."""
        shape = (3, self._height, self._width)
        if frame.tensor.shape != shape:
            raise ValueError(f"a tensor of shape {frame.tensor.shape} is no {self._width}x{self._height} picture")
        surface = _surface(self._pool, self._width, self._height)
        np.rint(frame.tensor * np.float32(255), out=surface.native, casting="unsafe")
        return frame.become(surface)


class CountingEncoder:
    """Takes frames of one size, counts them and looks at them; writes nothing.

    ``on_frame`` is called with each frame's index after it was taken, in the calling thread.
    """

    def __init__(self, width: int, height: int, on_frame: Callable[[int], object] = lambda index: None) -> None:
        self.indices: list[int] = []
        """The frames taken so far, in the order in which they came."""
        self.wrong: list[int] = []
        """Those that do not show what the decoder gave out under their index."""
        self.finished = False
        self._width, self._height = width, height
        self._on_frame = on_frame

    @property
    def frames(self) -> int:
        """How many were taken so far."""
        return len(self.indices)

    def write(self, frame: Frame) -> None:
        """Take one frame, which stays the caller's.  Raises EncodeError for another size."""
        size = frame.surface.descriptor
        if (size.width, size.height) != (self._width, self._height):
            raise EncodeError(f"a picture of {size.width}x{size.height} among {self._width}x{self._height}")
        if not (frame.surface.native == frame.index % COLOURS).all():
            self.wrong.append(frame.index)
        self.indices.append(frame.index)
        self._on_frame(frame.index)

    def finish(self) -> None:
        """No more will come."""
        self.finished = True


def most_memory(width: int, height: int, scale: int, depth: int, config: PipelineConfig) -> int:
    """The most bytes of one pool that a run of these parts ever holds: frames in channels, in hands and in a backend.

    With a limit of less, a stage may have to wait for memory.
    """
    surface, tensor = (bucket_size(size * 3 * width * height) for size in (1, 4))
    larger_surface, larger_tensor = (bucket_size(size * 3 * width * height * scale**2) for size in (1, 4))
    return (
        (config.decoded_capacity + 2) * surface
        + (config.preprocessed_capacity + 1 + depth) * tensor
        + depth * larger_tensor
        + (config.upscaled_capacity + 2) * larger_surface
    )


def _lease(pool: Lender, nbytes: int) -> ArrayLease:
    """Memory for the host to write to: work of a device that was launched with it before is done."""
    lease = pool.lease(nbytes)
    if not isinstance(lease.memory, np.ndarray):
        settle(lease.memory)
    return lease


def _surface(pool: Lender, width: int, height: int) -> LeasedSurface:
    lease = _lease(pool, 3 * width * height)
    samples = lease.array((3, height, width), np.uint8)
    return LeasedSurface(SurfaceDescriptor(width, height, PLANAR_RGB), samples, lease)
