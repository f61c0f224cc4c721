"""Frames of one video stream: time, holes, damage and the end, whatever makes the pictures."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rave_trio import errors
from rave_trio.frames import Frame, Surface, SurfaceDescriptor
from rave_trio.media._libav import demux, has_late_streams, reason
from rave_trio.media.deinterlace import Deinterlacer, supported
from rave_trio.media.engine import CannotDecode, Engine, Picture
from rave_trio.media.findings import Findings
from rave_trio.media.libav_engine import LibavEngine
from rave_trio.media.probe import MediaInfo
from rave_trio.media.timeline import TRUE_TIMES, Clock, Owed

log = logging.getLogger("rave_trio.media")

TRUNCATION_TOLERANCE = 0.5
"""Seconds by which a file may end before its header says so: more than any codec's last, unstated, packet duration."""

HONEST_DURATION = ("matroska", "mov")
"""Demuxers whose duration was written by a muxer; others may estimate it from the bit rate."""

SPLIT = "split the input where it changes and upscale the pieces one by one"


class VideoDecoder:
    """Frames of one video stream in presentation order, one for each packet that should give one.

    Not thread-safe; any thread may call as long as only one does at a time.

    A packet that gives a damaged frame or none shows the frame before it again, and is counted in :attr:`findings`;
    with ``strict`` reading ends there.  Where reading ends early it does not raise: :attr:`defect` says what was wrong,
    so that the frames before it are not lost.

    ``engine`` makes what decodes, given the open stream.  ``deinterlace`` is auto (frames that are flagged interlaced),
    bwdif (all of them) or off; all but off need an engine whose pictures are libav's.
    """

    def __init__(
        self,
        media: MediaInfo,
        engine: Callable[[MediaInfo, VideoStream], Engine],
        *,
        strict: bool = False,
        deinterlace: str = "off",
    ) -> None:
        self._media = media
        self._strict = strict
        self._deinterlace = deinterlace
        container = media.open()
        self._container: InputContainer | None = container
        stream = container.streams[media.video.index]
        assert isinstance(stream, VideoStream)
        try:
            self._engine = engine(media, stream)
        except BaseException:
            container.close()
            raise
        self._packets: Iterator[Packet[Any]] = demux(container)
        self._pictures: Iterator[Picture] = iter(())
        self._ready: deque[Frame] = deque()
        self._ended = False
        self._index = 0
        self._first: SurfaceDescriptor | None = None
        self._previous: Picture | None = None
        self._aspect: Fraction | None = None
        self._last_pts = 0
        self._clock = Clock(media.video.start)
        self._owed = Owed()
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
        """Release the codec and the file, and frames that nobody has read.  Idempotent."""
        self._ended = True
        while self._ready:
            self._ready.popleft().close()
        self._forget_previous()
        self._filter = None
        self._packets, self._pictures = iter(()), iter(())
        container, self._container = self._container, None
        self._engine.close()
        if container is not None:
            container.close()

    def _advance(self) -> None:
        """Take one more picture, or one more packet if the last one's are all taken."""
        try:
            picture = next(self._pictures, None)
        except CannotDecode as error:
            self._lost(errors.DecodeError(f"{self._where()}: a frame cannot be decoded: {error}"))
            return
        except errors.DecodeError as error:
            self._finish(errors.DecodeError(f"{self._where()}: {error}", remedy=error.remedy))
            return
        if picture is not None:
            self._accept(picture)
            return
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
        self._pictures = self._engine.decode(packet)

    def _lost(self, damage: errors.RaveError) -> None:
        if self._first is None:  # recordings often begin in the middle of a group of pictures
            self._unusable = self._unusable or damage
            self.findings.unusable_packets += 1
        self._owed.known += 1
        if self._strict:
            self._finish(damage)

    def _accept(self, picture: Picture) -> None:
        """Give out one decoded frame, and before it what is missing; nothing more if reading ends there."""
        if self._first is None:
            self._first = picture.surface
        if change := self._change(picture):
            self._finish(errors.DecodeError(f"{self._where()}: {change}", remedy=SPLIT))
        else:
            self._fill(picture)
        if self._ended:
            picture.close()
        elif picture.damaged and self._previous is not None:
            self._repeat(picture.pts, picture.dts, picture.duration)
            picture.close()
        elif picture.damaged and self._strict:
            self._finish(errors.DecodeError(f"{self._where()}: the first frame is damaged"))
            picture.close()
        else:
            self._forget_previous()
            self._previous = picture
            self._emit(picture, picture.pts, picture.dts, picture.duration, picture.key_frame)

    def _forget_previous(self) -> None:
        previous, self._previous = self._previous, None
        if previous is not None:
            previous.close()

    def _fill(self, upcoming: Picture | None) -> None:
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

    def _fill_at(self, missing: list[tuple[int, int]], upcoming: Picture | None) -> None:
        """Repeat the last frame at those times that are not the second field's of a frame or an invisible picture's."""
        assert self._previous is not None
        nominal = 1 / (self._media.video.rate * self._media.video.time_base)
        in_fields = self._previous.interlaced or (upcoming is not None and upcoming.interlaced)
        following = None if upcoming is None else upcoming.pts
        for at, duration in missing:
            lost = self._owed.known > 0  # the decoder said so
            self._owed.known -= lost
            apart = at - self._last_pts >= nominal / 2 and (following is None or following - at >= nominal / 2)
            if lost or (apart and not in_fields):
                self._repeat(at, None, duration)

    def _repeat(self, pts: int | None, dts: int | None, duration: int | None) -> None:
        if self._strict:
            self._finish(errors.DecodeError(f"{self._where()}: a frame is damaged or missing"))
        if self._ended or self._previous is None:
            return
        frame_time = self._emit(self._previous, pts, dts, duration, key_frame=False, repeated=True)
        self.findings.repeated(frame_time)
        log.warning("%s at %.3f s: a damaged frame; the one before it is shown again", self._media.path, frame_time)

    def _emit(
        self,
        picture: Picture,
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
            captions=None if repeated else picture.captions,
        )
        self._index += 1
        self.findings.repaired_times = self._clock.repaired
        self.findings.interlaced_frames += picture.interlaced
        self.findings.captioned_frames += frame.captions is not None
        self.findings.captions_lost += picture.captions_lost and not repeated
        if self._filter is None and self._deinterlace == "auto" and self._can_be_deinterlaced(picture):
            self._filter = Deinterlacer(everything=False)
            self.findings.deinterlaced = True
        if self._filter is None:
            frame.picture = picture.shown(self._first)
            self._ready.append(frame)
        else:
            self._queue(self._filter.push(picture.native, frame))
        return float(frame.pts * time_base)

    @staticmethod
    def _can_be_deinterlaced(picture: Picture) -> bool:
        surface = picture.surface
        return picture.interlaced and supported(surface.pixel_format.name, surface.width, surface.height)

    def _queue(self, deinterlaced: list[tuple[VideoFrame, Frame]]) -> None:
        for native, frame in deinterlaced:
            assert self._first is not None
            frame.picture = Surface(self._first, native)
            self._ready.append(frame)

    @property
    def shifts(self) -> tuple[Fraction, ...]:
        """Seconds by which all times are moved from each new beginning of the input's times on; see :class:`Clock`."""
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
        self._pictures = iter(())
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

    def _change(self, picture: Picture) -> str | None:
        """What changed since the first frame, in words."""
        first = self._first
        assert first is not None
        then, now = (f"{s.width}x{s.height} {s.pixel_format.name}" for s in (first, picture.surface))
        if then != now:
            return f"the picture changes to {now} at frame {self._index}; it began as {then}"
        aspect = picture.aspect or self._aspect
        self._aspect = self._aspect or aspect
        if aspect is not None and aspect != self._aspect:
            return f"the sample aspect ratio changes from {self._aspect} to {aspect} at frame {self._index}"
        return None


class LibavDecoder(VideoDecoder):
    """The frames as libav decodes them in software; surfaces hold its frames.  See :class:`VideoDecoder`."""

    def __init__(self, media: MediaInfo, *, strict: bool = False, deinterlace: str = "off") -> None:
        super().__init__(media, LibavEngine, strict=strict, deinterlace=deinterlace)
