"""A CUDA device: its memory, streams and events.  See :mod:`rave_trio.devices.interface` for what they promise.

The primary context is shared with every other library in the process (CuPy, ONNX Runtime, TensorRT).  Each method makes
it current in the calling thread and leaves it so.  The device retains it as long as it or any of its memory is open;
cuda.core retains it besides for each thread that it was used in, until that thread ends.

A kernel that fails (an illegal address, a trap) spoils the context for the rest of the process: all work on all streams
fails from then on, with the same error, and only a new process can use the device again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from cuda import core
from cuda.bindings import driver

from rave_trio.devices.cuda_memory import CudaMemory, PinnedMemory
from rave_trio.devices.driver import check, translated
from rave_trio.devices.interface import LaunchError
from rave_trio.errors import DeviceUnknown, OutOfMemory

__all__ = ["CudaDevice", "CudaEvent", "CudaMemory", "CudaStream", "PinnedMemory"]

logger = logging.getLogger(__name__)

UNTIMED = core.EventOptions(blocking_sync=True)
TIMED = core.EventOptions(blocking_sync=True, timing_enabled=True)
"""Whoever waits for an event leaves its core to others: decoder and encoder need them."""


class CudaEvent:
    """A moment in a CUDA stream.  Any thread may ask for it; a thread that waits sleeps and does not hold the GIL."""

    def __init__(self, device: CudaDevice, raw: Any, failure: LaunchError | None = None) -> None:
        """Only a stream records events: see :meth:`CudaStream.record`."""
        self.raw = raw
        """cuda.core's own; None if what was before it had failed already when it was recorded."""
        self._device = device
        self._failure = failure

    def query(self) -> bool:
        """Whether it has come.  Raises LaunchError if what was before it failed."""
        self._check()
        if self._device._has_ended():
            return True
        with self._device.current():
            return bool(self.raw.is_done)

    def wait(self) -> None:
        """Block until it has come.  Raises LaunchError if what was before it failed."""
        self._check()
        if not self._device._has_ended():
            with self._device.current():
                self.raw.sync()

    def seconds_since(self, earlier: CudaEvent) -> float:
        """The device's time between two events recorded with ``timing``; waits for both.

        Raises ValueError for events without timing, and LaunchError if what was before one of them failed.
        """
        earlier.wait()
        self.wait()
        if not (self.raw.is_timing_enabled and earlier.raw.is_timing_enabled):
            raise ValueError("the events were recorded without timing")
        with self._device.current():
            return float(self.raw - earlier.raw) / 1000

    def _check(self) -> None:
        if self._failure is not None:
            raise LaunchError(str(self._failure)) from self._failure


class CudaStream:
    """A queue of work of a CUDA device.  Any thread may launch, several at once in whatever order they come."""

    def __init__(self, device: CudaDevice, raw: Any) -> None:
        """Only a device makes streams: see :meth:`CudaDevice.stream`."""
        self.raw = raw
        """cuda.core's own; ``int(raw.handle)`` is the CUstream, and CuPy takes it as it is."""
        self._device = device

    def launch(self, work: Callable[..., object], *args: Any) -> None:
        """Call ``work(self.raw, *args)`` in this thread, with the context current; it puts work into the raw stream.

        ``work`` must not wait for the device.  Raises what it raises; what CUDA refuses is a LaunchError, or a
        MemoryError, at once.
        """
        self._device._must_be_open()
        with self._device.current():
            work(self.raw, *args)

    def record(self, *, timing: bool = False) -> CudaEvent:
        """The moment at which all that was launched so far is done; with its time if ``timing``, which costs more.

        Where something has failed already the event tells, and not this call.
        """
        self._device._must_be_open()
        try:
            with self._device.current():
                return CudaEvent(self._device, self.raw.record(options=TIMED if timing else UNTIMED))
        except LaunchError as error:
            return CudaEvent(self._device, None, error)

    def wait(self, event: CudaEvent) -> None:
        """Let what is launched from now on begin after ``event``, or raise LaunchError if it is known to have failed.

        Raises ValueError for another device's.
        """
        if event._device is not self._device:
            raise ValueError("the event is another device's")
        self._device._must_be_open()
        event._check()
        with self._device.current():
            self.raw.wait(event.raw)

    def synchronize(self) -> None:
        """Block until all that was launched so far is done.  Raises LaunchError if some failed."""
        self.record().wait()


class CudaDevice:
    """The GPU that CUDA counts as ``ordinal``, which need not be NVML's count: :mod:`rave_trio.devices.nvidia` tells.

    Raises DeviceUnknown where there is no driver, no such GPU, or a GPU that cannot be used now, and OutOfMemory where
    its memory is too full even for a context (some hundred MB).  Sizes are in bytes.
    """

    def __init__(self, ordinal: int = 0) -> None:
        self.ordinal = ordinal
        self._lock = threading.Lock()
        self._streams: list[CudaStream] = []
        self._used = self._peak = self._pinned = 0
        self._pieces = 0
        """Pieces of memory that are open, on the device and pinned: as long as there are any the context is kept."""
        self._closing = self._ended = self._released = False
        self._failure: LaunchError | None = None
        try:
            self._open()
        except MemoryError as error:
            raise OutOfMemory(f"the GPU {ordinal} has no memory left for a context: {error}") from error
        except RuntimeError as error:
            raise DeviceUnknown(f"the GPU {ordinal} cannot be used: {error}") from error

    def _open(self) -> None:
        check(driver.cuInit(0))
        self._handle = check(driver.cuDeviceGet(self.ordinal))
        self.capacity = int(check(driver.cuDeviceTotalMem(self._handle)))
        described = core.Device(self.ordinal)
        self.name: str = described.name
        self.uuid: str = described.uuid
        major, minor = described.compute_capability
        self.compute_capability: tuple[int, int] = (major, minor)
        self.context = int(check(driver.cuDevicePrimaryCtxRetain(self._handle)))
        """CUDA's handle of the context, for libraries that want to be told."""
        try:
            with self.current():
                pass
        except BaseException:
            driver.cuDevicePrimaryCtxRelease(self._handle)
            raise

    @property
    def used(self) -> int:
        """What is allocated now through this object; other libraries' memory and the context's own are not in it."""
        with self._lock:
            return self._used

    @property
    def peak(self) -> int:
        """The most that was ever allocated at once through this object."""
        with self._lock:
            return self._peak

    @property
    def pinned(self) -> int:
        """Host memory that is page-locked now through this object."""
        with self._lock:
            return self._pinned

    @property
    def free(self) -> int:
        """What the driver says is left, whoever has the rest."""
        self._must_be_open()
        with self.current():
            return int(check(driver.cuMemGetInfo()))

    def device_memory_in_use(self) -> int:
        """What NVML says that all processes hold, contexts included.  Raises RuntimeError where NVML does not say."""
        from rave_trio.devices.nvml import memory_in_use

        return memory_in_use(self.uuid)

    def allocate(self, nbytes: int) -> CudaMemory:
        """Exactly ``nbytes`` of the device's memory.  Raises MemoryError where there is not that much.

        Slow, and waits for the device as the driver sees fit: see :func:`rave_trio.devices.pool.device_pool`.
        """
        return CudaMemory(self, self._obtain(driver.cuMemAlloc, max(nbytes, 1), device_bytes=nbytes), nbytes)

    def pin(self, nbytes: int) -> PinnedMemory:
        """``nbytes`` of page-locked host memory.  Raises MemoryError where there is not that much.  Slow."""
        pointer = self._obtain(
            driver.cuMemHostAlloc, max(nbytes, 1), driver.CU_MEMHOSTALLOC_PORTABLE, pinned_bytes=nbytes
        )
        return PinnedMemory(self, pointer, nbytes)

    def stream(self) -> CudaStream:
        """A new stream, which does not wait for the default stream."""
        self._must_be_open()
        with self.current():
            raw = core.Device(self.ordinal).create_stream(options=core.StreamOptions(nonblocking=True))
        stream = CudaStream(self, raw)
        with self._lock:
            self._streams.append(stream)
        return stream

    def close(self) -> None:
        """Wait for all work, since CUDA drops none, and destroy the streams.  Idempotent.

        Memory is not touched: it is given back by whoever holds it, and the context with the last piece.
        """
        with self._lock:
            if self._closing:
                return
            self._closing = True
            streams, self._streams = self._streams, []
        for stream in streams:
            try:
                with self.current():
                    stream.raw.sync()
            except LaunchError as error:
                self._failure = error
            with contextlib.suppress(LaunchError), translated():
                stream.raw.close()
        with self._lock:
            self._ended = True
        self._release_if_unused()

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current in this thread, and let CUDA's errors come out as the interface has them."""
        with translated():
            core.Device(self.ordinal).set_current()
            yield

    def _must_be_open(self) -> None:
        if self._closing:
            raise LaunchError("the device is closed")

    def _has_ended(self) -> bool:
        """Whether the device was closed, so that all work is done.  Raises LaunchError if some had failed by then."""
        with self._lock:
            if self._ended and self._failure is not None:
                raise LaunchError(str(self._failure)) from self._failure
            return self._ended

    def _obtain(self, call: Callable[..., Any], *args: Any, device_bytes: int = 0, pinned_bytes: int = 0) -> int:
        """The address that the driver's ``call`` gives, accounted for."""
        with self._lock:
            self._must_be_open()
            self._pieces += 1
        try:
            with self.current():
                pointer = int(check(call(*args)))
        except BaseException:
            self._leave()
            raise
        with self._lock:
            self._used += device_bytes
            self._pinned += pinned_bytes
            self._peak = max(self._peak, self._used)
        return pointer

    def _leave(self, *, device_bytes: int = 0, pinned_bytes: int = 0) -> None:
        """A piece of memory is gone."""
        with self._lock:
            self._pieces -= 1
            self._used -= device_bytes
            self._pinned -= pinned_bytes
        self._release_if_unused()

    def _release_if_unused(self) -> None:
        with self._lock:
            if self._released or not self._ended or self._pieces:
                return
            self._released = True
        (status,) = driver.cuDevicePrimaryCtxRelease(self._handle)
        if status != driver.CUresult.CUDA_SUCCESS:
            logger.debug("releasing the context of GPU %d: %s", self.ordinal, status)
