"""Reusable buffers in buckets of like size, lent within the ledger's limit."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.errors import OutOfMemory
from rave_trio.memory.ledger import Entry, Ledger
from rave_trio.memory.waiting import Waiting

MIB = 1 << 20
SMALLEST = 4096
COARSE = 2 * MIB
ALIGNMENT = 64
"""Bytes; a cache line, and what vector loads like."""

Memory = TypeVar("Memory")


def bucket_size(nbytes: int) -> int:
    """The size actually allocated for ``nbytes``: powers of two from 4 KiB below 2 MiB, multiples of 2 MiB above."""
    if nbytes < COARSE:
        return max(SMALLEST, 1 << (nbytes - 1).bit_length())
    return -(-nbytes // COARSE) * COARSE


@attrs.frozen
class PoolStats:
    """What the pool has done so far."""

    hits: int
    misses: int
    evictions: int
    """Idle buffers that were freed to make room."""
    waits: int
    """Requests that had to wait for another's memory."""
    leased: int
    idle_bytes: int

    @property
    def hit_rate(self) -> float:
        """Share of requests met without allocating; 0 before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


@attrs.define(eq=False)
class _Buffer(Generic[Memory]):
    memory: Memory
    size: int
    entry: Entry
    used: int = 0
    """When it was given back last, in gifts since the pool was made."""


class Lease(Generic[Memory]):
    """A counted loan of pool memory.  Closing gives it back; closing again does nothing."""

    def __init__(self, pool: Pool[Memory], buffer: _Buffer[Memory]) -> None:
        self._pool = pool
        self._buffer: _Buffer[Memory] | None = buffer

    @property
    def memory(self) -> Memory:
        """The leased memory itself, at least as large as was asked for; contents are undefined at first."""
        if self._buffer is None:
            raise ValueError("the lease is closed")
        return self._buffer.memory

    def close(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._pool._give_back(buffer)


class Pool(Generic[Memory]):
    """Lends memory of one device and keeps what comes back for the next asker.  Thread-safe.

    ``allocate(nbytes)`` makes memory or raises MemoryError; ``free(memory)`` lets it go.

    Where the ledger's limit is reached, or the device has no more, idle buffers are freed, the largest first and of
    those the least recently used.  If the limit leaves no room even so, the asker waits until memory is given back;
    only what could never fit raises :class:`~rave_trio.errors.OutOfMemory`.  A device that has no more raises it at
    once: who else uses it, and for how long, is not known.
    """

    def __init__(
        self,
        ledger: Ledger,
        allocate: Callable[[int], Memory],
        free: Callable[[Memory], None] = lambda memory: None,
        *,
        owner: str = "pool",
        waiting: Waiting | None = None,
    ) -> None:
        self._ledger = ledger
        self._make = allocate
        self._free = free
        self._owner = owner
        self._waiting = waiting or Waiting()
        self._lock = threading.Lock()
        self._idle: defaultdict[int, list[_Buffer[Memory]]] = defaultdict(list)
        self._hits = self._misses = self._evictions = self._waits = self._leased = self._gifts = 0
        self._closed = False
        self._moving = 0
        """Buffers that are being made or freed just now: they count in the ledger and are neither lent nor idle."""
        self._changes = 0
        """Times that there may have come to be more room."""
        self._freed = 0
        """Buffers that went back to the device."""

    def stats(self) -> PoolStats:
        with self._lock:
            idle = sum(size * len(buffers) for size, buffers in self._idle.items())
            return PoolStats(self._hits, self._misses, self._evictions, self._waits, self._leased, idle)

    def close(self) -> None:
        """Free what is idle now, and what is lent as it comes back.  Whoever waits is told that there will be none."""
        with self._lock:
            self._closed = True
        self.trim()
        self._waiting.notify()

    def trim(self) -> None:
        """Free what is idle."""
        with self._lock:
            idle = [buffer for buffers in self._idle.values() for buffer in buffers]
            self._idle.clear()
            self._moving += len(idle)
        for buffer in idle:
            self._discard(buffer)

    def _obtain(self, nbytes: int) -> _Buffer[Memory]:
        """A buffer that is lent from now on, by whatever it takes."""
        size = bucket_size(nbytes)
        if self._ledger.limit is not None and size > self._ledger.limit:
            raise OutOfMemory(f"{size} bytes are more than the limit of {self._ledger.limit}")
        waited = False
        while True:
            ticket = self._waiting.ticket()
            with self._lock:
                changes = self._changes
            buffer = self._take_idle(size) or self._allocate(size)
            if buffer is not None:
                return buffer
            with self._lock:
                if self._changes != changes:
                    continue
                if self._leased == self._moving == 0:
                    raise OutOfMemory(f"there is no room for {size} bytes under the limit of {self._ledger.limit}")
                self._waits += not waited
            waited = True
            self._waiting.wait(ticket)

    def _take_idle(self, size: int) -> _Buffer[Memory] | None:
        with self._lock:
            if self._closed:
                raise ValueError("the pool is closed")
            idle = self._idle[size]
            if not idle:
                return None
            self._hits += 1
            self._leased += 1
            return idle.pop()

    def _allocate(self, size: int) -> _Buffer[Memory] | None:
        """A new buffer, for which idle ones may have to go; None if the ledger's limit leaves no room even so."""
        while True:
            with self._lock:
                self._moving += 1
                freed = self._freed
                entry = self._ledger.try_enter(self._owner, size)
                if entry is None:
                    self._moving -= 1
            if entry is not None:
                try:
                    buffer = _Buffer(self._make(size), size, entry)
                except MemoryError as error:
                    self._moved(entry)
                    if not self._evict_one() and not self._another_frees(freed):
                        raise OutOfMemory(f"{size} bytes cannot be allocated for {self._owner}") from error
                except BaseException:
                    self._moved(entry)
                    raise
                else:
                    with self._lock:
                        self._moving -= 1
                        self._misses += 1
                        self._leased += 1
                    return buffer
            elif not self._evict_one():
                return None

    def _another_frees(self, freed: int) -> bool:
        """Whether memory has gone back to the device since ``freed`` buffers had, or may have; waits for the latter."""
        ticket = self._waiting.ticket()
        with self._lock:
            if self._freed != freed or not self._moving:
                return self._freed != freed
            self._waits += 1
        self._waiting.wait(ticket)
        return True

    def _evict_one(self) -> bool:
        """Free one idle buffer, the largest, and of those the least recently used; whether there was one."""
        with self._lock:
            largest = max((size for size, buffers in self._idle.items() if buffers), default=None)
            if largest is None:
                return False
            buffer = min(self._idle[largest], key=lambda b: b.used)
            self._idle[largest].remove(buffer)
            self._evictions += 1
            self._moving += 1
        self._discard(buffer)
        return True

    def _give_back(self, buffer: _Buffer[Memory]) -> None:
        with self._lock:
            self._leased -= 1
            self._gifts += 1
            buffer.used = self._gifts
            keep = not self._closed
            if keep:
                self._idle[buffer.size].append(buffer)
                self._changes += 1
            else:
                self._moving += 1
        if keep:
            self._waiting.notify()
        else:
            self._discard(buffer)

    def _discard(self, buffer: _Buffer[Memory]) -> None:
        try:
            self._free(buffer.memory)
        finally:
            with self._lock:
                self._freed += 1
            self._moved(buffer.entry)

    def _moved(self, entry: Entry) -> None:
        """Memory that was being made or freed is gone."""
        entry.close()
        with self._lock:
            self._moving -= 1
            self._changes += 1
        self._waiting.notify()


class HostLease(Lease[npt.NDArray[np.uint8]]):
    """A loan of host memory."""

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The leased bytes seen as an array of ``shape`` and ``dtype``; contents are undefined at first."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        return self.memory[:nbytes].view(dtype).reshape(shape)


class HostPool(Pool[npt.NDArray[np.uint8]]):
    """Lends host memory, aligned to 64 bytes."""

    def __init__(self, ledger: Ledger, owner: str = "pool", *, waiting: Waiting | None = None) -> None:
        super().__init__(ledger, _host_memory, owner=owner, waiting=waiting)

    def lease(self, nbytes: int) -> HostLease:
        """A loan of at least ``nbytes``.  Blocks while others hold too much; raises OutOfMemory if it cannot be."""
        return HostLease(self, self._obtain(nbytes))


def _host_memory(nbytes: int) -> npt.NDArray[np.uint8]:
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]
