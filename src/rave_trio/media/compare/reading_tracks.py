"""Reading the streams that are carried over as they are: what their packets hold, and when."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import attrs
import av.error
from av.bitstream import BitStreamFilterContext
from av.packet import Packet

from rave_trio.media.compare.contents import NO_TIME, Packets, Texts, Times, Track
from rave_trio.media.compare.labels import labels_of
from rave_trio.media.compare.sums import Sum

PRIMING = Fraction(1)
"""Seconds before time 0 in which packets of sound may be an encoder's priming."""

PRIMING_SLACK = Fraction(1, 1000)
"""Seconds by which rounding may make priming reach over time 0."""

TEXT_SUBTITLES = {"ass", "mov_text", "ssa", "subrip", "text", "webvtt"}

EMPTY_MOV_TEXT = 2
"""Bytes of a mov_text packet that only fills a gap: a text of length 0."""


class TrackReader:
    """Packets of one stream that is carried over."""

    def __init__(self, stream: Any, container_tags: Mapping[str, str]) -> None:
        self._stream = stream
        self._labels = labels_of(stream, container_tags)
        self._time_base = stream.time_base or Fraction(1, 1000)
        context = stream.codec_context
        self._codec = (
            context.codec.canonical_name if context is not None else getattr(stream, "name", None) or "unknown"
        )
        # libav adds to mov_text's styles whenever it writes them.
        has_own = context is not None and self._codec != "mov_text"
        self._extradata: bytes | None = context.extradata if has_own else None
        self._texts = _TextReader(self._time_base) if self._codec in TEXT_SUBTITLES else None
        self._deframe = self._codec == "aac" and not self._extradata
        self._filter: BitStreamFilterContext | None = None
        self._all, self._settled = Sum(), Sum()
        self._times, self._ends = array("q"), array("q")
        self._priming = 0
        self._dts: int | None = None
        self._disordered = 0

    def take(self, packet: Packet[Any]) -> None:
        pts = packet.dts if packet.pts is None else packet.pts
        primes = self._primes(pts, packet.duration or 0)
        if packet.is_discard and not primes:
            return
        if self._codec == "mov_text" and packet.size <= EMPTY_MOV_TEXT:
            return
        if packet.dts is not None:
            self._disordered += self._dts is not None and packet.dts < self._dts
            self._dts = packet.dts
        if self._texts is not None:
            self._texts.take(packet)
        for content in self._plain(packet):
            self._all.add(content)
            if not primes:
                self._settled.add(content)
        self._priming += primes
        self._times.append(NO_TIME if pts is None else pts)
        if self._stream.type == "subtitle":
            self._ends.append(_end(packet))

    def _primes(self, pts: int | None, duration: int) -> bool:
        """Whether the packet may be priming: sound before time 0, with nothing but the like before it."""
        if pts is None or self._stream.type != "audio" or self._priming < len(self._times):
            return False
        start, end = pts * self._time_base, (pts + duration) * self._time_base
        return start >= -PRIMING and start < 0 and end <= PRIMING_SLACK

    def _plain(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """The packet without the headers that AAC has in transport streams, and nowhere else, in every packet."""
        if not self._deframe:
            return [packet]
        try:
            if self._filter is None:
                self._filter = BitStreamFilterContext("aac_adtstoasc", self._stream)
            plain = self._filter.filter(packet)
        except av.error.FFmpegError:
            self._deframe = False
            return [packet]
        return plain

    def notes(self) -> Iterator[str]:
        if self._texts is not None and self._texts.failures:
            yield f"packets of subtitle #{self._stream.index} that cannot be decoded: {self._texts.failures}"

    def finish(self) -> Track:
        times = Times(self._times, self._time_base)
        return Track(
            index=self._stream.index,
            kind=self._stream.type or "unknown",
            codec=self._codec,
            labels=self._labels,
            extradata=Sum.of(self._extradata) if self._extradata else None,
            packets=Packets(self._all.blob(), times),
            settled=Packets(self._settled.blob(), attrs.evolve(times, ticks=self._times[self._priming :])),
            priming=self._priming,
            ends=Times(self._ends, self._time_base) if self._stream.type == "subtitle" else None,
            texts=self._texts.finish() if self._texts is not None else None,
            disordered=self._disordered,
        )


def _end(packet: Packet[Any]) -> int:
    return packet.pts + packet.duration if packet.pts is not None and packet.duration else NO_TIME


class _TextReader:
    """Texts of a subtitle stream as they are read, whatever codec writes them."""

    def __init__(self, time_base: Fraction) -> None:
        self._time_base = time_base
        self._hashes, self._starts, self._ends = array("Q"), array("q"), array("q")
        self.failures = 0

    def take(self, packet: Packet[Any]) -> None:
        try:
            found: list[Any] = packet.decode()
        except av.error.FFmpegError:
            self.failures += 1
            return
        text = "\n".join(plain_text(subtitle.ass.decode(errors="replace")) for subtitle in found)
        if not text:
            return
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        self._hashes.append(int.from_bytes(digest, "big"))
        self._starts.append(NO_TIME if packet.pts is None else packet.pts)
        self._ends.append(_end(packet))

    def finish(self) -> Texts:
        return Texts(self._hashes, Times(self._starts, self._time_base), Times(self._ends, self._time_base))


def plain_text(event: str) -> str:
    """The text of an ASS event (eight fields, then the text) without styles and comments."""
    text = re.sub(r"\{[^}]*\}", "", event.split(",", 8)[-1])
    return re.sub(r"\\[Nn]", "\n", text).replace("\\h", " ").strip()
