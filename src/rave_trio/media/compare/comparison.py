"""The comparison of two files as a whole, and of what belongs to no stream of theirs."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import attrs

from rave_trio.media.compare.contents import Attachment
from rave_trio.media.compare.picture import compare_pictures, scale_of
from rave_trio.media.compare.reading import read_contents
from rave_trio.media.compare.tracks import compare_tracks
from rave_trio.media.compare.verdict import Difference, Verdict, joined, seconds, some

CHAPTER_TOLERANCE = Fraction(1, 1000)
"""Seconds: what most containers round chapters to."""


@attrs.frozen
class Comparison:
    """What :func:`compare` found.

    ``scale`` is how many times larger the result's picture is, None if that is no integer; ``frames`` counts the
    result's.  ``largest_time_error`` is in seconds, over all streams.  ``information`` is what is worth knowing and no
    difference.
    """

    source: Path
    result: Path
    scale: int | None
    frames: int
    largest_time_error: float
    differences: tuple[Difference, ...]
    information: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing but the picture's size changed."""
        return not self.differences

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "source": str(self.source),
            "result": str(self.result),
            "same": self.same,
            "scale": self.scale,
            "frames": self.frames,
            "largest_time_error": self.largest_time_error,
            "differences": [attrs.asdict(difference) for difference in self.differences],
            "information": list(self.information),
        }


def compare(source: Path | str, result: Path | str, *, video_stream: int | None = None) -> Comparison:
    """Compare ``result`` with the ``source`` it was made from, but for the picture's size and its samples' values.

    ``video_stream`` is the index of the source's stream that was worked on; by default its best video.  Blocking, for
    as long as reading both files and decoding their video takes; any thread.  Memory grows by some bytes for every
    frame and packet.

    Raises an :class:`~rave_trio.errors.InputError` if one of the files cannot be used at all, and a
    :class:`~rave_trio.errors.UsageError` if ``video_stream`` is no video; damage inside them is a difference.
    """
    before = read_contents(Path(source), video_stream=video_stream)
    after = read_contents(Path(result), video_position=before.picture_position)
    verdict = Verdict(before, after)
    compare_pictures(verdict)
    compare_tracks(verdict)
    _covers(verdict)
    _attachments(verdict)
    _timecodes(verdict)
    _chapters(verdict)
    verdict.tags("tag", before.tags, after.tags)
    _condition(verdict)
    return Comparison(
        source=before.path,
        result=after.path,
        scale=scale_of(before.picture, after.picture),
        frames=len(after.picture.times),
        largest_time_error=float(verdict.largest_time_error),
        differences=tuple(verdict.differences),
        information=tuple(verdict.information),
    )


def _covers(verdict: Verdict) -> None:
    before, after = Counter(verdict.source.covers), Counter(verdict.result.covers)
    for lost, found in zip_longest((before - after).elements(), (after - before).elements()):
        verdict.differ("cover art", some(lost), some(found))


def _attachments(verdict: Verdict) -> None:
    """Pairs those of a name; their order says nothing."""
    before, after = Counter(verdict.source.attachments), Counter(verdict.result.attachments)
    gone, come = list((before - after).elements()), list((after - before).elements())
    for lost in gone:
        found = next((other for other in come if other.name == lost.name), None)
        if found is None:
            verdict.differ(f"attachment {lost.name}", _described(lost), None)
            continue
        come.remove(found)
        verdict.check(f"attachment {lost.name} type", lost.mimetype, found.mimetype)
        verdict.check(f"attachment {lost.name}", str(lost.content), str(found.content))
    for found in come:
        verdict.differ(f"attachment {found.name}", None, _described(found))


def _described(attachment: Attachment) -> str:
    return f"{attachment.mimetype}, {attachment.content}"


def _timecodes(verdict: Verdict) -> None:
    before, after = verdict.source, verdict.result
    verdict.check("timecode", joined(before.timecodes), joined(after.timecodes))
    if before.timecodes == after.timecodes and bool(before.timecode_tracks) != bool(after.timecode_tracks):
        how = "a track to a tag" if before.timecode_tracks else "a tag to a track"
        verdict.inform(f"timecode {joined(before.timecodes)} was converted from {how}")


def _chapters(verdict: Verdict) -> None:
    before, after = verdict.source.chapters, verdict.result.chapters
    if len(before) != len(after):
        verdict.differ("chapters", len(before), len(after))
        return
    for number, (old, new) in enumerate(zip(before, after, strict=True), 1):
        verdict.check(f"chapter {number} title", old.title, new.title)
        allowed = max(CHAPTER_TOLERANCE, old.tick, new.tick)
        for name, one, other in (("start", old.start, new.start), ("end", old.end, new.end)):
            if abs(one - other) > allowed:
                verdict.differ(f"chapter {number} {name}", seconds(one), seconds(other))


def _condition(verdict: Verdict) -> None:
    """What is damaged cannot be vouched for, even where both are in the same way."""
    before, after = verdict.source, verdict.result
    if before.damage or after.damage:
        verdict.differ("damage", "; ".join(before.damage) or None, "; ".join(after.damage) or None)
    for name, contents in (("source", before), ("result", after)):
        for note in contents.notes:
            verdict.inform(f"{name}: {note}")
