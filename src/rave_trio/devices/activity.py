"""What a driver's records of copies and allocations come to, in memory that does not grow with the run.

Knows no library: :mod:`rave_trio.devices.cupti` fills it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

DIRECTIONS = {"HtoD": "HtoD", "HtoA": "HtoD", "DtoH": "DtoH", "AtoH": "DtoH"}
"""Between host and device, by the kind of the copy; arrays (A) are the device's."""

MOST_SIZES = 512
"""Different copies that are told apart exactly; a video and a network have some dozen sizes."""

MOST_ALLOCATIONS = 100_000
"""Allocations and releases that are kept: a pool makes some hundred, and none once a run is under way."""


@attrs.frozen
class Copy:
    """What copies have in common that are counted together.

    ``kind`` is HtoD, DtoH, DtoD, HtoH, PtoP, or with A for a CUDA array; ``source`` and ``target`` are pageable,
    pinned, device, array, managed or unknown; ``stream`` is CUPTI's number of the CUDA stream.
    """

    kind: str
    nbytes: int
    source: str
    target: str
    stream: int

    @property
    def direction(self) -> str | None:
        """HtoD or DtoH for a copy between host and device, else None."""
        return DIRECTIONS.get(self.kind)

    @property
    def host_memory(self) -> str:
        """What the host's side is, pinned or pageable."""
        return self.source if self.direction == "HtoD" else self.target


@attrs.define
class Count:
    """How many, the bytes of all, and the seconds that the device spent."""

    count: int = 0
    nbytes: int = 0
    seconds: float = 0.0


@attrs.frozen
class Allocation:
    """Memory of a device that a library or we took, or gave back."""

    at: int
    """In CUPTI's nanoseconds."""
    address: int
    nbytes: int | None
    """None for what is given back, which is as much as was taken there."""


class CopyTally:
    """Copies, by what they have in common."""

    def __init__(self, most: int = MOST_SIZES) -> None:
        """From ``most`` kinds on, others are counted with their size rounded up to a power of two, without stream."""
        self.copies: dict[Copy, Count] = {}
        self._most = most

    def add(self, copy: Copy, count: int, seconds: float) -> None:
        """Count ``count`` copies of the same size."""
        key = copy
        if key not in self.copies and len(self.copies) >= self._most:
            key = attrs.evolve(copy, nbytes=1 << max(0, copy.nbytes - 1).bit_length(), stream=-1)
        total = self.copies.setdefault(key, Count())
        total.count += count
        total.nbytes += copy.nbytes * count
        total.seconds += seconds


@attrs.frozen
class Activity:
    """What was seen from the start of a recording to its end.  ``steady`` began when the recording was marked."""

    warm_up: dict[Copy, Count]
    steady: dict[Copy, Count]
    allocations: tuple[Allocation, ...]
    """In the order of time."""
    lost: int = 0
    """Records that CUPTI dropped, or that could not be read or kept."""

    def held_at(self, at: int) -> int:
        """Bytes of the device's memory that were allocated at that moment, by whomever in this process."""
        return _held(each for each in self.allocations if each.at <= at)

    def held_at_the_end(self) -> int:
        """Bytes that were allocated while recording and not given back."""
        return _held(self.allocations)


def _held(allocations: Iterable[Allocation]) -> int:
    held: dict[int, int] = {}
    for each in allocations:
        if each.nbytes is None:
            held.pop(each.address, None)  # or taken before the recording began
        else:
            held[each.address] = each.nbytes
    return sum(held.values())


def as_figures(copies: dict[Copy, Count]) -> list[dict[str, Any]]:
    """Plain values for JSON, the most bytes first."""
    ordered = sorted(copies.items(), key=lambda item: -item[1].nbytes)
    return [{**attrs.asdict(copy), "count": total.count, "seconds": total.seconds} for copy, total in ordered]
