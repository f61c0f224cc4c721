"""Packets without what their container puts around the same bits: start codes, lengths, headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import av.error
from av.bitstream import BitStreamFilterContext
from av.packet import Packet

START_CODE = re.compile(rb"\x00\x00\x01")

LENGTH_SIZE_AT = {"h264": 4, "hevc": 21}
"""By codec whose packets are units behind start codes or behind their lengths: the place in the header of the latter
that says how many bytes a length has."""


def length_size(codec: str, extradata: bytes | None) -> int | None:
    """The size of the lengths in front of the packets' units; None if they stand behind start codes."""
    place = LENGTH_SIZE_AT.get(codec)
    if place is None or not extradata or extradata[0] != 1 or len(extradata) <= place:
        return None
    return (extradata[place] & 3) + 1


def unframing(stream: Any, codec: str) -> Callable[[Packet[Any]], Iterable[Any]]:
    """What gives the bytes of the stream's packets in a form that is the same in every container."""
    extradata: bytes | None = None if stream.codec_context is None else stream.codec_context.extradata
    if codec == "aac" and not extradata:
        return _Headerless(stream).take
    if size := length_size(codec, extradata):
        return partial(_behind_lengths, size=size)
    return _behind_start_codes if codec in LENGTH_SIZE_AT else lambda packet: (packet,)


def _behind_lengths(packet: Packet[Any], size: int) -> Iterable[bytes]:
    data, at = bytes(packet), 0
    units = []
    while at < len(data):
        start = at + size
        at = start + int.from_bytes(data[at:start], "big")
        units.append(data[start:at])
    return (data,) if at > len(data) else _joined(units)


def _behind_start_codes(packet: Packet[Any]) -> Iterable[bytes]:
    return _joined(START_CODE.split(bytes(packet)))


def _joined(units: Iterable[bytes]) -> Iterable[bytes]:
    """The units behind lengths of four bytes.  None ends in zeros: those belong to the next start code."""
    whole = (unit.rstrip(b"\x00") for unit in units)
    return [len(unit).to_bytes(4, "big") + unit for unit in whole if unit]


class _Headerless:
    """AAC without the headers that it has in transport streams, and nowhere else, in every packet."""

    def __init__(self, stream: Any) -> None:
        self._filter: BitStreamFilterContext | None = BitStreamFilterContext("aac_adtstoasc", stream)

    def take(self, packet: Packet[Any]) -> Iterable[Packet[Any]]:
        if self._filter is not None:
            try:
                return self._filter.filter(packet)
            except av.error.FFmpegError:
                self._filter = None
        return (packet,)
