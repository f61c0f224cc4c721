"""Software decoding with libav: one object, short blocking calls, no knowledge of tasks or channels."""

from __future__ import annotations

import heapq
import logging
import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import attrs
import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rave_trio import errors
from rave_trio.frames import Frame, Surface, SurfaceDescriptor
from rave_trio.media._libav import demux, fraction, has_late_streams, reason
from rave_trio.media.checksums import Ffv1Checksums
from rave_trio.media.deinterlace import Deinterlacer, supported
from rave_trio.media.findings import Findings
from rave_trio.media.picture import captions_of, surface_of
from rave_trio.media.probe import MediaInfo

log = logging.getLogger("rave_trio.media")

TRUNCATION_TOLERANCE = 0.5
"""Seconds by which a file may end before its header says so: more than any codec's last, unstated, packet duration."""

HONEST_DURATION = ("matroska", "mov")
"""Demuxers whose duration was written by a muxer; others may estimate it from the bit rate."""

NEW_BEGINNING = 1
"""Seconds by which times must go back to be a new beginning and not a slip."""

SMALLEST_STEP = Fraction(1, 1000)
"""Seconds between frames whose times are repaired: what Matroska can tell apart."""

TRUE_TIMES = ("matroska", "mov", "mpeg", "flv", "ogg", "ivf", "nut", "image2", "gif")
"""Beginnings of the names of demuxers whose packets have the presentation times that a muxer was given."""

SPLIT = "split the input where it changes and upscale the pieces one by one"


class LibavDecoder:
    """Frames of one video stream in presentation order, one for each packet that should give one.

    Not thread-safe; any thread may call as long as only one does at a time.

    A packet that gives a damaged frame or none shows the frame before it again, and is counted in :attr:`findings`;
    with ``strict`` reading ends there.  Where reading ends early it does not raise: :attr:`defect` says what was wrong,
    so that the frames before it are not lost.

    ``deinterlace`` is auto (frames that are flagged interlaced), bwdif (all of them) or off.
    """

    def __init__(self, media: MediaInfo, *, strict: bool = False, deinterlace: str = "off") -> None:
        self._media = media
        self._strict = strict
        self._deinterlace = deinterlace
        container = media.open()
        self._container: InputContainer | None = container
        stream = container.streams[media.video.index]
        assert isinstance(stream, VideoStream)
        # Not by frames: whether a damaged frame is flagged would then depend on which thread is done first.
        stream.thread_type = "SLICE"
        stream.codec_context.copy_opaque = True
        self._stream: VideoStream | None = stream
        if media.video.codec == "png":
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        self._packets: Iterator[Packet[Any]] = demux(container)
        self._checksums = Ffv1Checksums() if media.video.codec == "ffv1" else None
        self._ready: deque[Frame] = deque()
        self._ended = False
        self._index = 0
        self._first: SurfaceDescriptor | None = None
        self._previous: VideoFrame | None = None
        self._aspect: Fraction | None = None
        self._last_pts = 0
        self._clock = _Clock(media.video.start)
        self._owed = _Owed()
        self._true_times = media.format.startswith(TRUE_TIMES)
        self._unusable: errors.RaveError | None = None
        self._end = 0.0
        self._filter: Deinterlacer[Frame] | None = Deinterlacer(everything=True) if deinterlace == "bwdif" else None
        self.findings = Findings(deinterlaced=self._filter is not None)
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
        return self._ready.popleft()

    def close(self) -> None:
        """Release the codec and the file.  Idempotent."""
        self._ended = True
        self._ready.clear()
        self._filter = self._previous = None
        self._packets = iter(())
        container, self._container, self._stream = self._container, None, None  # the codec's threads live as long
        if container is not None:
            container.close()

    def _advance(self) -> None:
        try:
            packet = next(self._packets, None)
        except av.error.FFmpegError as error:
            self._finish(errors.DemuxError(f"{self._where()}: the container is damaged: {reason(error)}"))
            return
        if packet is None:
            self.findings.late_streams = has_late_streams(self._container)
            self._finish(None)
            return
        self._note_end(packet)
        if packet.stream.index != self._media.video.index:  # flush packets leave stream_index at 0
            return
        if packet.size and not packet.is_discard:
            self._owed.add(packet)
        try:
            packet.opaque = sent = _Sent()
            sent.damaged = self._checksums is not None and packet.size > 0 and not self._checksums.holds(bytes(packet))
            decoded = packet.decode()
            assert self._stream is not None
            sent.aspect = fraction(self._stream.codec_context.sample_aspect_ratio) or Fraction(1)
            for native in decoded:
                self._accept(native)
        except av.error.EOFError:
            pass
        except av.error.FFmpegError as error:
            self._lost(errors.DecodeError(f"{self._where()}: a frame cannot be decoded: {reason(error)}"))

    def _lost(self, damage: errors.RaveError) -> None:
        if self._first is None:  # recordings often begin in the middle of a group of pictures
            self._unusable = self._unusable or damage
            self.findings.unusable_packets += 1
        self._owed.known += 1
        if self._strict:
            self._finish(damage)

    def _accept(self, native: VideoFrame) -> None:
        """Give out one decoded frame, and before it what is missing; nothing more once reading has ended."""
        if self._ended:
            return
        described = self._describe(native)
        if self._first is None:
            self._first = described
        if change := self._change(described, native):
            self._finish(errors.DecodeError(f"{self._where()}: {change}", remedy=SPLIT))
            return
        self._fill(native)
        damaged = native.is_corrupt or (isinstance(native.opaque, _Sent) and native.opaque.damaged)
        if damaged and self._previous is not None:
            self._repeat(native.pts, native.dts, native.duration)
        elif damaged and self._strict:
            self._finish(errors.DecodeError(f"{self._where()}: the first frame is damaged"))
        else:
            self._previous = native
            self._emit(native, native.pts, native.dts, native.duration, native.key_frame)

    def _fill(self, upcoming: VideoFrame | None) -> None:
        """Repeat the last frame at the times of packets that should have given a frame before ``upcoming``."""
        pts = None if upcoming is None else upcoming.pts
        missing = self._owed.before(pts, at_end=upcoming is None)
        if self._previous is None:
            self._owed.known = 0
            return
        if self._true_times and self._clock.believes_pts:
            self._fill_at(missing, upcoming)
        else:  # all that can be known is that a frame is missing
            for _ in range(self._owed.known):
                self._repeat(None, None, 0)
        self._owed.known = 0

    def _fill_at(self, missing: list[tuple[int, int]], upcoming: VideoFrame | None) -> None:
        """Repeat the last frame at those times that are not the second field's of a frame or an invisible picture's."""
        assert self._previous is not None
        nominal = 1 / (self._media.video.rate * self._media.video.time_base)
        in_fields = self._previous.interlaced_frame or (upcoming is not None and upcoming.interlaced_frame)
        following = None if upcoming is None else upcoming.pts
        for at, duration in missing:
            lost = self._owed.known > 0  # the decoder said so
            self._owed.known -= lost
            apart = at - self._last_pts >= nominal / 2 and (following is None or following - at >= nominal / 2)
            if lost or (apart and not in_fields):
                self._repeat(at, None, duration)

    def _repeat(self, pts: int | None, dts: int | None, duration: int) -> None:
        if self._strict:
            self._finish(errors.DecodeError(f"{self._where()}: a frame is damaged or missing"))
        if self._ended or self._previous is None:
            return
        frame_time = self._emit(self._previous, pts, dts, duration, key_frame=False, repeated=True)
        self.findings.repeated(frame_time)
        log.warning("%s at %.3f s: a damaged frame; the one before it is shown again", self._media.path, frame_time)

    def _emit(
        self,
        native: VideoFrame,
        pts: int | None,
        dts: int | None,
        duration: int | None,
        key_frame: bool,
        *,
        repeated: bool = False,
    ) -> float:
        """Queue a frame, through the deinterlacer if there is one; returns its time in seconds."""
        assert self._first is not None
        time_base = self._media.video.time_base
        duration = duration or max(1, round(1 / (self._media.video.rate * time_base)))
        if pts is not None:
            self._last_pts = pts
        frame = Frame(
            index=self._index,
            pts=self._clock.time(pts, dts, duration, time_base),
            duration=duration,
            time_base=time_base,
            key_frame=key_frame,
            picture=None,
            captions=None if repeated else captions_of(native),
        )
        self._index += 1
        self.findings.repaired_times = self._clock.repaired
        self.findings.interlaced_frames += native.interlaced_frame
        self.findings.captioned_frames += frame.captions is not None
        if self._filter is None and self._deinterlace == "auto" and self._can_be_deinterlaced(native):
            self._filter = Deinterlacer(everything=False)
            self.findings.deinterlaced = True
        finished = [(native, frame)] if self._filter is None else self._filter.push(native, frame)
        self._queue(finished)
        return float(frame.pts * time_base)

    @staticmethod
    def _can_be_deinterlaced(native: VideoFrame) -> bool:
        return native.interlaced_frame and supported(native.format.name, native.width, native.height)

    def _queue(self, finished: list[tuple[VideoFrame, Frame]]) -> None:
        for native, frame in finished:
            assert self._first is not None
            frame.picture = Surface(self._first, native)
            self._ready.append(frame)

    @property
    def shifts(self) -> tuple[Fraction, ...]:
        """Seconds by which all times are moved from each new beginning of the input's times on; see :class:`_Clock`."""
        return tuple(shift * self._media.video.time_base for shift in self._clock.shifts)

    def _finish(self, damage: errors.RaveError | None) -> None:
        """End reading; what is decoded already is still given out."""
        if self._ended:
            return
        if damage is None:
            self._fill(None)
        if self._ended:  # by what was missing at the end
            return
        self._ended = True
        if self._filter is not None:
            self._queue(self._filter.finish())
        if damage is None and self._first is None:
            damage = self._unusable
        promised = self._promised_end()
        read_on = damage is None or isinstance(damage, errors.DemuxError)
        if self._media.cut_short and damage is None:
            damage = errors.InputTruncated(f"{self._media.path} is cut short, after {self._end:.2f} s of content")
        if read_on and promised is not None and self._end < promised - TRUNCATION_TOLERANCE:
            damage = errors.InputTruncated(
                f"{self._media.path} ends at {self._end:.2f} s of the {promised:.2f} s that its header promises"
            )
        self.defect = damage

    def _promised_end(self) -> float | None:
        container = self._container
        assert container is not None
        if container.duration is None or not container.format.name.startswith(HONEST_DURATION):
            return None
        # Matroska's duration is where the last packet ends, MP4's how long all of it takes from the start.
        start = 0 if container.format.name.startswith("matroska") else container.start_time or 0
        return (container.duration + start) / av.time_base

    def _note_end(self, packet: Packet[Any]) -> None:
        if packet.pts is not None and packet.time_base:
            self._end = max(self._end, float((packet.pts + (packet.duration or 0)) * packet.time_base))

    def _where(self) -> str:
        return f"{self._media.path} at {float(self._clock.next * self._media.video.time_base):.2f} s"

    def _describe(self, native: VideoFrame) -> SurfaceDescriptor:
        known = self._media.video.surface
        if (native.width, native.height, native.format.name) == (known.width, known.height, known.pixel_format.name):
            return known
        return surface_of(native, known.color.chroma_location, known.sample_aspect_ratio)

    def _change(self, described: SurfaceDescriptor, native: VideoFrame) -> str | None:
        """What changed since the first frame, in words."""
        first = self._first
        assert first is not None
        then, now = (f"{s.width}x{s.height} {s.pixel_format.name}" for s in (first, described))
        if then != now:
            return f"the picture changes to {now} at frame {self._index}; it began as {then}"
        aspect = native.opaque.aspect if isinstance(native.opaque, _Sent) else self._aspect
        self._aspect = self._aspect or aspect
        if aspect is not None and aspect != self._aspect:
            return f"the sample aspect ratio changes from {self._aspect} to {aspect} at frame {self._index}"
        return None


@attrs.define
class _Sent:
    """Travels through the codec with a packet, as PyAV's frames do not show their sample aspect ratio."""

    aspect: Fraction | None = None
    """The bit stream's as of this packet; the container may say otherwise of the whole video."""
    damaged: bool = False
    """Whether the packet's own checksum says so, whatever the decoder makes of it."""


class _Owed:
    """The packets that have been decoded and whose frames have not come."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self.known = 0
        """Frames of which the decoder has said that they are lost."""

    def add(self, packet: Packet[Any]) -> None:
        if packet.pts is not None:
            heapq.heappush(self._heap, (packet.pts, packet.duration or 0))

    def before(self, pts: int | None, *, at_end: bool) -> list[tuple[int, int]]:
        """Times and durations of the packets before ``pts`` that have given no frame; they owe none from now on."""
        missing = []
        while self._heap and (at_end or (pts is not None and self._heap[0][0] <= pts)):
            packet = heapq.heappop(self._heap)
            if packet[0] != pts:
                missing.append(packet)
        return missing


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
        self.shifts: list[int] = []
        """The shift after each new beginning."""
        self._faults = {"pts": 0, "dts": 0}
        self._seen: dict[str, int] = {}

    @property
    def believes_pts(self) -> bool:
        """Whether presentation times have been right so far."""
        return self._faults["pts"] == 0

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
            if (self._previous - found) * time_base > NEW_BEGINNING:  # as in recordings that were joined
                self._shift += self.next - found
                self.shifts.append(self._shift)
                found = self.next
            else:
                found = self._previous + max(1, min(duration, math.ceil(SMALLEST_STEP / time_base)))
        self._previous, self.next = found, found + duration
        return found
