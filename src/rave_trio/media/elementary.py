"""Elementary streams as a hardware encoder gives them out, made ready for a muxer: H.264, H.265 and AV1.

The colour tags, the aspect ratio, the rate and static HDR are written into the bitstream itself, whatever the encoder
wrote there.  What the muxer must know beside the packets, it is told by reading the first packet back.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from rave_trio.errors import EncodeError
from rave_trio.frames import ChromaLocation, ColorRange
from rave_trio.media.encoders import EncoderSettings
from rave_trio.media.hdr_messages import messages

DEMUXERS = {"h264": "h264", "hevc": "hevc", "av1": "obu"}
"""libav's demuxers of elementary streams."""

DELIMITER = {"h264": (9,), "hevc": (35,), "av1": (2,)}
"""Access unit and temporal unit delimiters, which come before everything else."""

HEADER = {"h264": 7, "hevc": 33, "av1": 1}
"""Sequence parameter sets, and AV1's sequence header."""

TEMPORAL_DELIMITER = b"\x12\0"

AV1_POSITIONS = {ChromaLocation.LEFT: 1, ChromaLocation.TOP_LEFT: 2}
"""chroma_sample_position."""


class ElementaryStream:
    """One stream of ``codec`` (libav's name).  One caller at a time, from any thread."""

    def __init__(self, codec: str, settings: EncoderSettings, header: bytes) -> None:
        """``header`` is what the encoder says that a muxer must know: parameter sets, or a sequence header."""
        self._codec = codec
        self._header = header
        self._messages = b"" if settings.hdr is None else messages(codec, settings.hdr)
        self._tags = BitStreamFilterContext(tagging_filter(codec, settings), codec)
        self._settings = settings
        self._begun = False

    def packet(self, data: bytes, index: int, *, key: bool) -> Packet[Any]:
        """The packet that a muxer takes for one of the encoder's; its pts is ``index``.

        Raises EncodeError for what is not a bitstream of the codec.
        """
        if not self._begun and all(kind != HEADER[self._codec] for _, _, kind in units(self._codec, data)):
            data = self._after_delimiter(data, self._header)
        self._begun = True
        if key and self._messages:
            data = self._before_picture(data, self._messages)
        packet: Packet[Any] = Packet(data)
        packet.pts = packet.dts = index
        packet.is_keyframe = key
        try:
            (tagged,) = self._tags.filter(packet)
        except (av.error.FFmpegError, ValueError) as error:
            raise EncodeError(f"the encoder gave out what is no {self._codec} bitstream: {error}") from error
        return tagged

    def add_to(self, container: OutputContainer, first: Packet[Any]) -> VideoStream:
        """A stream of ``container`` for these packets, of which ``first`` is the first."""
        data = bytes(first)
        if self._codec == "av1" and not data.startswith(TEMPORAL_DELIMITER):
            data = TEMPORAL_DELIMITER + data
        try:
            with av.open(io.BytesIO(data), format=DEMUXERS[self._codec]) as source:
                stream = container.add_stream_from_template(source.streams.video[0], opaque=True)
        except (av.error.FFmpegError, IndexError) as error:
            raise EncodeError(f"the {self._codec} stream does not begin with what a decoder needs: {error}") from error
        if aspect := self._settings.surface.sample_aspect_ratio:  # which AV1 cannot say itself
            stream.codec_context.sample_aspect_ratio = aspect
        return stream

    def _after_delimiter(self, data: bytes, what: bytes) -> bytes:
        at = 0
        for _, end, kind in units(self._codec, data):
            if kind not in DELIMITER[self._codec]:
                break
            at = end
        return data[:at] + what + data[at:]

    def _before_picture(self, data: bytes, what: bytes) -> bytes:
        """Before the first picture, and so after the headers that it needs."""
        at = next((start for start, _, kind in units(self._codec, data) if self._is_picture(kind)), len(data))
        return data[:at] + what + data[at:]

    def _is_picture(self, kind: int) -> bool:
        match self._codec:
            case "h264":
                return 1 <= kind <= 5
            case "hevc":
                return kind < 32
        return kind in (3, 6)  # a frame header, or a frame


def units(codec: str, data: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each NAL unit (start code included) or OBU of a packet begins and ends, and of what type it is."""
    if codec == "av1":
        yield from _obus(data)
        return
    starts = [(match.start(), match.end()) for match in re.finditer(rb"\x00?\x00\x00\x01", data)]
    for number, (start, unit) in enumerate(starts):
        end = starts[number + 1][0] if number + 1 < len(starts) else len(data)
        if unit < len(data):
            yield start, end, data[unit] & 31 if codec == "h264" else data[unit] >> 1 & 63


def _obus(data: bytes) -> Iterator[tuple[int, int, int]]:
    at = 0
    while at < len(data):
        start, head = at, data[at]
        at += 2 if head & 4 else 1
        size = len(data) - at
        if head & 2:
            size = shift = 0
            while at < len(data):
                byte = data[at]
                at += 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
        at += size
        yield start, min(at, len(data)), head >> 3 & 15


def tagging_filter(codec: str, settings: EncoderSettings) -> str:
    """libav's bitstream filter that writes what the settings say of the picture."""
    surface, color = settings.surface, settings.surface.color
    american = codec == "av1"
    options: dict[str, object] = {
        "color_primaries" if american else "colour_primaries": color.primaries,
        "transfer_characteristics": color.transfer,
        "matrix_coefficients": color.matrix,
    }
    if color.range != ColorRange.UNSPECIFIED:
        full = color.range == ColorRange.FULL
        options["color_range" if american else "video_full_range_flag"] = ("pc" if full else "tv") if american else full
    subsampled = surface.pixel_format.chroma_shift_x == surface.pixel_format.chroma_shift_y == 1
    if subsampled and american:
        options["chroma_sample_position"] = AV1_POSITIONS.get(color.chroma_location, 0)
    elif subsampled and color.chroma_location != ChromaLocation.UNSPECIFIED:
        options["chroma_sample_loc_type"] = color.chroma_location - 1
    if not american:
        # H.264 counts fields.
        options["tick_rate"] = settings.rate * 2 if codec == "h264" else settings.rate
        if surface.sample_aspect_ratio:
            options["sample_aspect_ratio"] = surface.sample_aspect_ratio
    return f"{codec}_metadata=" + ":".join(f"{name}={_shown(value)}" for name, value in options.items())


def _shown(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
