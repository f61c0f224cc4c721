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
from rave_trio.frames import ColorRange, ColorSpec, Frame, PixelFormat, Surface, SurfaceDescriptor
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
        self._first: SurfaceDescriptor | None = None
        self._clock = _Clock(media.video.start)
        self._unusable: list[errors.RaveError] = []
        self._end = 0.0
        self.defect: errors.RaveError | None = None
        self.rotation = 0
        """The first frame's display rotation, in degrees."""
        self.concealed = 0
        """Frames that the decoder gave out although it found them damaged."""
        self.exhausted = False
        """Whether :meth:`read` has given out everything there is."""

    def read(self) -> Frame | None:
        """The next frame, or None after the last one.  Blocks for one frame's decoding."""
        while not self._ready:
            if self._ended:
                self.exhausted = True
                return None
            self._advance()
        frame = self._wrap(self._ready.popleft())
        return self.read() if frame is None else frame

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
            damage = errors.DecodeError(f"{self._where()}: a frame cannot be decoded: {reason(error)}")
            if self._first is None:  # recordings often begin in the middle of a group of pictures
                self._unusable.append(damage)
            else:
                self._finish(damage)

    def _finish(self, damage: errors.RaveError | None) -> None:
        self._ended = True
        if damage is None and self._first is None and not self._ready and self._unusable:
            damage = self._unusable[0]
        promised = self._promised_end()
        if self._media.cut_short and damage is None:
            damage = errors.InputTruncated(f"{self._media.path} is cut short, after {self._end:.2f} s of content")
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
        return f"{self._media.path} at {float(self._clock.next * self._media.video.time_base):.2f} s"

    def _wrap(self, native: VideoFrame) -> Frame | None:
        """The next frame, or None where the picture changes and reading ends."""
        described = self._describe(native)
        if self._first is None:
            self._first, self.rotation = described, native.rotation
        elif (described.width, described.height, described.pixel_format) != self._shape:
            self._ready.clear()
            self._finish(
                errors.DecodeError(
                    f"{self._where()}: the picture changes to {described.width}x{described.height} "
                    f"{described.pixel_format.name} at frame {self._index}; it began as {self._first.width}x"
                    f"{self._first.height} {self._first.pixel_format.name}",
                    remedy="split the input where it changes and upscale the pieces one by one",
                )
            )
            return None
        time_base = native.time_base or self._media.video.time_base
        duration = native.duration or max(1, round(1 / (self._media.video.rate * time_base)))
        pts = self._clock.time(native.pts, native.dts, duration, time_base)
        self.concealed += native.is_corrupt
        frame = Frame(
            index=self._index,
            pts=pts,
            duration=duration,
            time_base=Fraction(time_base),
            key_frame=native.key_frame,
            picture=Surface(described, native),
        )
        self._index += 1
        return frame

    @property
    def unusable_packets(self) -> int:
        """Packets before the first frame that could not be decoded."""
        return len(self._unusable)

    @property
    def repaired_times(self) -> int:
        """Frames whose time did not follow the one before and was replaced."""
        return self._clock.repaired

    @property
    def _shape(self) -> tuple[int, int, PixelFormat]:
        assert self._first is not None
        return self._first.width, self._first.height, self._first.pixel_format

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


class _Clock:
    """Rising times from whatever the container and the decoder give.

    Containers without presentation times (AVI) make libav's pts wrong where frames are reordered; the decode times of
    the frames, which leave in presentation order, are right then.  The one that misbehaved less often is believed.
    """

    def __init__(self, start: int) -> None:
        self.repaired = 0
        self.next = start
        """When the next frame is due."""
        self._previous: int | None = None
        self._shift = 0
        self._faults = {"pts": 0, "dts": 0}
        self._seen: dict[str, int] = {}

    def time(self, pts: int | None, dts: int | None, duration: int, time_base: Fraction) -> int:
        """The time of the next frame: above that of the one before."""
        for name, value in (("pts", pts), ("dts", dts)):
            if value is not None:
                self._faults[name] += value <= self._seen.get(name, value - 1)
                self._seen[name] = value
        believed = pts if pts is not None and self._faults["pts"] <= self._faults["dts"] else dts
        found = self.next if believed is None else believed + self._shift
        if self._previous is not None and found <= self._previous:
            self.repaired += 1
            if (self._previous - found) * time_base > 1:  # a new beginning, as in recordings that were joined
                self._shift += self.next - found
                found = self.next
            else:
                found = self._previous + 1
        self._previous, self.next = found, found + duration
        return found
