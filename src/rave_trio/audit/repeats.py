"""The same job again and again: whether it gives the same frames, and leaves nothing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import attrs

from rave_trio.audit.findings import AuditFinding, Level, listed, mebibytes

SETTLING = 2
"""Runs after which libraries have loaded and allocators have what they keep; growth counts from there."""

MOST_TRACED = 1 << 20
"""Bytes by which what Python and numpy have allocated may grow over all counted runs: caches fill a little."""

MOST_RESIDENT = 32 << 20
"""Bytes by which the process may grow.  Allocators wander: ten runs of one job were seen within 22 MiB, up and down."""


@attrs.frozen
class RepeatedRun:
    """What one of the runs gave and left.  Sizes in bytes."""

    hashes: tuple[str, ...]
    """Of its first frames, before they were encoded."""
    ledger: int
    """What the ledger, page-locked memory included, had open after it."""
    traced: int
    """What is allocated by Python and numpy after it, as tracemalloc has it."""
    resident: int | None
    """The process's memory in RAM after it, where the system says it."""


def judge_determinism(runs: Sequence[RepeatedRun]) -> AuditFinding:
    """Whether all runs gave the same frames.  Fails for a frame that differs; warns where nothing can be compared."""
    figures: dict[str, Any] = {"runs": len(runs), "hashes": list(runs[0].hashes) if runs else []}
    if len(runs) < 2 or not runs[0].hashes:
        return AuditFinding(Level.WARN, "determinism", "not judged: it takes two runs and a frame", figures=figures)
    first = runs[0].hashes
    for number, run in enumerate(runs[1:], 2):
        if len(run.hashes) != len(first):
            told = f"run {number} gave {len(run.hashes)} frames to hash, and the first {len(first)}"
            return AuditFinding(Level.FAIL, "determinism", told, figures=figures)
        other = [at for at, (one, two) in enumerate(zip(first, run.hashes, strict=True)) if one != two]
        if other:
            told = (
                f"run {number} differs from the first in {len(other)} of {len(first)} frames, from frame {other[0]} on"
            )
            return AuditFinding(Level.FAIL, "determinism", told, figures={**figures, "run": number, "frames": other})
    return AuditFinding(
        Level.PASS, "determinism", f"the first {len(first)} frames are the same in {len(runs)} runs", figures=figures
    )


def judge_leaks(runs: Sequence[RepeatedRun], left: Sequence[str]) -> AuditFinding:
    """Whether something is held after the runs that was not before.  Fails if so.

    ``left`` are threads, descriptors and processes, in words.
    """
    bytes_left = [run.ledger for run in runs]
    figures = {"ledger": bytes_left, "left": list(left)}
    found = [f"{nbytes} B in the ledger after run {at}" for at, nbytes in enumerate(bytes_left, 1) if nbytes]
    if found := [*found, *left]:
        return AuditFinding(Level.FAIL, "leaks", f"left behind: {listed(found)}", figures=figures)
    told = f"no thread, descriptor, process or entry in the ledger is left of {len(runs)} runs"
    return AuditFinding(Level.PASS, "leaks", told, figures=figures)


def judge_growth(runs: Sequence[RepeatedRun]) -> AuditFinding:
    """Whether memory grows from run to run, after :data:`SETTLING` of them.

    Growth is the median of the later half of the runs less that of the earlier half.  Fails for more than
    :data:`MOST_TRACED` of Python's and numpy's, which is counted exactly; warns for more than :data:`MOST_RESIDENT` of
    the process, which is not.
    """
    counted = runs[SETTLING:]
    resident = [run.resident for run in counted if run.resident is not None]
    figures: dict[str, Any] = {"traced": [run.traced for run in runs], "resident": [run.resident for run in runs]}
    if len(counted) < 2:
        told = f"not judged: {len(runs)} runs are too few, of which the first {SETTLING} settle"
        return AuditFinding(Level.WARN, "growth", told, figures=figures)
    traced = _growth([run.traced for run in counted])
    process = _growth(resident) if len(resident) == len(counted) else None
    figures |= {"traced_growth": traced, "resident_growth": process}
    grown = f"Python's and numpy's memory by {mebibytes(traced)}"
    grown += "" if process is None else f", the process by {mebibytes(process)}"
    if traced > MOST_TRACED:
        return AuditFinding(Level.FAIL, "growth", f"memory grows over {len(counted)} runs: {grown}", figures=figures)
    if process is None:
        told = f"the process's memory is not known here; over {len(counted)} runs grew {grown}"
        return AuditFinding(Level.WARN, "growth", told, figures=figures)
    level = Level.WARN if process > MOST_RESIDENT else Level.PASS
    return AuditFinding(level, "growth", f"over {len(counted)} runs grew {grown}", figures=figures)


def _growth(sizes: Sequence[int]) -> int:
    half = len(sizes) // 2
    return round(statistics.median(sizes[-half:]) - statistics.median(sizes[:half]))
