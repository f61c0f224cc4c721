"""A run as a trace that Perfetto and chrome://tracing show: a row a stage, channels and memory as counters.

Format: "Trace Event Format" of the Chromium project, its JSON object form.  Times are microseconds.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from rave_trio.files import NewFile
from rave_trio.pipeline.metrics import BUSY, STAGES

ROWS = (*STAGES, "publish")

SHORTEST_WAIT = 50e-6
"""Seconds; shorter waits are not seen in a trace and would be most of it."""

MOST_WAITING = 100_000
"""Events that may wait to be written, some 10 MB; what comes while the disk takes none is left out and counted."""


class TraceFile:
    """Writes a trace as the run goes, in bounded memory.  An Observer of the pipeline.

    Events come in the Trio thread; :meth:`flush` and :meth:`close` block, in any thread.  A disk that fails ends the
    trace, not the run: :attr:`notes` say so.  The file appears when it is closed, however the run ended.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError if nothing can be written there."""
        self._path = path
        self._origin = time.perf_counter()
        self._new: NewFile | None = NewFile(path)
        self._lock = threading.Lock()
        self._waiting: list[str] = []
        self._depths: dict[str, int] = {}
        self._left_out = 0
        self.notes: list[str] = []
        self._new.file.write('{"displayTimeUnit":"ms","traceEvents":[\n')
        names = {"process_name": [(0, "rave-trio")], "thread_name": [*enumerate(ROWS, 1)]}
        self._new.file.write(
            ",\n".join(
                json.dumps({"ph": "M", "pid": 1, "tid": row, "name": what, "args": {"name": name}})
                for what, rows in names.items()
                for row, name in rows
            )
        )

    def span(self, stage: str, activity: str, start: float, end: float, frame: int | None) -> None:
        if activity != BUSY and end - start < SHORTEST_WAIT:
            return
        name = stage if activity == BUSY else activity.replace("_", " ")
        known = "" if frame is None else f',"args":{{"frame":{frame}}}'
        self._add(
            f'{{"ph":"X","pid":1,"tid":{ROWS.index(stage) + 1},"name":"{name}","cat":"{activity}",'
            f'"ts":{self._microseconds(start):.1f},"dur":{1e6 * (end - start):.1f}{known}}}'
        )

    def depth(self, channel: str, depth: int) -> None:
        if self._depths.get(channel) != depth:
            self._depths[channel] = depth
            self.counter(f"queue {channel}", {"frames": depth})

    def counter(self, name: str, values: Mapping[str, int | float]) -> None:
        """Values of now, drawn above one another under that name."""
        now = self._microseconds(time.perf_counter())
        self._add(f'{{"ph":"C","pid":1,"name":{json.dumps(name)},"ts":{now:.1f},"args":{json.dumps(dict(values))}}}')

    def flush(self) -> None:
        """Write what has come since."""
        with self._lock:
            events, self._waiting = self._waiting, []
            if self._new is None or not events:
                return
            try:
                self._new.file.write(",\n" + ",\n".join(events))
                self._new.file.flush()
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Make it whole and give it its name.  Idempotent."""
        self.flush()
        with self._lock:
            new, self._new = self._new, None
            if new is None:
                return
            try:
                new.file.write("\n]}\n")
                new.publish()
            except OSError as error:
                self._new = new
                self._give_up(error)
            if self._left_out:
                self.notes.append(f"the trace leaves out {self._left_out} events, which the disk was too slow for")

    def discard(self) -> None:
        """Leave nothing."""
        if self._new is not None:
            self._new.discard()
            self._new = None

    def _add(self, event: str) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(event)
        else:
            self._left_out += 1

    def _microseconds(self, at: float) -> float:
        return 1e6 * (at - self._origin)

    def _give_up(self, error: OSError) -> None:
        self.discard()
        self.notes.append(f"the trace {self._path} could not be written: {error.strerror}")
