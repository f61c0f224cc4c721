"""What goes for ``cupti.cupti`` where there is no GPU: its signatures, its errors, and buffers of records."""

from __future__ import annotations

import ctypes
import enum
from types import SimpleNamespace

HTOD, DTOH, DTOD = 1, 2, 8
PAGEABLE, PINNED, DEVICE = 1, 2, 3


class Result(enum.IntEnum):
    SUCCESS = 0
    ERROR_INVALID_OPERATION = 7
    ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED = 39


class CuptiError(Exception):
    def __init__(self, status):
        super().__init__(status)
        self.status = status


def memcpy(kind, nbytes, start, *, source=None, target=None, stream=7, count=1, took=1000, record=1):
    """A record with the fields of ActivityMemcpy6 that are read; host memory is pinned unless that is said."""
    source = source or (PINNED if kind == HTOD else DEVICE)
    target = target or (PINNED if kind == DTOH else DEVICE)
    return SimpleNamespace(
        kind=record, copy_kind=kind, bytes=nbytes, src_kind=source, dst_kind=target, start=start, end=start + took,
        stream_id=stream, copy_count=count,
    )  # fmt: skip


def memory(operation, address, nbytes, at, kind=DEVICE):
    """A record with the fields of ActivityMemory4 that are read."""
    return SimpleNamespace(
        kind=49, memory_operation_type=operation, memory_kind=kind, address=address, bytes=nbytes, timestamp=at
    )


class CuptiStandIn:
    """The functions of the binding that are used.  Records wait in a buffer until it is flushed."""

    cuptiError = CuptiError  # noqa: N815
    Result = Result

    def __init__(self, *, refuses=None, status=39, dropped=0):
        self.refuses, self.status, self.dropped = refuses, status, dropped
        self.enabled = set()
        self.time = 0
        self.waiting = []
        self.completed = None

    def _may(self, name):
        if self.refuses == name:
            raise CuptiError(self.status)

    def activity_register_callbacks(self, func_buffer_requested, func_buffer_completed):
        self._may("activity_register_callbacks")
        size, most = func_buffer_requested()
        assert size > 1 << 20
        assert most == 0
        self.completed = func_buffer_completed

    def activity_enable(self, kind):
        self._may("activity_enable")
        self.enabled.add(kind)

    def activity_disable(self, kind):
        self._may("activity_disable")
        self.enabled.discard(kind)

    def activity_flush_all(self, flag):
        self._may("activity_flush_all")
        records, self.waiting = self.waiting, []
        self.completed(records)

    def activity_get_num_dropped_records(self, context, stream_id, dropped):
        ctypes.c_uint64.from_address(dropped).value = self.dropped

    def get_timestamp(self):
        self._may("get_timestamp")
        return self.time

    def happens(self, *records):
        """What the GPU does: recorded if its kind is enabled."""
        self.waiting += [record for record in records if record.kind in self.enabled]
        self.time = max([self.time, *(getattr(r, "end", getattr(r, "timestamp", 0)) for r in records)]) + 1
