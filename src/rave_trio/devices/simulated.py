"""A device for tests: memory of a size that is chosen, streams that run behind, and failures on request.

Time is virtual: work takes ``latency`` seconds on average, more or less by the seed, of a clock that nobody waits for.
Of the work that could run now, that which is done first by this clock is run first, so streams overtake one another as
the seed has it.  The same launches in the same order, made while the device is paused, run in the same order.

All work runs on one thread of the device's own.
"""

from __future__ import annotations

import contextlib
import math
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.devices.interface import Event, LaunchError

THREAD_NAME = "simulated device"
POISON = 0xFF
"""What freed memory is filled with: as float32 it is not a number."""


class SimulatedMemory:
    """A piece of a simulated device's memory, which is the host's.  Any thread may use it, one at a time."""

    def __init__(self, device: SimulatedDevice, nbytes: int, *, pinned: bool = False) -> None:
        """Only a device makes memory: see :meth:`SimulatedDevice.allocate` and :meth:`SimulatedDevice.pin`."""
        self.nbytes = nbytes
        self._pinned = pinned
        self.last_use: Event | None = None
        self._device = device
        self._bytes: npt.NDArray[np.uint8] | None = np.empty(nbytes, np.uint8)

    @property
    def closed(self) -> bool:
        return self._bytes is None

    @property
    def pointer(self) -> int:
        """The host's address, which is the device's.  Raises ValueError once it is closed."""
        if self._bytes is None:
            raise ValueError("the memory is closed")
        return self._bytes.ctypes.data

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Its beginning seen as an array; raises ValueError once it is closed, and for more than it holds."""
        if self._bytes is None:
            raise ValueError("the memory is closed")
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > self.nbytes:
            raise ValueError(f"an array of {size} bytes does not fit into {self.nbytes}")
        return self._bytes[:size].view(dtype).reshape(shape)

    def close(self) -> None:
        """Give it back.  Arrays that are still around hold nothing of use any more.  Idempotent."""
        held, self._bytes = self._bytes, None
        if held is not None:
            held.fill(POISON)
            self._device._free_memory(self.nbytes, pinned=self._pinned)


class Stall:
    """Work that does not go on until it is released, by any thread."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._released = threading.Event()

    @property
    def reached(self) -> bool:
        """Whether the device has come to it."""
        return self._reached.is_set()

    def wait_until_reached(self) -> None:
        """Block until the device has come to it."""
        self._reached.wait()

    def release(self) -> None:
        """Let the work go on.  Idempotent."""
        self._released.set()

    def _hold(self) -> None:
        self._reached.set()
        self._released.wait()


@attrs.define(eq=False)
class _Task:
    """Something in a stream's queue: work, a moment to note, or another stream's moment to wait for."""

    issued: float
    """When it was asked for, by the device's clock."""
    takes: float = 0.0
    work: Callable[..., object] | None = None
    args: tuple[Any, ...] = ()
    marks: SimulatedEvent | None = None
    awaits: SimulatedEvent | None = None
    error: BaseException | None = None
    """What it fails with, if that is planted."""
    stall: Stall | None = None


class SimulatedEvent:
    """A moment in a simulated stream."""

    def __init__(self, device: SimulatedDevice) -> None:
        """Only a stream records events: see :meth:`SimulatedStream.record`."""
        self.time: float | None = None
        """When it came, in seconds of the device's clock; None before."""
        self._device = device
        self._error: BaseException | None = None

    def query(self) -> bool:
        """Whether it has come.  Raises LaunchError if what was before it failed."""
        with self._device._changed:
            self._check()
            return self.time is not None

    def wait(self) -> None:
        """Block until it has come.  Raises LaunchError if what was before it failed, or the device was closed first."""
        device = self._device
        with device._changed:
            device._changed.wait_for(lambda: self.time is not None)
            assert self.time is not None
            device._now = max(device._now, self.time)
            self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise LaunchError(f"work on the device failed: {self._error}") from self._error


class SimulatedStream:
    """A queue of work of a simulated device."""

    def __init__(self, device: SimulatedDevice) -> None:
        """Only a device makes streams: see :meth:`SimulatedDevice.stream`."""
        self._device = device
        self._tasks: deque[_Task] = deque()
        self._time = 0.0
        """When the last of what it has done was done, by the device's clock."""
        self._error: BaseException | None = None

    def launch(self, work: Callable[..., object], *args: Any) -> None:
        """Have ``work(*args)`` done by the device's thread, and return at once.

        Memory and leases among the arguments must still be open when the work's turn comes, else it fails.
        """
        self._device._launch(self, work, args)

    def record(self) -> SimulatedEvent:
        """The moment at which all that was launched so far is done."""
        event = SimulatedEvent(self._device)
        self._device._enqueue(self, marks=event)
        return event

    def wait(self, event: SimulatedEvent) -> None:
        """Let what is launched from now on begin after ``event``.  Raises ValueError for another device's."""
        if event._device is not self._device:
            raise ValueError("the event is another device's")
        self._device._enqueue(self, awaits=event)

    def synchronize(self) -> None:
        """Block until all that was launched so far is done.  Raises LaunchError if some failed."""
        self.record().wait()


class SimulatedDevice:
    """``capacity`` bytes of memory and any number of streams.  See :class:`rave_trio.devices.interface.Device`.

    ``latency`` is the mean time that work takes, in virtual seconds; ``seed`` decides how long each piece takes.
    Must be closed, since it has a thread.
    """

    def __init__(self, capacity: int, *, latency: float = 0.0, seed: int = 0) -> None:
        self.capacity = capacity
        self.latency = latency
        self.launches = 0
        """How many pieces of work were asked for so far."""
        self._random = random.Random(seed)
        self._changed = threading.Condition()
        self._streams: list[SimulatedStream] = []
        self._used = self._peak = self._pinned = 0
        self._now = 0.0
        self._paused = 0
        self._closed = False
        self._allocations = 0
        self._scarce: dict[int, MemoryError] = {}
        self._failing: dict[int, BaseException] = {}
        self._stalling: dict[int, Stall] = {}
        self._stalled: Stall | None = None
        self._worker = threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)
        self._worker.start()

    @property
    def used(self) -> int:
        """Bytes that are allocated now."""
        with self._changed:
            return self._used

    @property
    def peak(self) -> int:
        """The most bytes that were ever allocated at once."""
        with self._changed:
            return self._peak

    @property
    def free(self) -> int:
        """Bytes that are left."""
        with self._changed:
            return self.capacity - self._used

    @property
    def pinned(self) -> int:
        """Bytes of the host's memory that are page-locked now."""
        with self._changed:
            return self._pinned

    @property
    def now(self) -> float:
        """The latest moment that anybody has waited for, in seconds of the device's clock."""
        with self._changed:
            return self._now

    def allocate(self, nbytes: int) -> SimulatedMemory:
        """Exactly ``nbytes`` of memory.  Raises MemoryError where there is not that much, or as planted."""
        with self._changed:
            self._allocations += 1
            planted = self._scarce.pop(self._allocations, None)
            if planted is not None:
                raise planted
            if self._used + nbytes > self.capacity:
                raise MemoryError(f"{nbytes} bytes asked for, {self.capacity - self._used} of {self.capacity} left")
            self._used += nbytes
            self._peak = max(self._peak, self._used)
        try:
            return SimulatedMemory(self, nbytes)
        except BaseException:
            self._free_memory(nbytes)
            raise

    def pin(self, nbytes: int) -> SimulatedMemory:
        """``nbytes`` of page-locked memory.  Raises MemoryError as planted, in one count with the device's own."""
        with self._changed:
            self._allocations += 1
            planted = self._scarce.pop(self._allocations, None)
            if planted is not None:
                raise planted
            self._pinned += nbytes
        return SimulatedMemory(self, nbytes, pinned=True)

    def stream(self) -> SimulatedStream:
        """A new stream."""
        stream = SimulatedStream(self)
        with self._changed:
            self._streams.append(stream)
        return stream

    def close(self) -> None:
        """Drop the work that has not begun, wait for what has, and end the thread.  Idempotent.

        Work that stalls is released.  Who waits for what is dropped is told by a LaunchError.  Memory is not touched:
        it is given back by whoever holds it.
        """
        with self._changed:
            self._closed = True
            if self._stalled is not None:
                self._stalled.release()
            for stream in self._streams:
                stream._error = stream._error or RuntimeError("the device was closed")
            self._changed.notify_all()
        self._worker.join()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Begin no work inside the block; waiting for some there, in the same thread, would wait for ever."""
        with self._changed:
            self._paused += 1
        try:
            yield
        finally:
            with self._changed:
                self._paused -= 1
                self._changed.notify_all()

    def fail_allocation(self, nth: int = 1, error: MemoryError | None = None) -> None:
        """Let the ``nth`` allocation from now fail."""
        with self._changed:
            self._scarce[self._allocations + nth] = error or MemoryError("planted: no memory")

    def fail_launch(self, nth: int = 1, error: BaseException | None = None) -> None:
        """Let the ``nth`` launch from now fail when its turn comes."""
        with self._changed:
            self._failing[self.launches + nth] = error or RuntimeError("planted: the work failed")

    def stall_launch(self, nth: int = 1) -> Stall:
        """Let the ``nth`` launch from now wait, with all that runs on the device, until it is released."""
        with self._changed:
            return self._stalling.setdefault(self.launches + nth, Stall())

    def _launch(self, stream: SimulatedStream, work: Callable[..., object], args: tuple[Any, ...]) -> None:
        with self._changed:
            self.launches += 1
            self._enqueue(
                stream,
                work=work,
                args=args,
                takes=self.latency * (0.5 + self._random.random()),
                error=self._failing.pop(self.launches, None),
                stall=self._stalling.pop(self.launches, None),
            )

    def _enqueue(self, stream: SimulatedStream, **what: Any) -> None:
        with self._changed:
            if self._closed:
                raise LaunchError("the device is closed")
            stream._tasks.append(_Task(self._now, **what))
            self._changed.notify_all()

    def _free_memory(self, nbytes: int, *, pinned: bool = False) -> None:
        with self._changed:
            if pinned:
                self._pinned -= nbytes
            else:
                self._used -= nbytes

    def _work(self) -> None:
        """The device's thread: the next task of some stream, until closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or (not self._paused and self._runnable()))
                if self._closed:
                    self._drop_all()
                    return
                stream = self._choose()
                task = stream._tasks.popleft()
                self._stalled = task.stall
            error = None if stream._error is not None else self._run(task)
            with self._changed:
                self._stalled = None
                self._account(stream, task, error)
                self._changed.notify_all()
            del task, error  # what they refer to is kept no longer than it takes

    def _runnable(self) -> list[SimulatedStream]:
        return [s for s in self._streams if s._tasks and ((e := s._tasks[0].awaits) is None or e.time is not None)]

    def _choose(self) -> SimulatedStream:
        """The stream whose next task is done first; where the clock does not tell, chance does."""
        ready = [(self._done(stream), self._random.random(), stream) for stream in self._runnable()]
        return min(ready, key=lambda candidate: candidate[:2])[2]

    def _done(self, stream: SimulatedStream) -> float:
        """When the stream's next task would be done."""
        task = stream._tasks[0]
        begins = max(stream._time, task.issued)
        if task.awaits is not None and task.awaits.time is not None:
            begins = max(begins, task.awaits.time)
        return begins + task.takes

    def _run(self, task: _Task) -> BaseException | None:
        """Do what the task is about, unlocked; returns what went wrong."""
        try:
            if task.stall is not None:
                task.stall._hold()
            if task.error is not None:
                return task.error
            if task.work is not None:
                if any(getattr(argument, "closed", False) for argument in task.args):
                    raise ValueError("memory was given back before the work that uses it was done")
                task.work(*task.args)
        except BaseException as error:
            return error
        return None

    def _account(self, stream: SimulatedStream, task: _Task, error: BaseException | None) -> None:
        begins = max(stream._time, task.issued)
        if task.awaits is not None:
            assert task.awaits.time is not None
            begins = max(begins, task.awaits.time)
            error = error or task.awaits._error
        stream._time = begins + task.takes
        stream._error = stream._error or error
        if task.marks is not None:
            task.marks._error = stream._error
            task.marks.time = stream._time

    def _drop_all(self) -> None:
        """Let every moment that was still to come come as a failure."""
        for stream in self._streams:
            for task in stream._tasks:
                if task.marks is not None:
                    task.marks._error, task.marks.time = stream._error, stream._time
            stream._tasks.clear()
        self._changed.notify_all()
