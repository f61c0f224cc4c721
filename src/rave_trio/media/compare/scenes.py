"""What a viewer of text subtitles sees from moment to moment, whatever packets it comes in."""

from __future__ import annotations

from collections import Counter, defaultdict
from fractions import Fraction
from itertools import pairwise

from rave_trio.media.compare.measures import Times
from rave_trio.media.subtitles import LAST_CUE

Scene = tuple[Fraction, frozenset[str]]
"""A moment in seconds, and the lines that are to be seen from it on."""


def lines_of(text: str) -> list[str]:
    """The lines that are not blank, without the spaces that make no difference."""
    return [line for line in (" ".join(line.split()) for line in text.splitlines()) if line]


def scenes(texts: list[str], starts: Times, ends: Times) -> list[Scene]:
    """The moments at which something changes.  A text without an end is there until the next, the last for a while."""
    changes: dict[Fraction, Counter[str]] = defaultdict(Counter)
    known = [start for start in (starts[index] for index in range(len(starts))) if start is not None]
    following = dict(pairwise(sorted(set(known))))
    for index, text in enumerate(texts):
        start, end = starts[index], ends[index]
        if start is None:
            continue
        changes[start].update(lines_of(text))
        changes[following.get(start, start + LAST_CUE) if end is None else end].subtract(lines_of(text))
    found: list[Scene] = [(Fraction(0), frozenset())]
    seen: Counter[str] = Counter()
    for moment in sorted(changes):
        seen.update(changes[moment])
        seen = Counter({line: count for line, count in seen.items() if count})
        if seen.keys() != found[-1][1]:
            found.append((moment, frozenset(seen)))
    return found[1:]


def apart(before: list[Scene], after: list[Scene], allowed: Fraction) -> Fraction | None:
    """By how many seconds the moments differ at most; None if by more than ``allowed``, or if other things are seen.

    What is shorter than ``allowed`` may be there or not: rounded, a text may end just before or after the next begins.
    """
    old, new = _without_flashes(before, allowed), _without_flashes(after, allowed)
    if [lines for _, lines in old] != [lines for _, lines in new]:
        return None
    largest = max((abs(one - other) for (one, _), (other, _) in zip(old, new, strict=True)), default=Fraction(0))
    return largest if largest <= allowed else None


def _without_flashes(found: list[Scene], allowed: Fraction) -> list[Scene]:
    kept: list[Scene] = []
    for (start, lines), following in zip(found, [*found[1:], None], strict=True):
        lasts = following is None or following[0] - start > allowed
        if lasts and lines != (kept[-1][1] if kept else frozenset()):
            kept.append((start, lines))
    return kept
