"""Lanczos-3 on a device with memory and streams of its own: two kernels, the vertical axis first, in float32."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import DeviceMemory, Launcher, MemoryLease, MemoryPool, Stream, use
from rave_trio.frames import Frame, Tensor
from rave_trio.resizing import RESIZER_DEPTH
from rave_trio.resizing.lanczos import Taps, taps

BLOCK = (32, 8)
"""Threads of a block, across and down: a warp a row, so that its accesses lie side by side."""

TYPES = {np.dtype(np.float16): "Half", np.dtype(np.float32): "float"}

FLOAT = """\
__device__ inline float to_float(float value) { return value; }
__device__ inline void from_float(float value, float& element) { element = value; }
"""


Upload = Callable[[Stream, npt.NDArray[Any], Any], None]
"""``upload(stream, array, target)`` launches the copy of a host's array to the device."""


@attrs.frozen
class LanczosKernel:
    """The source of the kernel for one axis; element types are float16 or float32, arithmetic is float32."""

    source: np.dtype[Any]
    target: np.dtype[Any]
    rows: bool
    channels: int
    taps: int
    name: str = "lanczos"

    @property
    def body(self) -> str:
        """The source but for half precision: C++17 that host compilers know too, given CUDA's few words."""
        constants = [
            f"using Source = {TYPES[self.source]};",
            f"using Target = {TYPES[self.target]};",
            f"constexpr bool ROWS = {'true' if self.rows else 'false'};",
            f"constexpr int CHANNELS = {self.channels}, TAPS = {self.taps}, THREADS = {BLOCK[0] * BLOCK[1]};",
        ]
        return "\n".join([FLOAT, *constants, _text("rave_trio.resizing", "lanczos.cu")])

    @property
    def code(self) -> str:
        """The whole source, which includes no header."""
        return f"{_text('rave_trio.color.cuda', 'half.cuh')}\n{self.body}"


@cache
def _text(package: str, name: str) -> str:
    return (resources.files(package) / "kernels" / name).read_text()


class _Axis:
    """The weights of one axis on the device, and the kernels for the numbers of channels that came."""

    def __init__(self, axis: Taps, stream: Stream, pool: MemoryPool, upload: Upload, launcher: Launcher) -> None:
        self._stream, self._launcher = stream, launcher
        self._size, self._count = axis.source, axis.weights.shape[1]
        self._kernels: dict[LanczosKernel, Any] = {}
        weights = np.ascontiguousarray(axis.weights.T, np.float32)
        self._leases: list[MemoryLease] = []
        try:
            self._first = self._uploaded(axis.first, pool, upload)
            self._weights = self._uploaded(weights, pool, upload)
        except BaseException:
            self.close()
            raise

    @property
    def memories(self) -> list[DeviceMemory]:
        return [self._first.memory, self._weights.memory]

    def run(self, source: DeviceArray, target: DeviceArray, *, rows: bool) -> None:
        kernel = LanczosKernel(source.dtype, target.dtype, rows, source.shape[0], self._count)
        if kernel not in self._kernels:
            self._kernels[kernel] = self._launcher.load(self._stream, kernel)
        _, height, width = target.shape
        grid = -(-width // BLOCK[0]), -(-height // BLOCK[1])
        self._launcher.launch(
            self._stream,
            self._kernels[kernel],
            grid,
            BLOCK,
            source.pointer,
            source.pitch,
            target.pointer,
            target.pitch,
            self._first.pointer,
            self._weights.pointer,
            np.int32(self._size),
            np.int32(width),
            np.int32(height),
        )

    def close(self) -> None:
        while self._leases:
            self._leases.pop().close()

    def _uploaded(self, values: npt.NDArray[Any], pool: MemoryPool, upload: Upload) -> DeviceArray:
        lease = pool.lease(values.nbytes)
        self._leases.append(lease)
        array = DeviceArray(lease.memory, values.shape, values.dtype)
        with use(self._stream, lease.memory):
            upload(self._stream, values, array)
        self._stream.synchronize()  # the host's array is gone when this returns
        return array


class DeviceResizer:
    """Frames with tensors in (C x H x W float16 or float32), the same frames in another size out, in order.

    Like a model's backend.  A tensor's array is a :class:`~rave_trio.devices.arrays.DeviceArray`; what comes out is
    dense, of the same dtype, in memory leased from ``pool``, as is what lies between the two kernels.

    Streams: kernels run on the stream given, after all that was launched with the frame's memory before; nothing waits
    for them, as memory carries the order.  One caller at a time, from any thread.
    """

    depth = RESIZER_DEPTH

    def __init__(
        self,
        source: tuple[int, int],
        target: tuple[int, int],
        *,
        stream: Stream,
        pool: MemoryPool,
        upload: Upload,
        launcher: Launcher,
    ) -> None:
        """Sizes are height x width.  Uploads the weights.  Raises OutOfMemory."""
        self._target = target
        self._stream = stream
        self._pool = pool
        self._frames: deque[Frame] = deque()
        self._between: MemoryLease | None = None
        self._rows = _Axis(taps(source[0], target[0]), stream, pool, upload, launcher)
        try:
            self._columns = _Axis(taps(source[1], target[1]), stream, pool, upload, launcher)
        except BaseException:
            self._rows.close()
            raise

    def submit(self, frame: Frame) -> None:
        """Launch all that a frame takes.  Raises OutOfMemory; the frame stays the caller's then."""
        source: DeviceArray = frame.tensor
        channels, (height, width) = source.shape[0], self._target
        lease = self._pool.lease(channels * height * width * source.dtype.itemsize)
        try:
            result = DeviceArray(lease.memory, (channels, height, width), source.dtype)
            between = self._room((channels, height, source.shape[2]))
            memories = [*self._rows.memories, *self._columns.memories, between.memory]
            with use(self._stream, source.memory, lease.memory, *memories):
                self._rows.run(source, between, rows=True)
                self._columns.run(between, result, rows=False)
        except BaseException:
            lease.close()
            raise
        self._frames.append(frame.become(Tensor(result, lease)))

    def collect(self) -> Frame:
        """The oldest frame; its memory says when its work is done."""
        return self._frames.popleft()

    def close(self) -> None:
        """Drop every frame that was not collected, and give back the weights.  Idempotent."""
        while self._frames:
            self._frames.popleft().close()
        self._rows.close()
        self._columns.close()
        if self._between is not None:
            self._between.close()
            self._between = None

    def _room(self, shape: tuple[int, int, int]) -> DeviceArray:
        if self._between is None:
            self._between = self._pool.lease(4 * 3 * shape[1] * shape[2])
        return DeviceArray(self._between.memory, shape, np.float32)
