"""What a sweep varies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

from rave_trio.errors import UsageError
from rave_trio.tuning import BATCHES, STREAMS

Value = int | None
"""None is ``auto``: for tiles, whole frames where memory allows."""

USUAL: Mapping[str, tuple[Value, ...]] = {
    "batch": BATCHES,
    "streams": STREAMS,
    "depth": (1, 4, 8),
    "tile": (None, 512),
}
"""What is tried where no values are given: ``depth`` is how many frames may wait between two stages."""

MOST_POINTS = 64

Axes = dict[str, tuple[Value, ...]]


def read_axes(text: str) -> Axes:
    """Axes from text such as ``batch,streams`` or ``batch=1,2,4,tile=auto,256``.  Raises UsageError."""
    axes: dict[str, list[Value]] = {}
    name: str | None = None
    for piece in (piece.strip() for piece in text.split(",")):
        head, equals, rest = piece.partition("=")
        if head in USUAL:
            if head in axes:
                raise UsageError(f"--sweep has {head} twice", remedy="give all its values once")
            axes[head] = [_value(head, rest)] if equals else []
            name = head if equals else None
        elif name is not None and not equals:
            axes[name].append(_value(name, piece))
        else:
            raise UsageError(
                f"--sweep cannot vary {piece!r}",
                remedy=f"name {', '.join(USUAL)}, with values of your own as in --sweep batch=1,2,4,streams",
            )
    found = {axis: tuple(dict.fromkeys(values)) or USUAL[axis] for axis, values in axes.items()}
    points = math.prod(len(values) for values in found.values())
    if points > MOST_POINTS:
        raise UsageError(
            f"that would be {points} combinations, more than {MOST_POINTS}",
            remedy="vary fewer settings at a time, or give fewer values",
        )
    return found


def combinations(axes: Axes) -> Iterator[dict[str, Value]]:
    """Each combination, the last axis varying fastest."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _value(axis: str, text: str) -> Value:
    if axis == "tile" and text == "auto":
        return None
    if text.isascii() and text.isdigit() and 0 < int(text) < 10**6:
        return int(text)
    raise UsageError(f"--sweep: {axis} cannot be {text!r}", remedy="give whole numbers from 1; for tile also auto")
