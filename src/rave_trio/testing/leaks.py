"""Whether anything is left: threads, files, processes, loans and bytes."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import attrs

from rave_trio.memory import Ledger, Pool

SELF = Path("/proc/self")
CACHED = "Trio thread "
"""What Trio calls a worker thread that waits for work; it ends by itself after some seconds without any."""


ENDING = 5.0
"""Seconds in which the system takes down a thread that has ended, however much else it has to do."""


class Allocating(Protocol):
    """A device that knows how much of its memory is allocated."""

    @property
    def used(self) -> int: ...


@attrs.frozen
class Holdings:
    """What this process holds at a moment.  Files and processes are seen on Linux alone."""

    threads: frozenset[tuple[int, str]]
    """Python's threads, by identity and name, without those that only wait for Trio to give them work."""
    native_threads: int
    """Threads of libraries, which Python does not know.  Seen on Linux alone."""
    files: frozenset[tuple[int, str]]
    """Open file descriptors, and what they are."""
    processes: frozenset[int]
    """Children."""

    def beyond(self, before: Holdings) -> list[str]:
        """What there is now and was not before, in words."""
        more = self.native_threads - before.native_threads
        return [
            *([f"{more} native threads"] if more > 0 else []),
            *(f"thread {name!r}" for _, name in sorted(self.threads - before.threads)),
            *(f"descriptor {number} of {target}" for number, target in sorted(self.files - before.files)),
            *(f"process {number}" for number in sorted(self.processes - before.processes)),
        ]


def holdings() -> Holdings:
    """What this process holds now."""
    return Holdings(_threads(), _native_threads(), _files(), _processes())


def left_since(before: Holdings) -> list[str]:
    """What is held beyond ``before``, in words; a thread that has just ended has some seconds to go."""
    deadline = time.monotonic() + ENDING
    while (left := holdings().beyond(before)) and time.monotonic() < deadline:
        os.sched_yield()
    return left


def assert_nothing_left(
    before: Holdings | None = None,
    *,
    ledgers: Iterable[Ledger] = (),
    pools: Iterable[Pool[Any]] = (),
    devices: Iterable[Allocating] = (),
) -> None:
    """Raise AssertionError saying what is held beyond ``before``, accounted, lent or allocated.

    Only explicit release counts if the garbage collector was off since ``before``.  The ledgers' and devices' memory
    is zero once their pools are closed.
    """
    left = [] if before is None else left_since(before)
    left += [f"{pool.stats().leased} leases" for pool in pools if pool.stats().leased]
    left += [f"bytes of {ledger.stats().by_owner} in the ledger" for ledger in ledgers if ledger.stats().current]
    left += [f"{device.used} bytes of the device" for device in devices if device.used]
    if left:
        raise AssertionError(f"left behind: {', '.join(left)}")


def _threads() -> frozenset[tuple[int, str]]:
    alive = ((thread.ident or 0, thread.name) for thread in threading.enumerate())
    return frozenset((ident, name) for ident, name in alive if not name.startswith(CACHED))


def _native_threads() -> int:
    known = {thread.native_id for thread in threading.enumerate()}
    return sum(int(task.name) not in known for task in (SELF / "task").glob("*"))


def _files() -> frozenset[tuple[int, str]]:
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for entry in [*(SELF / "fd").iterdir()]:
            with contextlib.suppress(FileNotFoundError):  # the one that this listing used
                found.add((int(entry.name), str(entry.readlink())))
    return frozenset(found)


def _processes() -> frozenset[int]:
    found: set[int] = set()
    for task in (SELF / "task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(map(int, task.read_text().split()))
    return frozenset(found)
