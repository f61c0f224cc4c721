"""The other streams: each with its copy, packet by packet, or text by text where its codec changed."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av.error
from av.packet import Packet

from rave_trio.media.compare.framing import length_size, unframing
from rave_trio.media.compare.measures import Sum, Times, seconds, sum_of
from rave_trio.media.compare.scenes import Scene, lines_of, scenes
from rave_trio.media.compare.scenes import apart as scenes_apart
from rave_trio.media.compare.verdict import Verdict
from rave_trio.media.probe import StreamInfo
from rave_trio.media.subtitles import CODES, CONVERSIONS, DRAWING, ESCAPED_BRACE, TEXT_FIELD, without_blank_lines

PRIMING = Fraction(1)
"""Seconds before time 0 in which packets of sound may be an encoder's priming."""

PRIMING_SLACK = Fraction(1, 1000)
"""Seconds by which rounding may make priming reach over time 0."""

TEXT_SUBTITLES = {"mov_text", *CONVERSIONS["mp4"]}

MPEG_AUDIO = ("mp1", "mp2", "mp3")
"""Codecs that some containers do not tell apart: every packet says itself which it is."""

LOOSENESS = 2
"""A factor on the tolerance of times: Matroska's muxer rounds once more where it takes off the codec's delay, and an
end is a sum of two rounded values."""

ENDS_INSIDE = ("dvd_subtitle",)
"""Codecs whose packets say themselves when they end."""


class Track:
    """A stream that is carried over, gathered packet by packet.

    Left out are packets that an edit list hides and those that fill the gaps between MP4's texts.  ``priming`` counts
    the first ones that end before time 0; ``settled`` are those after them.  ``ends`` are kept of subtitles, ``texts``
    of text subtitles, without styles.  ``starts`` are the packets' places among all bytes.  ``disordered`` says whether
    decode times go back.
    """

    def __init__(self, stream: Any, info: StreamInfo) -> None:
        self.info = info
        # libav adds to mov_text's styles whenever it writes them.
        context = None if info.codec in ("mov_text", *MPEG_AUDIO) else stream.codec_context
        self.extradata: bytes | None = None if context is None else context.extradata
        self.content, self.settled = Sum(), Sum()
        self.times, self.ends = (Times(info.time_base or Fraction(1, 1000)) for _ in range(2))
        self.texts: list[str] | None = [] if info.codec in TEXT_SUBTITLES else None
        self.starts = array("q")
        self.priming = 0
        self.disordered = False
        self._stream = stream
        self._dts: int | None = None
        self._unframed = unframing(stream, info.codec)

    def __str__(self) -> str:
        return f"{self.info.kind} #{self.info.index}"

    @property
    def is_plain(self) -> bool:
        """Whether this is sound that may be cut into packets anywhere."""
        return self.info.codec.startswith("pcm_")

    @property
    def has_lengths(self) -> bool:
        """Whether the units of this video stand behind their lengths; else they stand behind start codes."""
        return length_size(self.info.codec, self.extradata) is not None

    @property
    def lines(self) -> set[str]:
        """All lines of the texts."""
        return {line for text in self.texts or () for line in lines_of(text)}

    @property
    def scenes(self) -> list[Scene]:
        """What a viewer of the texts sees when."""
        return scenes(self.texts or [], self.times, self.ends)

    @property
    def described(self) -> str:
        return " ".join(filter(None, (self.info.codec, self.info.language, self.info.title)))

    def take(self, packet: Packet[Any]) -> None:
        pts = packet.dts if packet.pts is None else packet.pts
        primes = self._primes(pts, packet.duration or 0)
        if packet.is_discard and not primes:
            return
        if self.texts is not None:
            text = self._text(packet)
            if not text and self.info.codec == "mov_text":
                return
            self.texts.append(text)
        if packet.dts is not None:
            self.disordered |= self._dts is not None and packet.dts < self._dts
            self._dts = packet.dts
        self.starts.append(self.content.size)
        for content in self._unframed(packet):
            self.content.add(content)
            if not primes:
                self.settled.add(content)
        self.priming += primes
        self.times.add(pts)
        if self.info.kind == "subtitle":
            self.ends.add(packet.pts + packet.duration if packet.pts is not None and packet.duration else None)

    def _primes(self, pts: int | None, duration: int) -> bool:
        """Whether the packet may be priming: sound before time 0, with nothing but the like before it."""
        if pts is None or self.info.kind != "audio" or self.is_plain or self.priming < len(self.times):
            return False
        start, end = pts * self.times.time_base, (pts + duration) * self.times.time_base
        return -PRIMING <= start < 0 and end <= PRIMING_SLACK

    def _text(self, packet: Packet[Any]) -> str:
        try:
            events = self._stream.decode(without_blank_lines(packet) if self.info.codec == "subrip" else packet)
        except av.error.FFmpegError:
            return "(damaged)"
        return "\n".join(filter(None, (plain_text(event.ass.decode(errors="replace")) for event in events)))


def plain_text(event: str) -> str:
    """The text of an ASS event (eight fields, then the text) without styles, comments and drawings."""
    text, drawing = "", False
    for found in CODES.split(event.split(",", TEXT_FIELD)[-1]):
        if found == ESCAPED_BRACE:
            text += "{"
        elif found.startswith("{"):
            for depth in DRAWING.findall(found):
                drawing = depth != "0"
        elif not drawing:
            text += found
    return re.sub(r"\\[Nn]", "\n", text).replace("\\h", " ").strip()


def compare_tracks(verdict: Verdict, source: Sequence[Track], result: Sequence[Track]) -> None:
    """Compare the streams that are to be carried over as they are, and their order."""
    copies = _copies(source, result)
    for before in source:
        if before in copies:
            _compare(verdict, before, copies[before])
        else:
            verdict.differ(str(before), before.described, None)
    for after in result:
        if after not in copies.values():
            verdict.differ(f"{after} of the result", None, after.described)
    in_source = [before for before in source if before in copies]
    in_result = sorted(in_source, key=lambda before: copies[before].info.index)
    verdict.check("order of the streams", ", ".join(map(str, in_source)), ", ".join(map(str, in_result)))


def _copies(source: Sequence[Track], result: Sequence[Track]) -> dict[Track, Track]:
    """The source's tracks with their copies, found by content and labels, by content, or by order."""
    left = list(result)
    found: dict[Track, Track] = {}
    for fits in (_alike_and_labelled, _alike, _of_a_kind):
        for track in source:
            copy = None if track in found else next((other for other in left if fits(track, other)), None)
            if copy is not None:
                found[track] = copy
                left.remove(copy)
    return found


def _alike_and_labelled(one: Track, other: Track) -> bool:
    same_name = (one.info.language, one.info.title) == (other.info.language, other.info.title)
    return same_name and _alike(one, other)


def _alike(one: Track, other: Track) -> bool:
    if one.info.codec != other.info.codec and one.texts is not None:
        return one.lines == other.lines
    return _of_a_kind(one, other) and one.settled.words == other.settled.words


def _of_a_kind(one: Track, other: Track) -> bool:
    return one.info.kind == other.info.kind


def _compare(verdict: Verdict, before: Track, after: Track) -> None:
    what = str(before)
    verdict.labels(what, before.info, after.info)
    unit = "packet"
    if before.info.codec != after.info.codec and not _indistinct(before, after):
        if before.texts is None or after.texts is None:
            verdict.differ(f"{what} codec", before.info.codec, after.info.codec)
            return
        verdict.inform(f"{what} was converted from {before.info.codec} to {after.info.codec}")
        largest = scenes_apart(before.scenes, after.scenes, LOOSENESS * verdict.tolerance(before.times, after.times))
        if largest is not None:
            verdict.largest_time_error = max(verdict.largest_time_error, largest)
            return
        unit = "text"
    elif before.extradata is not None and before.has_lengths == after.has_lengths:
        verdict.check(f"{what} extradata", sum_of(before.extradata), sum_of(after.extradata or b""))
    old, new = before.times, after.times
    if before.is_plain and before.content.words == after.content.words:
        old, new = _where_both_begin(before, after)
    elif len(old) != len(new) and before.settled.words == after.settled.words:
        verdict.inform(f"{what} packets of priming before time 0: {before.priming} became {after.priming}")
        old, new = old.since(before.priming), new.since(after.priming)
    elif len(old) != len(new):
        verdict.differ(f"{what} {unit}s", len(old), len(new))
        return
    elif unit == "packet":
        verdict.check(f"{what} payload", before.content.words, after.content.words)
    else:
        _texts(verdict, what, before, after)
    if before.disordered and old != new:
        verdict.inform(f"{what} times are not compared, as the source's go back")
        return
    verdict.times(f"{what} times", old, new, unit, looseness=LOOSENESS)
    if before.info.kind == "subtitle" and before.info.codec not in ENDS_INSIDE:
        stated = after.ends.where_stated(before.ends)  # where the source leaves one open, any will do
        verdict.times(f"{what} ends", before.ends, stated, unit, looseness=LOOSENESS)


def _indistinct(before: Track, after: Track) -> bool:
    """Whether the codecs' names differ for the same bytes, of which some containers do not say more."""
    mpeg = {before.info.codec, after.info.codec} <= set(MPEG_AUDIO)
    return mpeg and before.settled.words == after.settled.words


def _where_both_begin(before: Track, after: Track) -> tuple[Times, Times]:
    """The times of the packets that begin at the same byte in either."""
    both = set(before.starts) & set(after.starts)
    old, new = (
        [tick for start, tick in zip(track.starts, track.times.ticks, strict=True) if start in both]
        for track in (before, after)
    )
    return Times(before.times.time_base, array("q", old)), Times(after.times.time_base, array("q", new))


def _texts(verdict: Verdict, what: str, before: Track, after: Track) -> None:
    pairs = zip(before.texts or (), after.texts or (), strict=True)
    changed = [(index, *pair) for index, pair in enumerate(pairs) if pair[0] != pair[1]]
    if changed:
        index, old, new = changed[0]
        verdict.differ(
            f"{what} texts",
            f"{old!r} at {seconds(before.times[index])}",
            f"{new!r}, the first of {len(changed)} that differ",
        )
