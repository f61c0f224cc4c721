"""Copies and allocations as the driver itself records them: CUPTI's activity API, through ``cupti-python``.

The only module that imports it.  It is no part of the ``nvidia`` extra: its licence is NVIDIA's own, which whoever
installs it accepts.

CUPTI hands over buffers of records from whatever thread filled one, or from one of its own, and waits for the callback;
the callback needs Python's lock.  A thread that holds that lock inside a CUDA call while a buffer is handed over would
wait for ever.  So buffers are large: the first is asked for before any thread of a run works, the next after about a
hundred thousand records, and what is left is handed over when the run's threads are done.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from rave_trio.devices.activity import MOST_ALLOCATIONS, Activity, Allocation, Copy, CopyTally

logger = logging.getLogger(__name__)

INSTALL = "pip install cupti-python"

BUFFER_BYTES = 16 << 20
"""One buffer of CUPTI's; a record of a copy takes about 150."""

FORCED = 1
"""CUPTI_ACTIVITY_FLAG_FLUSH_FORCED: hand over what there is, complete or not."""

COPIES, PEER_COPIES, ALLOCATIONS = 1, 22, 49
"""CUPTI_ACTIVITY_KIND_MEMCPY, _MEMCPY2 and _MEMORY2."""

KINDS = {
    1: "HtoD", 2: "DtoH", 3: "HtoA", 4: "AtoH", 5: "AtoA", 6: "AtoD", 7: "DtoA", 8: "DtoD", 9: "HtoH", 10: "PtoP",
}  # fmt: skip
"""CUpti_ActivityMemcpyKind."""

MEMORIES = {1: "pageable", 2: "pinned", 3: "device", 4: "array", 5: "managed", 6: "device", 7: "managed"}
"""CUpti_ActivityMemoryKind; static memory counts as what it lies in."""

ON_DEVICE = {3, 5}
"""Of the same, what an allocation takes from the device."""

ALLOCATED, RELEASED = 1, 2
"""CUpti_ActivityMemoryOperationType."""

REASONS = {
    "ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED": "another profiler is attached to this process: run without it",
    "ERROR_LEGACY_PROFILER_NOT_SUPPORTED": "this GPU is too old for it",
    "ERROR_INSUFFICIENT_PRIVILEGES": "this user may not profile: ask the administrator for access to GPU counters",
    "ERROR_VIRTUALIZED_DEVICE_NOT_SUPPORTED": "this virtual GPU does not allow profiling",
    "ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES": "this virtual GPU does not allow profiling",
    "ERROR_MIG_DEVICE_NOT_SUPPORTED": "a part of a GPU (MIG) cannot be profiled: use a whole one",
    "ERROR_WSL_DEVICE_NOT_SUPPORTED": "CUPTI does not work under WSL",
    "ERROR_CONFIDENTIAL_COMPUTING_NOT_SUPPORTED": "CUPTI does not work under confidential computing",
}


class CuptiUnavailable(RuntimeError):
    """Nothing can be recorded; the message is one line that says why."""


class Recorder:
    """Records every copy and every allocation of device memory of this process between :meth:`start` and :meth:`stop`.

    One at a time in a process.  Any thread may call; callbacks come from threads of CUPTI's and of whoever uses CUDA.
    Memory is bounded: records are counted as they come.
    """

    def __init__(self, library: Any = None) -> None:
        """``library`` goes for the module ``cupti.cupti``, in tests."""
        self._library = library
        self._lock = threading.Lock()
        self._warm_up, self._steady = CopyTally(), CopyTally()
        self._allocations: list[Allocation] = []
        self._marked_at: int | None = None
        self._lost = 0
        self._running = False

    def start(self) -> None:
        """Begin, before the device is opened if its allocations should all be seen.  Does nothing while it runs.

        Raises CuptiUnavailable where CUPTI or its binding is missing, or refuses, or somebody else records.
        """
        if self._running:
            return
        self._library = self._library or _import()
        if not _claim(self):
            raise CuptiUnavailable("another recording is under way in this process: wait for its end")
        enabled: list[int] = []
        try:
            self._ask("activity_register_callbacks", _buffer_wanted, _buffer_filled)
            for kind in (COPIES, PEER_COPIES, ALLOCATIONS):
                self._ask("activity_enable", kind)
                enabled.append(kind)
        except BaseException:
            self._disable(enabled)
            _let_go(self)
            raise
        self._running = True
        atexit.register(self.stop)  # CUPTI must not call back into a Python that is going away

    def now(self) -> int:
        """The time in the records' own nanoseconds."""
        return int(self._ask("get_timestamp"))

    def mark(self) -> None:
        """What begins from now on is the steady state's."""
        at = self.now()
        with self._lock:
            self._marked_at = at

    def stop(self) -> None:
        """End, and take in all that was recorded.  Idempotent; raises nothing: what is missing counts as lost.

        To be called when the work whose copies are wanted is done, and before its context is destroyed.
        """
        if not self._running:
            return
        self._running = False
        atexit.unregister(self.stop)
        try:
            for name, *args in (("activity_flush_all", FORCED), *(("activity_disable", kind) for kind in _ALL)):
                self._ask(name, *args)
            self._count_dropped()
        except CuptiUnavailable as error:
            logger.debug("ending a recording: %s", error)
            with self._lock:
                self._lost += 1
        finally:
            _let_go(self)

    @property
    def activity(self) -> Activity:
        """What was seen so far; all of it only after :meth:`stop`."""
        with self._lock:
            allocations = tuple(sorted(self._allocations, key=lambda each: each.at))
            return Activity(dict(self._warm_up.copies), dict(self._steady.copies), allocations, self._lost)

    def take(self, records: list[Any]) -> None:
        """Count a buffer's records; what cannot be read is counted as lost, since nothing may be raised to CUPTI."""
        with self._lock:
            for record in records:
                try:
                    self._take(record)
                except Exception as error:
                    self._lost += 1
                    logger.debug("a record of CUPTI's: %r", error)

    def _take(self, record: Any) -> None:
        if record.kind == ALLOCATIONS:
            self._take_allocation(record)
            return
        if record.kind not in (COPIES, PEER_COPIES):
            return
        if not record.start:
            self._lost += 1  # CUPTI could not tell when it was
            return
        count = max(1, getattr(record, "copy_count", 1))
        copy = Copy(
            KINDS.get(record.copy_kind, "unknown"),
            record.bytes // count,
            MEMORIES.get(record.src_kind, "unknown"),
            MEMORIES.get(record.dst_kind, "unknown"),
            record.stream_id,
        )
        steady = self._marked_at is not None and record.start >= self._marked_at
        (self._steady if steady else self._warm_up).add(copy, count, (record.end - record.start) / 1e9)

    def _take_allocation(self, record: Any) -> None:
        if record.memory_kind not in ON_DEVICE:
            return
        if len(self._allocations) >= MOST_ALLOCATIONS:
            self._lost += 1
            return
        if record.memory_operation_type in (ALLOCATED, RELEASED):
            taken = record.bytes if record.memory_operation_type == ALLOCATED else None
            self._allocations.append(Allocation(record.timestamp, record.address, taken))

    def _count_dropped(self) -> None:
        dropped = np.zeros(1, np.uint64)
        self._ask("activity_get_num_dropped_records", 0, 0, dropped.ctypes.data)
        with self._lock:
            self._lost += int(dropped[0])

    def _disable(self, kinds: list[int]) -> None:
        for kind in kinds:
            try:
                self._ask("activity_disable", kind)
            except CuptiUnavailable as error:
                logger.debug("disabling records of kind %d: %s", kind, error)

    def _ask(self, name: str, *args: Any) -> Any:
        call: Callable[..., Any] = getattr(self._library, name)
        try:
            return call(*args)
        except self._library.cuptiError as error:
            found = self._library.Result(error.status).name
            raise CuptiUnavailable(REASONS.get(found, f"CUPTI refuses {name}: {found}")) from error
        except RuntimeError as error:  # no driver, or a library that lacks the call
            raise CuptiUnavailable(f"CUPTI cannot be used: {error}") from error


_ALL = (COPIES, PEER_COPIES, ALLOCATIONS)

_active: Recorder | None = None
_activation = threading.Lock()


def _claim(recorder: Recorder) -> bool:
    global _active
    with _activation:
        if _active is not None:
            return False
        _active = recorder
        return True


def _let_go(recorder: Recorder) -> None:
    global _active
    with _activation:
        if _active is recorder:
            _active = None


def _buffer_wanted() -> tuple[int, int]:
    """Size in bytes, and how many records it may hold at most; 0 for as many as fit."""
    return BUFFER_BYTES, 0


def _buffer_filled(records: list[Any]) -> None:
    recorder = _active
    if recorder is not None:
        recorder.take(records)


def _import() -> Any:
    try:
        from cupti import cupti
    except ImportError as error:
        raise CuptiUnavailable(f"copies cannot be recorded, since cupti-python is not installed: {INSTALL}") from error
    except Exception as error:  # its CUPTI library is missing, or is another version's
        raise CuptiUnavailable(f"cupti-python cannot be loaded: {error}") from error
    return cupti
