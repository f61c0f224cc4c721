"""The audit of copies: whether frames stay on the GPU, by the driver's own records.

**Steady state** is what comes after :data:`WARM_UP` frames are encoded.  **Frame-sized** is a copy between host and
device of at least as many bytes as the smallest plane of the input's or the output's picture has.  What is smaller,
parameters and constants, is counted and told; copies within the device are as well.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import attrs

from rave_trio.audit.findings import AuditFinding, Level, listed
from rave_trio.devices.activity import Activity, Copy, Count, as_figures
from rave_trio.gpu.transfers import PlannedCopy

CODE = "copies"

WARM_UP = 32
"""Frames until a run is in its steady state: about twice those that can be under way at once (10 in the channels, 3 in
the backend, one in each stage's hands), so that every buffer was there and the library has chosen its algorithms."""

MOST_SHOWN = 32
"""Kinds of copies in the figures."""


@attrs.frozen
class ExpectedCopies:
    """What the plan says of copies, per frame."""

    planned: tuple[PlannedCopy, ...]
    frame_sized: int
    """Bytes from which a copy counts as one of a picture."""
    hashed: Counter[tuple[str, int]] = attrs.field(factory=Counter)
    """Copies of the frames that a contract has hashed, in the whole run; some may have been made while it warmed up."""

    def counted(self) -> Counter[tuple[str, int]]:
        """How many there are for each frame, by direction and bytes."""
        return Counter((copy.direction, copy.nbytes) for copy in self.planned)


def judge_copies(expected: ExpectedCopies, activity: Activity, frames: int, warm_up: int = WARM_UP) -> AuditFinding:
    """Hold what was recorded of a run of ``frames`` frames against the plan.

    Fails for a frame-sized copy in the steady state that the plan has not, and where the plan has more than were
    recorded.  Neither fails a run that is as planned: the frames that are encoded when the steady state begins had
    their copies before, so no more than those of the others can come; and over the whole run each frame's copies must
    be there.  Frames that were uploaded ahead, some dozen at most, hide as many copies more of their planes' sizes.

    Warns for what cannot be judged: a clip of no more than ``warm_up`` frames, lost records, and small copies that add
    up to as much as a plane for each frame, as a picture does that is copied in pieces.
    """
    steady_frames = frames - warm_up
    figures = _figures(expected, activity, frames, steady_frames)
    if steady_frames <= 0:
        return AuditFinding(
            Level.WARN, CODE, f"{frames} frames are too few to judge: the first {warm_up} warm up", figures=figures
        )
    unplanned = _unplanned(expected, activity.steady, steady_frames)
    if unplanned:
        direction, nbytes = max(unplanned, key=lambda key: key[1] * unplanned[key])
        told = listed(f"{n} {way} of {size} B" for (way, size), n in unplanned.items())
        return AuditFinding(
            Level.FAIL,
            CODE,
            f"frame-sized copies that are not in the plan, in {steady_frames} frames: {told} "
            f"({_who(activity.steady, direction, nbytes)})",
            _stage(expected, direction),
            {**figures, "unplanned": _as_list(unplanned)},
        )
    missing = _missing(expected, activity, frames)
    if activity.lost:
        told = f"{activity.lost} records were lost, so copies may have gone unseen"
        return AuditFinding(Level.WARN, CODE, told, figures=figures)
    if missing:
        told = listed(f"{n} {way} of {size} B" for (way, size), n in missing.items())
        return AuditFinding(
            Level.FAIL, CODE, f"the plan has copies that were not made: {told}", figures={
                **figures, "missing": _as_list(missing)
            },
        )  # fmt: skip
    for direction, nbytes in figures["small_bytes_per_frame"].items():
        if nbytes >= expected.frame_sized:
            told = f"small {direction} copies add up to {nbytes:.0f} B a frame, as much as a plane"
            return AuditFinding(Level.WARN, CODE, told, figures=figures)
    planned = f"the {len(expected.planned)} that are planned" if expected.planned else "none, as planned"
    return AuditFinding(
        Level.PASS, CODE, f"frame-sized copies between host and GPU for each of {steady_frames} frames: {planned}",
        figures=figures,
    )  # fmt: skip


def _unplanned(expected: ExpectedCopies, steady: dict[Copy, Count], steady_frames: int) -> dict[tuple[str, int], int]:
    planned = expected.counted()
    surplus = {
        key: count - planned[key] * steady_frames - expected.hashed[key]
        for key, count in _counted(steady).items()
        if key[1] >= expected.frame_sized
    }
    return {key: count for key, count in surplus.items() if count > 0}


def _missing(expected: ExpectedCopies, activity: Activity, frames: int) -> dict[tuple[str, int], int]:
    seen = _counted(activity.warm_up) + _counted(activity.steady)
    lacking = {key: each * frames - seen[key] for key, each in expected.counted().items()}
    return {key: count for key, count in lacking.items() if count > 0}


def _counted(copies: dict[Copy, Count]) -> Counter[tuple[str, int]]:
    """Copies between host and device, by direction and bytes."""
    found: Counter[tuple[str, int]] = Counter()
    for copy, total in copies.items():
        if copy.direction is not None:
            found[copy.direction, copy.nbytes] += total.count
    return found


def _who(copies: dict[Copy, Count], direction: str, nbytes: int) -> str:
    """On which stream, and what the host's memory is, of the copies of that size."""
    found = {
        f"{copy.host_memory} memory, CUDA stream {copy.stream}"
        for copy in copies
        if (copy.direction, copy.nbytes) == (direction, nbytes)
    }
    return listed(sorted(found))


def _stage(expected: ExpectedCopies, direction: str) -> str | None:
    """Where the plan has copies of that direction, if it has."""
    return next((copy.stage for copy in expected.planned if copy.direction == direction), None)


def _figures(expected: ExpectedCopies, activity: Activity, frames: int, steady_frames: int) -> dict[str, Any]:
    small: defaultdict[str, Count] = defaultdict(Count)
    inside = Count()
    for copy, total in activity.steady.items():
        if copy.direction is None or copy.nbytes < expected.frame_sized:
            into = inside if copy.direction is None else small[copy.direction]
            into.count += total.count
            into.nbytes += total.nbytes
            into.seconds += total.seconds
    return {
        "frames": frames,
        "steady_frames": max(0, steady_frames),
        "frame_sized_from": expected.frame_sized,
        "planned_per_frame": [attrs.asdict(copy) for copy in expected.planned],
        "steady": as_figures(activity.steady)[:MOST_SHOWN],
        "small": {direction: attrs.asdict(total) for direction, total in small.items()},
        "small_bytes_per_frame": {way: total.nbytes / max(1, steady_frames) for way, total in small.items()},
        "not_with_the_host": attrs.asdict(inside),
        "lost_records": activity.lost,
    }


def _as_list(counted: dict[tuple[str, int], int]) -> list[dict[str, Any]]:
    return [{"direction": way, "nbytes": nbytes, "count": count} for (way, nbytes), count in counted.items()]


def smallest_plane(planes: Iterable[tuple[int, ...]]) -> int:
    """Of all planes of some pictures, the bytes of the smallest."""
    return min(nbytes for picture in planes for nbytes in picture)
