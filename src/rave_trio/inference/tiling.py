"""Cutting a picture into overlapping tiles that a model of limited size can take, and putting the results together.

Each tile is as large as the model wants and lies inside the picture wherever the picture is large enough, so a true
edge of the picture is always also the edge of a tile, and the model's own edge handling meets it as it would
untiled.  Of each tile only what lies at least ``overlap`` away from the cuts is kept.  Tiles start at multiples of the
model's ``period``; with one above 1 the last ones reach past the edge, just as a whole picture is then enlarged to such
a multiple.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs


@attrs.frozen
class Span:
    """One tile along one axis, in input pixels: it reads [start, start + size) and its result counts in [keep, end)."""

    start: int
    keep: int
    end: int


@attrs.frozen
class Tile:
    """One tile of a picture: a span of rows and a span of columns."""

    rows: Span
    columns: Span


def spans(length: int, size: int, overlap: int, period: int = 1) -> tuple[Span, ...]:
    """Cover ``length`` with tiles of ``size`` that share at least ``2 * overlap``; one span if it fits.

    The kept intervals are disjoint and cover the length; the last tile reaches less than ``period`` past it.  Raises
    ValueError if the overlap leaves nothing to keep.
    """
    if length <= size:
        return (Span(0, 0, length),)
    step = (size - 2 * overlap) // period
    if step <= 0:
        raise ValueError(f"a tile of {size} is too small for an overlap of {overlap} on each side")
    last = -(-(length - size) // period)
    count = -(-last // step) + 1
    starts = [i * last // (count - 1) * period for i in range(count)]
    cuts = [0, *((a + size + b) // 2 for a, b in itertools.pairwise(starts)), length]
    return tuple(Span(start, keep, end) for start, keep, end in zip(starts, cuts, cuts[1:], strict=False))


def tiles(height: int, width: int, tile_height: int, tile_width: int, overlap: int, period: int = 1) -> Iterator[Tile]:
    """All tiles of a picture, row by row."""
    columns = spans(width, tile_width, overlap, period)
    for row in spans(height, tile_height, overlap, period):
        for column in columns:
            yield Tile(row, column)
