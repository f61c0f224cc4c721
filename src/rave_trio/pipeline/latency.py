"""How long calls take, in bounded memory: a histogram whose buckets grow by a constant factor."""

from __future__ import annotations

import itertools
import math
from typing import Any

import attrs

SHORTEST = 1e-6
"""Seconds; what is shorter counts as if it took as long."""

PER_OCTAVE = 8
OCTAVES = 32
"""Up to 2^32 microseconds, 71 minutes; what takes longer falls into the last bucket."""

LARGEST_ERROR = 2 ** (1 / (2 * PER_OCTAVE)) - 1
"""Relative error of a quantile, 4.4%: a bucket's geometric middle is at most half a bucket away from what is in it."""


def upper_edge(bucket: int) -> float:
    """The seconds below which everything in that bucket and those before it took."""
    return float(SHORTEST * 2 ** ((bucket + 1) / PER_OCTAVE))


@attrs.frozen
class Latency:
    """The calls of one stage so far; times in seconds.

    ``counts[i]`` calls took less than ``upper_edge(i)``, and no less than ``upper_edge(i - 1)``.
    """

    counts: tuple[int, ...] = ()
    total: float = 0.0
    max: float = 0.0

    @property
    def calls(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """What ``share`` of the calls did not exceed, to within LARGEST_ERROR; 0 before the first call."""
        rank = max(1, math.ceil(share * self.calls))
        for bucket, so_far in enumerate(itertools.accumulate(self.counts)):
            if so_far >= rank:
                return min(self.max, upper_edge(bucket) / 2 ** (1 / (2 * PER_OCTAVE)))
        return 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of the buckets those that hold something, as upper edge and count."""
        filled = [[upper_edge(bucket), count] for bucket, count in enumerate(self.counts) if count]
        quantiles = {f"p{percent}": self.quantile(percent / 100) for percent in (50, 95, 99)}
        return {"calls": self.calls, "total": self.total, **quantiles, "max": self.max, "buckets": filled}


class Histogram:
    """The running counts behind a :class:`Latency`; one thread adds, any may look."""

    def __init__(self) -> None:
        self._counts = [0] * (PER_OCTAVE * OCTAVES)
        self._total = self._max = 0.0

    def add(self, seconds: float) -> None:
        """Count one call."""
        bucket = int(PER_OCTAVE * math.log2(seconds / SHORTEST)) if seconds > SHORTEST else 0
        self._counts[min(bucket, len(self._counts) - 1)] += 1
        self._total += seconds
        self._max = max(self._max, seconds)

    def snapshot(self) -> Latency:
        return Latency(tuple(self._counts), self._total, self._max)
