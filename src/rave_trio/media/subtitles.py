"""Text subtitles from one container's codec to another's: decoded and encoded again by libav, cue by cue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import attrs
import av
import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

from rave_trio import errors
from rave_trio.media._libav import fraction, reason

_TO_MOV_TEXT = dict.fromkeys(("subrip", "srt", "ass", "ssa", "text", "webvtt"), "mov_text")

CONVERSIONS = {
    "matroska": {"mov_text": "subrip"},
    "mp4": _TO_MOV_TEXT,
    "mov": _TO_MOV_TEXT,
    "webm": dict.fromkeys(("mov_text", "subrip", "srt"), "webvtt"),
}
"""By libav muxer: the text codecs it does not take, and what each becomes."""

LOSSES = {
    ("ass", "mov_text"): "positions, fonts and effects",
    ("ssa", "mov_text"): "positions, fonts and effects",
    ("webvtt", "mov_text"): "positions and names of speakers",
    ("mov_text", "webvtt"): "fonts and colours",
    ("subrip", "webvtt"): "positions and colours",
    ("srt", "webvtt"): "positions and colours",
}

MOV_TEXT_TIME_BASE = Fraction(1, 90000)
"""Exact for milliseconds, and as fine as the times of most streams: libav's mp4 muxer compares the end of a text with
the other streams' times as bare numbers.  In a finer one, long pauses would not fit that muxer's 31 bits."""

LAST_CUE = Fraction(5)
"""Seconds for which a last text of unknown duration is shown: enough to read two lines."""

LATENESS = Fraction(2)
"""Seconds by which a subtitle may stand in the file behind the other streams' packets of its time."""

ESCAPED_BRACE = r"\{{}"
"""An opening brace as libav's decoders escape it."""

CODES = re.compile(r"(\\\{\{\}|\{[^{}]*\})")
"""An escaped brace, or what stands in braces: override codes or, in ASS, a comment."""

DRAWING = re.compile(r"\\p(\d+)")
"""The override code that begins a vector drawing, or with 0 ends it."""

TEXT_FIELD, STYLE_FIELD = 8, 2
"""In libav's events: ReadOrder, Layer, Style, Name, MarginL, MarginR, MarginV, Effect, Text."""

EMPHASIS_FIELDS = slice(7, 10)
"""Bold, Italic and Underline in the Style lines of libav's own ASS headers."""


def converted_codec(codec: str, muxer: str) -> str | None:
    """What a text subtitle ``codec`` must become to go into the libav ``muxer``; None if not known or not needed."""
    return CONVERSIONS.get(muxer, {}).get(codec)


def lossy(codec: str, target: str) -> str | None:
    """What a viewer loses when ``codec`` becomes ``target``, in one phrase; None if that is nothing worth a word."""
    return LOSSES.get((codec, target))


class SubtitleConverter:
    """One text subtitle stream on its way into ``out``, to a ``codec`` that :func:`converted_codec` names.

    Construction adds the stream to ``out`` as :attr:`stream`; language, title and disposition are the caller's.  Kept
    are the texts, their line breaks, bold, italics and underlining, and the start and end of each.  Packets come out in
    the source's time base.  What shows no text is dropped: the gap fillers of MP4, vector drawings.

    MP4 and MOV show one text at a time, until the next begins.  Texts that overlap are therefore cut where one begins
    or ends, and each piece shows all texts of its time as lines, the earliest first; a text that is there twice, as in
    layered effects, is shown once.  So a text may come out later than it went in: call :meth:`advance` as the other
    streams go on, and :meth:`finish` at the end.  A text without a duration is shown until the next one, the last for
    five seconds.  One that begins before what has come out already, in a file out of order, begins behind that.

    ``height`` is the picture's, in lines; MP4's and MOV's font sizes are scaled to it.  Not thread-safe.
    """

    def __init__(
        self, source_stream: SubtitleStream, out: OutputContainer, codec: str, *, height: int | None = None
    ) -> None:
        self._decoder = source_stream.codec_context
        self._source_codec = self._decoder.codec.canonical_name
        self._where = f"subtitle stream #{source_stream.index}"
        self._time_base = fraction(source_stream.time_base) or Fraction(1, 1000)
        self._timeline = _Timeline(round(LAST_CUE / self._time_base)) if codec == "mov_text" else None
        self._markup = codec == "webvtt"
        self._decoder.open(strict=False)
        stream = out.add_stream(codec, options={"height": str(height)} if height and codec == "mov_text" else {})
        assert isinstance(stream, SubtitleStream)
        self.stream: SubtitleStream = stream
        self._encoder = stream.codec_context
        self._encoder.subtitle_header = _header(self._decoder)
        stream.time_base = self._time_base if self._timeline is None else MOV_TEXT_TIME_BASE

    def convert(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """What can be written after one packet of the source stream; nothing for flush packets.

        Raises DecodeError for a damaged packet, EncodeError for a text that is too long; the next packet may follow.
        """
        if packet.pts is None:
            return []
        events = self._decode(packet)
        if not events:
            return []
        if self._timeline is not None:
            return self._encode_pieces(self._timeline.add(packet.pts, packet.duration or 0, events))
        made = self._encode(events)
        made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
        return [made]

    def advance(self, time: Fraction) -> list[Packet[Any]]:
        """What can be written now that the input was read up to ``time``, in seconds."""
        if self._timeline is None:
            return []
        return self._encode_pieces(self._timeline.until(int((time - LATENESS) / self._time_base)))

    def finish(self) -> list[Packet[Any]]:
        """What is left after the last packet."""
        return [] if self._timeline is None else self._encode_pieces(self._timeline.finish())

    def _decode(self, packet: Packet[Any]) -> tuple[_Event, ...]:
        try:
            found = self._decoder.decode2(without_blank_lines(packet) if self._source_codec == "subrip" else packet)
        except av.error.FFmpegError as error:
            at = float((packet.pts or 0) * self._time_base)
            raise errors.DecodeError(
                f"{self._where} at {at:.2f} s: a text cannot be decoded: {reason(error)}"
            ) from error
        rects = [rect for rect in found or () if isinstance(rect, AssSubtitle)]
        events = [_event(rect.ass, self._source_codec, self._markup) for rect in rects]
        return tuple(event for event in events if event.visible)

    def _encode(self, events: tuple[_Event, ...]) -> Packet[Any]:
        """One packet with the texts of all ``events`` as lines, each in its own style."""
        text = events[0].text + "".join(rf"\N{{\r{event.style}}}{event.text}" for event in events[1:])
        line = f"0,0,{events[0].style},,0,0,0,,{text}"
        try:
            packet = self._encoder.encode_subtitle(SubtitleSet.create(line.encode(), 0, 0))
        except av.error.FFmpegError as error:
            raise errors.EncodeError(f"{self._where}: a text cannot be converted: {reason(error)}") from error
        packet.stream, packet.time_base = self.stream, self._time_base
        return packet

    def _encode_pieces(self, pieces: Iterator[_Piece]) -> list[Packet[Any]]:
        packets = []
        for piece in pieces:
            packet = self._encode(piece.events)
            packet.pts = packet.dts = piece.start
            packet.duration = piece.end - piece.start
            packets.append(packet)
        return packets


@attrs.frozen
class _Event:
    """A text with ASS override codes, the name of its style, and what a viewer reads."""

    style: str
    text: str
    visible: str


def _event(ass: bytes, codec: str, markup: bool) -> _Event:
    """The event without what libav's encoders would write out as text: comments, drawings, hard spaces, escapes.

    ``markup``: the target gives a meaning to angle brackets and ampersands, and its encoder does not escape them.
    """
    fields = ass.decode(errors="replace").split(",", TEXT_FIELD)
    if len(fields) <= TEXT_FIELD:
        raise errors.DecodeError(f"a text event has {len(fields)} of {TEXT_FIELD + 1} fields")
    text, visible, drawing = "", "", False
    for found in CODES.split(fields[TEXT_FIELD]):
        if found.startswith("{\\") or (found.startswith("{") and codec == "ass"):
            for depth in DRAWING.findall(found):
                drawing = depth != "0"
            text += "{" + found[found.index("\\") :] if "\\" in found else ""
        elif not drawing:
            shown = found.replace(ESCAPED_BRACE, "{").replace(r"\h", "\N{NO-BREAK SPACE}")
            if markup:
                shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            text += shown
            visible += shown
    return _Event(fields[STYLE_FIELD], text, re.sub(r"\\[Nn]|\s", "", visible))


def _header(decoder: SubtitleCodecContext) -> bytes | None:
    """The ASS header with the styles that the decoder's events name.

    The default style of an MP4 says in what font its author's program likes to write, which players ignore.  Of it
    only the emphasis is kept, or the encoder would repeat the font in every text.
    """
    header = decoder.subtitle_header
    if header and decoder.codec.canonical_name != "mov_text":
        return header
    plain = av.CodecContext.create("subrip", "r")
    assert isinstance(plain, SubtitleCodecContext)
    plain.open(strict=False)
    default = plain.subtitle_header
    if not default or not header:
        return default
    style, own = _default_style(default), _default_style(header)
    fields = style.split(b",")
    fields[EMPHASIS_FIELDS] = own.split(b",")[EMPHASIS_FIELDS]
    return default.replace(style, b",".join(fields))


def _default_style(header: bytes) -> bytes:
    return next(line for line in header.splitlines() if line.startswith(b"Style:"))


def without_blank_lines(packet: Packet[Any]) -> Packet[Any]:
    """The packet as it is, or with its line breaks in a form that lets libav read on behind a blank line."""
    text = bytes(packet).replace(b"\r\n", b"\n").strip(b"\n")
    if b"\n\n" not in text:
        return packet
    return Packet(text.replace(b"\n", b"<br>"))


@attrs.frozen
class _Piece:
    """What is to be seen from ``start`` until ``end``."""

    start: int
    end: int
    events: tuple[_Event, ...]


@attrs.define
class _Cue:
    start: int
    end: int | None
    events: tuple[_Event, ...]


class _Timeline:
    """Cues that may overlap, cut into pieces that do not.  Times are in the source's time base."""

    def __init__(self, last: int) -> None:
        self._last = last
        self._shown: list[_Cue] = []
        self._now: int | None = None

    def add(self, start: int, duration: int, events: tuple[_Event, ...]) -> Iterator[_Piece]:
        """Take the next cue (no ``duration``: until another follows) and give the pieces that end before it."""
        if self._now is not None:
            start, duration = self._behind(start, duration, self._now)
        for cue in self._shown:
            if cue.end is None and cue.start < start:
                cue.end = start
        yield from self.until(start)
        if self._shown and self._now is not None and self._now < start:
            yield self._piece(start)
        self._now = start
        self._shown.append(_Cue(start, start + duration if duration else None, events))

    def until(self, time: int) -> Iterator[_Piece]:
        """The pieces that end by ``time``."""
        while True:
            ends = [cue.end for cue in self._shown if cue.end is not None]
            if not ends or min(ends) > time:
                return
            yield self._piece(min(ends))
            self._shown = [cue for cue in self._shown if cue.end is None or cue.end > min(ends)]

    def finish(self) -> Iterator[_Piece]:
        """All pieces that are left."""
        for cue in self._shown:
            if cue.end is None:
                cue.end = cue.start + self._last
        ends = [cue.end for cue in self._shown if cue.end is not None]
        return self.until(max(ends, default=0))

    @staticmethod
    def _behind(start: int, duration: int, now: int) -> tuple[int, int]:
        if start >= now or not duration:
            return max(start, now), duration
        end = start + duration
        return now, end - now if end > now else duration

    def _piece(self, end: int) -> _Piece:
        assert self._now is not None
        events = {event.visible: event for cue in self._shown for event in cue.events}
        piece = _Piece(self._now, end, tuple(events.values()))
        self._now = end
        return piece
