"""Software decoding with libav: one object, short blocking calls, no knowledge of tasks or channels."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rave_trio import errors
from rave_trio.frames import ColorRange, ColorSpec, Frame, Surface, SurfaceDescriptor
from rave_trio.media._libav import describe_format, reason
from rave_trio.media.probe import MediaInfo, open_input

TRUNCATION_TOLERANCE = 0.5
"""Seconds by which a file may end before its header says so: more than any codec's last, unstated, packet duration."""

HONEST_DURATION = ("matroska", "mov")
"""Demuxers whose duration was written by a muxer; others may estimate it from the bit rate."""


class LibavDecoder:
    """Frames of one video stream in presentation order.

    Not thread-safe; any thread may call as long as only one does at a time.  Damage does not raise: reading ends there
    and :attr:`defect` says what was wrong, so that the frames before it are not lost.
    """

    def __init__(self, media: MediaInfo) -> None:
        self._media = media
        self._container = open_input(media.path)
        stream = self._container.streams[media.video.index]
        assert isinstance(stream, VideoStream)
        stream.thread_type = "AUTO"
        self._packets: Iterator[Packet[Any]] = self._container.demux()
        self._ready: deque[VideoFrame] = deque()
        self._ended = False
        self._index = 0
        self._next_pts = media.video.start
        self._end = 0.0
        self.defect: errors.RaveError | None = None
        self.exhausted = False
        """Whether :meth:`read` has given out everything there is."""

    def read(self) -> Frame | None:
        """The next frame, or None after the last one.  Blocks for one frame's decoding."""
        while not self._ready:
            if self._ended:
                self.exhausted = True
                return None
            self._advance()
        return self._wrap(self._ready.popleft())

    def close(self) -> None:
        """Release the codec and the file.  Idempotent."""
        self._ended = True
        self._ready.clear()
        self._container.close()

    def _advance(self) -> None:
        try:
            packet = next(self._packets, None)
        except av.error.FFmpegError as error:
            self._finish(errors.DemuxError(f"{self._where()}: the container is damaged: {reason(error)}"))
            return
        if packet is None:
            self._finish(None)
            return
        self._note_end(packet)
        if packet.stream.index != self._media.video.index:  # flush packets leave stream_index at 0
            return
        try:
            self._ready.extend(packet.decode())
        except av.error.EOFError:
            pass
        except av.error.FFmpegError as error:
            self._finish(errors.DecodeError(f"{self._where()}: a frame cannot be decoded: {reason(error)}"))

    def _finish(self, damage: errors.RaveError | None) -> None:
        self._ended = True
        promised = self._promised_end()
        if promised is not None and self._end < promised - TRUNCATION_TOLERANCE:
            damage = errors.InputTruncated(
                f"{self._media.path} ends at {self._end:.2f} s of the {promised:.2f} s that its header promises"
            )
        self.defect = damage

    def _promised_end(self) -> float | None:
        container = self._container
        if container.duration is None or not container.format.name.startswith(HONEST_DURATION):
            return None
        return (container.duration + (container.start_time or 0)) / av.time_base

    def _note_end(self, packet: Packet[Any]) -> None:
        if packet.pts is not None and packet.time_base:
            self._end = max(self._end, float((packet.pts + (packet.duration or 0)) * packet.time_base))

    def _where(self) -> str:
        return f"{self._media.path} at {float(self._next_pts * self._media.video.time_base):.2f} s"

    def _wrap(self, native: VideoFrame) -> Frame:
        time_base = native.time_base or self._media.video.time_base
        pts = native.pts if native.pts is not None else native.dts
        if pts is None:
            pts = self._next_pts
        duration = native.duration or round(1 / (self._media.video.rate * time_base))
        frame = Frame(
            index=self._index,
            pts=pts,
            duration=duration,
            time_base=Fraction(time_base),
            key_frame=native.key_frame,
            picture=Surface(self._describe(native), native),
        )
        self._index += 1
        self._next_pts = pts + duration
        return frame

    def _describe(self, native: VideoFrame) -> SurfaceDescriptor:
        known = self._media.video.surface
        expected = (known.width, known.height, known.pixel_format.name)
        if (native.width, native.height, native.format.name) == expected:
            return known
        return SurfaceDescriptor(
            native.width,
            native.height,
            describe_format(native.format.name),
            ColorSpec(native.colorspace, native.color_primaries, native.color_trc, ColorRange(native.color_range)),
            known.sample_aspect_ratio,
        )
