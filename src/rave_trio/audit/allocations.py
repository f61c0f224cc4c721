"""Host memory of a picture's size that is allocated anew in the steady state, by tracemalloc's records.

tracemalloc knows what Python and numpy allocate, numpy's arrays included, and how much that was at most since it was
last asked: memory that was given back between two looks shows as a peak.  It does not know what libraries allocate by
themselves: libav's pictures, OpenVINO's and onnxruntime's buffers, CUDA's.
"""

from __future__ import annotations

import tracemalloc
from typing import Any, Protocol

from rave_trio.audit.findings import AuditFinding, Level, mebibytes

CODE = "allocations"

WARM_UP = 12
"""Frames until a run is in its steady state, as far as the host's memory goes: those that fill its channels."""

SMALL_CHANGE = 128 << 10
"""Bytes: above what else is taken for a moment between two looks, of which up to 74 KiB were seen where packets are
small (FFV1's are copied, to check their sums).  A plane must be larger, so that its allocation is told from that."""

NEARLY = 0.75
"""Share of a plane from which a rise is one: what was taken for a moment at the first look hides as much of it."""

ALWAYS = 0.5
"""Share of the looks from which on an allocation counts as one of every frame."""

ENOUGH_LOOKS = 3


class Moment(Protocol):
    """Of :class:`rave_trio.Progress`, what is asked."""

    @property
    def phase(self) -> str: ...

    @property
    def done(self) -> int: ...


class AllocationLooks:
    """Looks at tracemalloc's account each time that a run tells how it is: goes for ``on_progress``.

    tracemalloc must be on.  While frames flow, and after ``warm_up`` of them, :attr:`rises` has for each pair of looks
    by how many bytes the most in between was above what there was at the first.
    """

    def __init__(self, warm_up: int = WARM_UP) -> None:
        self.rises: list[int] = []
        self._warm_up = warm_up
        self._since: int | None = None

    def __call__(self, progress: Moment) -> None:
        """Look."""
        flows = progress.phase == "upscale"
        if self._since is not None and flows:
            self.rises.append(tracemalloc.get_traced_memory()[1] - self._since)
        self._since = None
        if flows and progress.done >= self._warm_up:
            tracemalloc.reset_peak()
            self._since = tracemalloc.get_traced_memory()[0]


def judge_allocations(rises: list[int], plane: int) -> AuditFinding:
    """Whether memory of at least ``plane`` bytes, within :data:`NEARLY`, was allocated in the steady state.

    Fails if so between at least half of them, as an allocation for every frame does; warns for fewer, and where the run
    was too short to look, or its planes are so small that they cannot be told from what else is allocated.
    """
    found = [rise for rise in rises if rise >= NEARLY * plane]
    figures: dict[str, Any] = {"plane": plane, "looks": len(rises), "risen": len(found), "most": max(rises, default=0)}
    if plane < SMALL_CHANGE:
        told = f"not judged: a plane of {plane} B is less than what telling progress takes"
        return AuditFinding(Level.WARN, CODE, told, figures=figures)
    if len(rises) < ENOUGH_LOOKS:
        told = f"not judged: {len(rises)} looks at the steady state are too few"
        return AuditFinding(Level.WARN, CODE, told, figures=figures)
    if found:
        level = Level.FAIL if len(found) >= ALWAYS * len(rises) else Level.WARN
        told = f"between {len(found)} of {len(rises)} looks as much as {mebibytes(max(found))} was allocated anew"
        return AuditFinding(level, CODE, f"{told}, and a plane is {mebibytes(plane)}", figures=figures)
    told = f"nothing of a plane's size ({mebibytes(plane)}) by Python or numpy, between {len(rises)} looks"
    return AuditFinding(Level.PASS, CODE, f"{told}; libraries' own are not seen", figures=figures)
