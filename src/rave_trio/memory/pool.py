"""Reusable host buffers in buckets of like size."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.memory.ledger import Entry, Ledger

MIB = 1 << 20
SMALLEST = 4096
COARSE = 2 * MIB
ALIGNMENT = 64
"""Bytes; a cache line, and what vector loads like."""


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
    leased: int
    idle_bytes: int

    @property
    def hit_rate(self) -> float:
        """Share of requests met without allocating; 0 before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


@attrs.define(eq=False)
class _Buffer:
    data: npt.NDArray[np.uint8]
    entry: Entry


class Lease:
    """A counted loan of pool memory.  Closing gives it back; closing again does nothing."""

    def __init__(self, pool: HostPool, buffer: _Buffer) -> None:
        self._pool = pool
        self._buffer: _Buffer | None = buffer

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The leased bytes seen as an array of ``shape`` and ``dtype``; contents are undefined at first."""
        if self._buffer is None:
            raise ValueError("the lease is closed")
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        return self._buffer.data[:nbytes].view(dtype).reshape(shape)

    def close(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._pool._give_back(buffer)


class HostPool:
    """Lends host memory and keeps what comes back for the next asker.  Thread-safe."""

    def __init__(self, ledger: Ledger, owner: str = "pool") -> None:
        self._ledger = ledger
        self._owner = owner
        self._lock = threading.Lock()
        self._idle: defaultdict[int, list[_Buffer]] = defaultdict(list)
        self._hits = self._misses = self._leased = 0
        self._closed = False

    def lease(self, nbytes: int) -> Lease:
        """A loan of at least ``nbytes``, aligned to 64 bytes.  Raises MemoryError if the host has no more."""
        size = bucket_size(nbytes)
        with self._lock:
            if self._closed:
                raise ValueError("the pool is closed")
            idle = self._idle[size]
            buffer = idle.pop() if idle else None
            if buffer is not None:
                self._hits += 1
                self._leased += 1
        if buffer is None:
            buffer = self._allocate(size)
            with self._lock:
                self._misses += 1
                self._leased += 1
        return Lease(self, buffer)

    def stats(self) -> PoolStats:
        with self._lock:
            idle = sum(size * len(buffers) for size, buffers in self._idle.items())
            return PoolStats(self._hits, self._misses, self._leased, idle)

    def close(self) -> None:
        """Free what is idle now, and what is lent as it comes back."""
        with self._lock:
            self._closed = True
            idle = [buffer for buffers in self._idle.values() for buffer in buffers]
            self._idle.clear()
        for buffer in idle:
            buffer.entry.close()

    def _allocate(self, size: int) -> _Buffer:
        raw = np.empty(size + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return _Buffer(raw[start : start + size], self._ledger.enter(self._owner, size))

    def _give_back(self, buffer: _Buffer) -> None:
        with self._lock:
            self._leased -= 1
            if not self._closed:
                self._idle[buffer.data.nbytes].append(buffer)
                return
        buffer.entry.close()
