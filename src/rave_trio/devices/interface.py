"""What the engine asks of a device that has memory and a sense of time of its own, such as a GPU.

Threads: every method may be called from any thread, and from several at once.

Streams: what is launched on one stream runs in order; what is launched on several runs in any order, or at once, but
for what :meth:`Stream.wait` says.  Launching returns at once.  The memory that work was given belongs to that work
until an event recorded after it has come: before that, it is not read by the host.

Order: memory carries :attr:`DeviceMemory.last_use`, the moment after which all work that was launched with it is done.
Whoever launches work with it, on whatever stream, lets that stream wait for this moment first and then puts the moment
after its own work in its place (:func:`use` does both).  So memory may be lent again while work with it is under way,
and no thread has to wait; only the host must, before it reads.

Errors: work that fails says so at the next synchronisation of its stream, and at every one after that; nothing later on
that stream runs.  Streams that wait for one of its later events fail with it.  On a device whose streams share one fate
(CUDA) all others fail too, and launching, waiting and allocating may tell at once; recording never does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol

from rave_trio.frames import Closable


class LaunchError(RuntimeError):
    """Work on a device failed, some time before the synchronisation that tells of it; ``__cause__`` says why."""


class Event(Protocol):
    """A moment in a stream: it comes when all that was launched before it was recorded is done."""

    def query(self) -> bool:
        """Whether it has come.  Raises LaunchError if what was before it failed."""

    def wait(self) -> None:
        """Block the calling thread until it has come.  Raises LaunchError if what was before it failed."""


class DeviceMemory(Protocol):
    """A piece of a device's memory, held until it is closed."""

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""

    @property
    def pointer(self) -> int:
        """The device's address of its first byte.  Raises ValueError once it is closed."""

    last_use: Event | None
    """When the work that was last launched with it is done; None before the first."""

    def array(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Its beginning seen as an array, of the device's own kind; contents are undefined at first.

        Raises ValueError once it is closed, and for more than it holds.
        """

    def close(self) -> None:
        """Give it back to the device.  Idempotent; no work that uses it may be under way."""


class Stream(Protocol):
    """A queue of work that runs in order."""

    def launch(self, work: Callable[..., object], *args: Any) -> None:
        """Have ``work`` done with ``args``, and return at once.

        What ``work`` is, is the device's own: a simulated device calls ``work(*args)`` on its thread when its turn
        comes; a CUDA device calls ``work(raw, *args)`` in the calling thread, to put kernels and copies into its raw
        stream.  Neither may block, and either uses only its arguments.
        """

    def record(self) -> Event:
        """The moment at which all that was launched so far is done."""

    def wait(self, event: Any) -> None:
        """Let what is launched from now on begin after ``event``, of the same device; does not block the caller."""

    def synchronize(self) -> None:
        """Block the calling thread until all that was launched so far is done.  Raises LaunchError if some failed."""


class Player(Protocol):
    """Has sequences of work run that come again and again: on a GPU :class:`rave_trio.devices.graphs.Graphs`.

    One caller at a time, from any thread.
    """

    def play(self, stream: Stream, key: Hashable, work: Callable[[Any], None], *held: Any) -> None:
        """Have ``work(raw)`` put its kernels into ``stream``, and return at once.

        What has the same key is the same work, on the same addresses.  ``held`` must stay open until it is done.
        Raises LaunchError, MemoryError, and what ``work`` raises, which is forgotten then.
        """

    def close(self) -> None:
        """Let go of what is kept.  Idempotent; nothing may be under way."""


class Device(Protocol):
    """Memory of a fixed size, and streams of work.  Sizes are in bytes."""

    @property
    def capacity(self) -> int:
        """All memory there is."""

    @property
    def used(self) -> int:
        """What is allocated now."""

    @property
    def peak(self) -> int:
        """The most that was ever allocated at once."""

    @property
    def free(self) -> int:
        """What is left."""

    @property
    def pinned(self) -> int:
        """What is page-locked now of the host's memory."""

    def allocate(self, nbytes: int) -> DeviceMemory:
        """Exactly ``nbytes`` of memory.  Raises MemoryError where there is not that much."""

    def pin(self, nbytes: int) -> DeviceMemory:
        """``nbytes`` of page-locked memory of the host, which copies reach without a detour; not in :attr:`used`.

        Its arrays are numpy's: the host reads them after ``last_use`` has come, and writes to them no earlier.  Raises
        MemoryError where there is not that much.  Slow.
        """

    def stream(self) -> Stream:
        """A new stream."""

    def close(self) -> None:
        """Drop what can be dropped of the work, wait for the rest, and end what the device runs on.  Idempotent."""


@contextlib.contextmanager
def use(stream: Stream, *memories: DeviceMemory) -> Iterator[None]:
    """Around launches on ``stream`` that read or write ``memories``: after all that was launched with them before.

    The host does not wait.  The moment is noted also if a launch fails, since others may have been made by then.
    """
    for memory in memories:
        if memory.last_use is not None:
            stream.wait(memory.last_use)
    try:
        yield
    finally:
        done = stream.record()
        for memory in memories:
            memory.last_use = done


class MemoryLease(Closable, Protocol):
    """A loan of a device's memory."""

    @property
    def memory(self) -> DeviceMemory:
        """What is lent."""


class MemoryPool(Protocol):
    """Who lends a device's memory."""

    def lease(self, nbytes: int) -> MemoryLease:
        """At least ``nbytes``."""


class Launcher(Protocol):
    """Who has kernels run.  On a GPU that is :class:`rave_trio.devices.launcher.CudaLauncher`."""

    def load(self, stream: Any, kernel: Any) -> Any:
        """The kernel, ready for :meth:`launch` on ``stream``."""

    def launch(self, stream: Any, kernel: Any, grid: tuple[int, int], block: tuple[int, int], *args: object) -> None:
        """Have it run, after all that was launched on ``stream`` before, and return at once."""

    def put(self, raw: Any, kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
        """The same within a :meth:`Player.play`'s work, into the raw stream that it is called with."""
