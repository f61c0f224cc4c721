"""The comparison of two files as a whole, and of what belongs to no stream of theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs

from rave_trio.media.chapters import joined as joined_chapters
from rave_trio.media.compare.contents import Contents, read
from rave_trio.media.compare.measures import seconds
from rave_trio.media.compare.tracks import compare_tracks
from rave_trio.media.compare.verdict import Difference, Verdict, joined
from rave_trio.media.compare.video import compare_videos, scale_of
from rave_trio.media.probe import MediaInfo, probe

CHAPTER_TOLERANCE = Fraction(1, 1000)
"""Seconds: what most containers round chapters to."""


@attrs.frozen
class Comparison:
    """What :func:`compare` found.  A frozen value, for any thread.

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
    frame and packet, and by the texts of subtitles.

    Raises an :class:`~rave_trio.errors.InputError` if one of the files cannot be used at all, and a
    :class:`~rave_trio.errors.UsageError` if ``video_stream`` is no video; damage inside them is a difference.

    >>> import rave_trio
    >>> report = rave_trio.upscale_sync("in.mkv", "out.mkv")
    >>> found = rave_trio.compare("in.mkv", "out.mkv")
    >>> found.same, found.scale, found.frames
    (True, 2, 4)
    """
    media = probe(Path(source), video_stream=video_stream)
    verdict = Verdict(media, _counterpart(media, Path(result)))
    before, after = read(verdict.source), read(verdict.result)
    compare_videos(verdict, before.frames, after.frames)
    compare_tracks(verdict, before.tracks, after.tracks)
    _pieces(verdict, before.pieces, after.pieces)
    _timecodes(verdict)
    _chapters(verdict, before.chapters, after.chapters)
    verdict.file_tags()
    _condition(verdict, before, after)
    return Comparison(
        source=verdict.source.path,
        result=verdict.result.path,
        scale=scale_of(verdict.source.video, verdict.result.video),
        frames=len(after.frames.times),
        largest_time_error=float(verdict.largest_time_error),
        differences=tuple(verdict.differences),
        information=tuple(verdict.information),
    )


def _counterpart(source: MediaInfo, result: Path) -> MediaInfo:
    """The result with the video that stands where the source's does among its videos; its best if it has fewer."""
    found = probe(result)
    place = _videos(source).index(source.video.index)
    chosen = _videos(found)[place : place + 1]
    return probe(result, video_stream=chosen[0]) if chosen not in ([], [found.video.index]) else found


def _videos(media: MediaInfo) -> list[int]:
    return [stream.index for stream in media.streams if stream.kind == "video"]


def _pieces(verdict: Verdict, before: Iterable[tuple[str, str]], after: Iterable[tuple[str, str]]) -> None:
    """Pairs those of a name; their order says nothing."""
    gone = list((Counter(before) - Counter(after)).elements())
    come = list((Counter(after) - Counter(before)).elements())
    for what, lost in gone:
        found = next((piece for piece in come if piece[0] == what), None)
        verdict.differ(what, lost, found and found[1])
        if found is not None:
            come.remove(found)
    for what, added in come:
        verdict.differ(what, None, added)


def _timecodes(verdict: Verdict) -> None:
    before, after = _timecodes_of(verdict.source), _timecodes_of(verdict.result)
    verdict.check("timecode", before, after)
    was_track, is_track = (any(s.kind == "timecode" for s in m.streams) for m in (verdict.source, verdict.result))
    if before == after and was_track != is_track:
        verdict.inform(
            f"timecode {before} was converted from {'a track to a tag' if was_track else 'a tag to a track'}"
        )


def _timecodes_of(media: MediaInfo) -> str | None:
    """Of the file and all its streams: they repeat each other's."""
    tags = (media.tags, *(stream.tags for stream in media.streams))
    return joined({value for each in tags for key, value in each.items() if key.lower() == "timecode"})


def _chapters(verdict: Verdict, before: Sequence[Any], after: Sequence[Any]) -> None:
    if verdict.result.format.startswith("mov"):
        before = joined_chapters(before)
    if len(before) != len(after):
        verdict.differ("chapters", len(before), len(after))
        return
    for number, (old, new) in enumerate(zip(before, after, strict=True), 1):
        verdict.check(f"chapter {number} title", *(c["metadata"].get("title") or None for c in (old, new)))
        allowed = max(CHAPTER_TOLERANCE, old["time_base"], new["time_base"])
        for name in ("start", "end"):
            one, other = (chapter[name] * chapter["time_base"] for chapter in (old, new))
            if abs(one - other) > allowed:
                verdict.differ(f"chapter {number} {name}", seconds(one), seconds(other))


def _condition(verdict: Verdict, before: Contents, after: Contents) -> None:
    """What is damaged cannot be vouched for, even where both are in the same way."""
    if before.damage or after.damage:
        verdict.differ("damage", "; ".join(before.damage) or None, "; ".join(after.damage) or None)
    if before.late_streams and not after.late_streams:
        verdict.differ("streams that begin late", "there", None)
    for name, contents in (("source", before), ("result", after)):
        if contents.late_streams:
            verdict.inform(f"{name}: streams that begin late in the file are not compared")
    for what in verdict.source.video.uncarried:
        verdict.inform(f"source: {what} is not compared")
