"""Chapters, as each container can hold them.

MP4 and MOV have no ends and no gaps, and their first chapter starts at 0: whoever reads them takes a chapter to last
until the next, and libav gives one without a title the title of the next.  So untitled ones are written with an empty
title, which libav reads and writes well, and stand in for what is between others.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

from rave_trio.media._libav import fraction
from rave_trio.media.containers import Container

if TYPE_CHECKING:
    from av.container.core import Chapter

SLACK = Fraction(1, 1000)
"""Seconds that two chapters may be apart or overlap without a word: what most containers round chapters to."""


def for_container(chapters: Sequence[Chapter], container: Container) -> list[Chapter]:
    """The chapters to write so that ``container`` gives back as much of them as it can hold."""
    return joined(chapters) if _has_no_gaps(container) else list(chapters)


def notes(chapters: Sequence[Chapter], container: Container) -> list[str]:
    """What ``container`` cannot hold of the chapters, in words."""
    if not chapters or not _has_no_gaps(container):
        return []
    said = []
    if len(joined(chapters)) > len(chapters):
        said.append(
            f"{container.extension} cannot hold times without a chapter: there are untitled ones in their place"
        )
    ordered = sorted(chapters, key=_start)
    if any(_end(now) > _start(then) + SLACK for now, then in pairwise(ordered)):
        said.append(f"{container.extension} cannot hold chapters that overlap: each ends where the next begins")
    return said


def joined(chapters: Sequence[Chapter]) -> list[Chapter]:
    """The chapters in the order of their starts, each until the next, from 0 on, with untitled ones in the gaps."""
    made: list[Chapter] = []
    end = Fraction(0)
    for chapter in sorted(chapters, key=_start):
        base = _base(chapter)
        if _start(chapter) > end + SLACK:
            made.append({**chapter, "start": round(end / base), "end": chapter["start"], "metadata": {"title": ""}})
        elif made:
            made[-1]["end"] = round(_start(chapter) / _base(made[-1]))
        made.append({**chapter, "metadata": {"title": "", **chapter["metadata"]}})
        end = _end(chapter)
    return [{**chapter, "id": number} for number, chapter in enumerate(made, 1)]


def _has_no_gaps(container: Container) -> bool:
    return container.muxer in ("mp4", "mov")


def _base(chapter: Chapter) -> Fraction:
    return fraction(chapter["time_base"]) or Fraction(1)


def _start(chapter: Chapter) -> Fraction:
    return chapter["start"] * _base(chapter)


def _end(chapter: Chapter) -> Fraction:
    return chapter["end"] * _base(chapter)
