"""Numbers over time in bounded memory: when there are too many points, every two become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

POINTS = 240
"""At most, and half of it at least once there have been so many: a minute at four samples a second."""

Number = float | None
Merge = Callable[[float, int, float, int], float]
"""Makes one value of an earlier and a later one, each standing for so many samples."""


def last(_a: float, _n: int, b: float, _m: int) -> float:
    """For what only grows, such as a count."""
    return b


def mean(a: float, n: int, b: float, m: int) -> float:
    """For what goes up and down, such as the depth of a queue."""
    return (a * n + b * m) / (n + m)


def largest(a: float, _n: int, b: float, _m: int) -> float:
    """For what must not be missed, such as memory."""
    return max(a, b)


@attrs.frozen
class _Point:
    values: Mapping[str, Number]
    samples: int


class Series:
    """Columns of equal length.  For one thread; what is read is a copy."""

    def __init__(self, columns: Mapping[str, Merge]) -> None:
        self._columns = columns
        self._points: list[_Point] = []
        self._open: _Point | None = None
        """The point that is not complete yet."""
        self._stride = 1

    def add(self, values: Mapping[str, Number]) -> None:
        """One more sample; None for what is not known."""
        sample = _Point(values, 1)
        self._open = sample if self._open is None else self._merged(self._open, sample)
        if self._open.samples < self._stride:
            return
        points = [*self._points, self._open]
        self._open = None
        if len(points) == POINTS:
            pairs = zip(points[::2], points[1::2], strict=True)
            points = [self._merged(first, second) for first, second in pairs]
            self._stride *= 2
        self._points = points

    def columns(self) -> dict[str, list[Number]]:
        """Every column, oldest value first, to four places."""
        points = [*self._points, *([self._open] if self._open else [])]
        return {name: [_rounded(point.values.get(name)) for point in points] for name in self._columns}

    def _merged(self, first: _Point, second: _Point) -> _Point:
        values = {}
        for name, merge in self._columns.items():
            a, b = first.values.get(name), second.values.get(name)
            values[name] = b if a is None else a if b is None else merge(a, first.samples, b, second.samples)
        return _Point(values, first.samples + second.samples)


def _rounded(value: Number) -> Number:
    return value if value is None else round(value, 4)


def rates(totals: Sequence[Number], seconds: Sequence[Number], window: float) -> list[float]:
    """What a column that only grows gained a second, at each point over the ``window`` seconds before it."""
    points = [(now or 0.0, total or 0.0) for now, total in zip(seconds, totals, strict=True)]
    found, begin = [], 0
    for now, total in points:
        while begin + 1 < len(points) and now - points[begin + 1][0] >= window:
            begin += 1
        then, before = points[begin]
        found.append((total - before) / (now - then) if now > then else 0.0)
    return found
