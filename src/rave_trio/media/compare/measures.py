"""What is kept of a stream that was read: sums over its bytes, and its times."""

from __future__ import annotations

import hashlib
import math
from array import array
from fractions import Fraction
from typing import Any

import attrs

NO_TIME = -(2**63)
"""Stands among ticks for a time that the file does not state."""


class Sum:
    """Counts and hashes bytes that pass by."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=8)
        self.size = 0

    def add(self, data: Any) -> None:
        """``data`` is whatever gives a buffer."""
        self._hash.update(data)
        self.size += memoryview(data).nbytes

    @property
    def words(self) -> str | None:
        """The same for the same bytes only; None if there were none."""
        return f"{self.size} bytes ({self._hash.hexdigest()})" if self.size else None


def sum_of(data: Any) -> str | None:
    """The sum of these bytes alone, in words."""
    whole = Sum()
    whole.add(data)
    return whole.words


@attrs.define
class Times:
    """Times of one stream in ticks of ``time_base`` seconds."""

    time_base: Fraction
    ticks: array[int] = attrs.Factory(lambda: array("q"))

    def add(self, tick: int | None) -> None:
        self.ticks.append(NO_TIME if tick is None else tick)

    def since(self, first: int) -> Times:
        """Those from the index ``first`` on."""
        return Times(self.time_base, self.ticks[first:])

    def where_stated(self, other: Times) -> Times:
        """The same without those that ``other``, of the same length, does not state."""
        pairs = zip(self.ticks, other.ticks, strict=True)
        return Times(self.time_base, array("q", [NO_TIME if theirs == NO_TIME else own for own, theirs in pairs]))

    def __len__(self) -> int:
        return len(self.ticks)

    def __getitem__(self, index: int) -> Fraction | None:
        """The time in seconds."""
        return None if self.ticks[index] == NO_TIME else self.ticks[index] * self.time_base


def apart(before: Times, after: Times, allowed: Fraction) -> tuple[list[int], Fraction]:
    """The indices of times that differ by more than ``allowed``, and the most by which any do, in seconds.

    Compares as many as both have, in ticks that both time bases are multiples of.
    """
    common = math.lcm(before.time_base.denominator, after.time_base.denominator)
    one, other = int(before.time_base * common), int(after.time_base * common)
    limit = math.floor(allowed * common)
    found, largest = [], 0
    for index, (a, b) in enumerate(zip(before.ticks, after.ticks, strict=False)):
        if NO_TIME in (a, b):
            if a != b:
                found.append(index)
            continue
        distance = abs(a * one - b * other)
        largest = max(largest, distance)
        if distance > limit:
            found.append(index)
    return found, Fraction(largest, common)


def seconds(time: Fraction | None) -> str:
    """A time for people, to the microsecond."""
    return "no time" if time is None else f"{float(time):.6f}".rstrip("0").rstrip(".") + " s"
