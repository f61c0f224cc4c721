"""Decoding in software, by libav."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import attrs
import av.error
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rave_trio.frames import SurfaceDescriptor
from rave_trio.media._libav import fraction, reason
from rave_trio.media.checksums import Ffv1Checksums
from rave_trio.media.engine import CannotDecode, Picture
from rave_trio.media.picture import captions_of, surface_of
from rave_trio.media.probe import MediaInfo


class LibavEngine:
    """The codec of an open stream; see :class:`~rave_trio.media.engine.Engine`.  Pictures are libav's frames."""

    def __init__(self, media: MediaInfo, stream: VideoStream) -> None:
        # Not by frames: whether a damaged frame is flagged would then depend on which thread is done first.
        stream.thread_type = "SLICE"
        stream.codec_context.copy_opaque = True
        if media.video.codec == "png":
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        self._known = media.video.surface
        self._checksums = Ffv1Checksums() if media.video.codec == "ffv1" else None
        self._stream: VideoStream | None = stream

    def decode(self, packet: Packet[Any]) -> Iterator[Picture]:
        assert self._stream is not None
        packet.opaque = sent = _Sent()
        sent.damaged = self._checksums is not None and packet.size > 0 and not self._checksums.holds(bytes(packet))
        try:
            decoded = packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            raise CannotDecode(reason(error)) from error
        sent.aspect = fraction(self._stream.codec_context.sample_aspect_ratio) or Fraction(1)
        for native in decoded:
            yield self._picture(native)

    def close(self) -> None:
        self._stream = None  # the codec's threads live as long

    def _picture(self, native: VideoFrame) -> Picture:
        sent = native.opaque if isinstance(native.opaque, _Sent) else _Sent()
        return Picture(
            native.pts,
            native.dts,
            native.duration,
            native.key_frame,
            self._describe(native),
            native,
            damaged=native.is_corrupt or sent.damaged,
            interlaced=native.interlaced_frame,
            aspect=sent.aspect,
            captions=captions_of(native),
        )

    def _describe(self, native: VideoFrame) -> SurfaceDescriptor:
        known = self._known
        if (native.width, native.height, native.format.name) == (known.width, known.height, known.pixel_format.name):
            return known
        return surface_of(native, known.color.chroma_location, known.sample_aspect_ratio)


@attrs.define
class _Sent:
    """Travels through the codec with a packet, as PyAV's frames do not show their sample aspect ratio."""

    aspect: Fraction | None = None
    """The bit stream's as of this packet; the container may say otherwise of the whole video."""
    damaged: bool = False
    """Whether the packet's own checksum says so, whatever the decoder makes of it."""
