"""Plots as SVG text, drawn with the page's own colours: lines over time, shares as stacked bars, histograms.

Each has a title and a description for those who do not see it.  Sizes are in units of the view box, which the page
shows at about a pixel each, on a phone as on a desk.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 380, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 34

Value = float | None
Label = Callable[[float], str]

_numbers = itertools.count(1)


def lines(
    title: str, told: str, x: Sequence[float], ys: Mapping[str, Sequence[Value]], label: Label, x_label: Label
) -> str:
    """Lines over a common axis; ``label`` and ``x_label`` write a value for people.  None leaves a gap."""
    top = _ceiling(max((y for line in ys.values() for y in line if y is not None), default=0.0))
    right = max(x, default=0.0) or 1.0
    drawn = [_grid(top, right, label, x_label)]
    for number, line in enumerate(ys.values(), 1):
        points = (
            None if y is None else f"{_across(at / right):.1f},{_up(y / top):.1f}"
            for at, y in zip(x, line, strict=True)
        )
        drawn += [f'<polyline class="line c{number}" points="{" ".join(piece)}"/>' for piece in _pieces(points)]
    return _svg(title, told, HEIGHT, drawn)


def shares(title: str, told: str, bars: Mapping[str, Sequence[float]]) -> str:
    """One bar a row; ``bars`` are shares of one, from left to right in the colours of the legend."""
    row = 40
    drawn = []
    for at, (name, parts) in enumerate(bars.items()):
        y, x = TOP + at * row, 0.0
        drawn.append(f'<text x="0" y="{y + 11}">{escape(name)}</text>')
        drawn.append(f'<rect class="rest" x="0" y="{y + 16}" width="{WIDTH}" height="14"/>')
        for number, share in enumerate(parts, 1):
            drawn.append(
                f'<rect class="c{number}" x="{x:.1f}" y="{y + 16}" width="{max(0.0, share) * WIDTH:.1f}" height="14"/>'
            )
            x += max(0.0, share) * WIDTH
        words = " / ".join(f"{100 * share:.0f}%" for share in parts)
        drawn.append(f'<text class="right" x="{WIDTH}" y="{y + 11}">{words}</text>')
    return _svg(title, told, TOP + row * len(bars), drawn)


def histograms(title: str, told: str, rows: Mapping[str, Sequence[tuple[float, int]]], label: Label) -> str:
    """A row of bars for each name over one logarithmic axis; values, and how often each was met."""
    values = [value for row in rows.values() for value, _ in row]
    low = math.floor(math.log10(min(values, default=1e-3)))
    high = max(low + 1, math.ceil(math.log10(max(values, default=1.0))))
    height = 46
    bottom = TOP + height * len(rows)
    drawn = []
    for power in range(low, high + 1):
        x = _across((power - low) / (high - low), left=0)
        anchor = "" if power == low else ' class="right"' if power == high else ' class="middle"'
        drawn.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        drawn.append(f'<text{anchor} x="{x:.1f}" y="{bottom + 16}">{escape(label(10.0**power))}</text>')
    for at, (name, row) in enumerate(rows.items()):
        base = TOP + height * (at + 1)
        most = max((count for _, count in row), default=1)
        drawn.append(f'<path class="grid" d="M0 {base}H{WIDTH - RIGHT}"/>')
        for value, count in row:
            x = _across((math.log10(value) - low) / (high - low), left=0)
            tall = max(1.0, (height - 18) * count / most)
            drawn.append(f'<rect class="c1" x="{x - 2:.1f}" y="{base - tall:.1f}" width="4" height="{tall:.1f}"/>')
        drawn.append(f'<text class="over" x="0" y="{base - height + 14}">{escape(name)}</text>')
    return _svg(title, told, bottom + 24, drawn)


def _svg(title: str, told: str, height: float, drawn: Sequence[str]) -> str:
    number = next(_numbers)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="t{number} d{number}">'
        f'<title id="t{number}">{escape(title)}</title><desc id="d{number}">{escape(told)}</desc>{"".join(drawn)}</svg>'
    )


def _grid(top: float, right: float, label: Label, x_label: Label) -> str:
    parts = []
    for step in range(5):
        y = _up(step / 4)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="right" x="{LEFT - 6}" y="{y + 4:.1f}">{escape(label(top * step / 4))}</text>')
    for step, anchor in enumerate(("", ' class="middle"', ' class="right"')):
        x = _across(step / 2)
        parts.append(f'<text{anchor} x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}">{escape(x_label(right * step / 2))}</text>')
    return "".join(parts)


def _pieces(points: Iterator[str | None]) -> Iterator[list[str]]:
    for missing, piece in itertools.groupby(points, key=lambda point: point is None):
        if not missing:
            yield [point for point in piece if point is not None]


def _across(share: float, left: float = LEFT) -> float:
    return left + share * (WIDTH - left - RIGHT)


def _up(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _ceiling(value: float) -> float:
    """A round number a little above: four steps to it are round, too."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(unit * step for step in (1, 2, 4, 8, 10) if unit * step >= value * 0.9999)
