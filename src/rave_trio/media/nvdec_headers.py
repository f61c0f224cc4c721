"""What in a packet says how large the pictures are: NVDEC does not tell when they become smaller."""

from __future__ import annotations

import re
from collections.abc import Iterator

import av
import av.error
from av.packet import Packet

H264_SPS, HEVC_SPS = 7, 33
"""NAL unit types of sequence parameter sets (ITU-T H.264, table 7-1; H.265, table 7-1)."""

MPEG_SEQUENCE = re.compile(rb"\x00\x00\x01\xb3.{4}", re.DOTALL)
"""A sequence header up to the aspect ratio and frame rate (ITU-T H.262, 6.2.2.1; ISO 11172-2, 2.4.2.3)."""

MPEG4_LAYER = re.compile(rb"\x00\x00\x01[\x20-\x2f].{16}", re.DOTALL)
"""A video object layer, in whose first bytes the size is (ISO 14496-2, 6.2.3)."""

FRAME_HEADERS = {"vp8": slice(3, 10), "vp9": slice(0, 9), "av1": slice(0, 12)}
"""The bytes of a key frame in which its size is (RFC 6386, 9.1; the VP9 and AV1 bitstream specifications)."""

NAL_UNIT = re.compile(rb"\x00\x00\x01(.+?)(?=\x00\x00[\x00\x01]|\Z)", re.DOTALL)


def headers_of(codec: str, data: bytes) -> bytes:
    """The part of a key frame's packet that changes if the size does; nothing where it says nothing.

    ``codec`` is libav's name; H.264 and HEVC in Annex B.
    """
    match codec:
        case "h264":
            return b"".join(unit for unit in _units(data) if unit[0] & 0x1F == H264_SPS)
        case "hevc":
            return b"".join(unit for unit in _units(data) if unit[0] >> 1 & 0x3F == HEVC_SPS)
        case "mpeg1video" | "mpeg2video":
            return b"".join(MPEG_SEQUENCE.findall(data)[:1])
        case "mpeg4":
            return b"".join(MPEG4_LAYER.findall(data)[:1])
    return data[FRAME_HEADERS[codec]] if codec in FRAME_HEADERS else b""


def size_in(codec: str, data: bytes) -> tuple[int, int] | None:
    """Width and height of a key frame, by decoding it in software; None if that gives no picture."""
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    try:
        pictures = context.decode(Packet(data)) + context.decode(None)
    except av.error.FFmpegError:
        return None
    return (pictures[0].width, pictures[0].height) if pictures else None


def _units(data: bytes) -> Iterator[bytes]:
    """The NAL units of Annex B up to the first slice, which is what most of a packet is."""
    return (found[1] for found in NAL_UNIT.finditer(data, 0, 4096))
