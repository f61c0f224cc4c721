"""The video that was worked on: all of it that is to stay while its size and its samples change."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av.error
from av.packet import Packet
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from rave_trio.color import range_of
from rave_trio.frames import ChromaLocation, PixelFormat, SurfaceDescriptor
from rave_trio.media._libav import reason
from rave_trio.media.compare.measures import NO_TIME, Sum, Times, apart, seconds
from rave_trio.media.compare.verdict import Verdict
from rave_trio.media.hdr import HdrMetadata, MasteringDisplay
from rave_trio.media.picture import UPRIGHT, DisplayMatrix, side_data
from rave_trio.media.probe import VideoInfo

TOLERANCES = [Fraction(1, 20000)] * 8 + [Fraction(1, 5000), Fraction(1, 100)]
"""Of a mastering display's chromaticities, least and greatest luminance: codecs and containers store these in fixed
point of their own."""


class Frames:
    """What the frames of the video say, gathered while it is decoded."""

    def __init__(self, stream: Any, video: VideoInfo) -> None:
        stream.thread_type = "AUTO"
        self._stream = stream
        self.times = Times(video.time_base)
        self.captions = Sum()
        self.interlaced = 0
        self.damaged = 0
        """Those that the decoder had to mend."""
        self.failures: list[str] = []
        """Packets that could not be decoded; not those before the first picture, as recordings may begin anywhere."""
        self._last_duration = 0

    def take(self, packet: Packet[Any] | None) -> None:
        """Decode a packet, or with None what the decoder still holds."""
        try:
            for frame in self._stream.decode(packet):
                self._look(frame)
        except av.error.FFmpegError as error:
            if len(self.times):
                self.failures.append(f"after {self.where()}: {reason(error)}")

    def _look(self, frame: VideoFrame) -> None:
        self.captions.add(side_data(frame, Type.A53_CC))
        self.interlaced += frame.interlaced_frame
        self.damaged += frame.is_corrupt
        self.times.add(frame.dts if frame.pts is None else frame.pts)
        self._last_duration = frame.duration

    @property
    def last_duration(self) -> Fraction | None:
        """In seconds, None if it is not stated."""
        return self._last_duration * self.times.time_base or None

    def where(self) -> str:
        """How far decoding has come."""
        if not self.times:
            return "its beginning"
        last = next((tick for tick in reversed(self.times.ticks) if tick != NO_TIME), None)
        at = "" if last is None else f" at {float(last * self.times.time_base):.2f} s"
        return f"frame {len(self.times) - 1}{at}"


def scale_of(before: VideoInfo, after: VideoInfo) -> int | None:
    """How many times larger the result is, None if that is no integer."""
    small, large = before.surface, after.surface
    scale = large.width // small.width
    return scale if scale and (small.width * scale, small.height * scale) == (large.width, large.height) else None


def compare_videos(verdict: Verdict, before: Frames, after: Frames) -> None:
    """Compare the two files' video."""
    source, result = verdict.source.video, verdict.result.video
    _frames(verdict, before, after)
    _surfaces(verdict, source.surface, result.surface)
    if scale_of(source, result) is None:
        verdict.inform(f"video size: {_size(source.surface)} became {_size(result.surface)}")
    verdict.check("video display matrix", _turned(source.display_matrix), _turned(result.display_matrix))
    _hdr(verdict, source.hdr or HdrMetadata(), result.hdr or HdrMetadata())
    verdict.check("video closed captions", before.captions.words, after.captions.words)
    if after.damaged > before.damaged:
        verdict.differ("video damaged frames", before.damaged, after.damaged)
    elif before.damaged:
        verdict.inform(f"video frames that are damaged in the source: {before.damaged}")
    verdict.labels("video", verdict.source.streams[source.index], verdict.result.streams[result.index])
    if before.interlaced or after.interlaced:
        verdict.inform(
            f"interlaced frames: {before.interlaced} of {len(before.times)} in the source, "
            f"{after.interlaced} of {len(after.times)} in the result"
        )
    if source.codec != result.codec:
        verdict.inform(f"video codec: {source.codec} became {result.codec}")
    if source.rate != result.rate:
        verdict.inform(f"nominal frames per second: {float(source.rate):g} became {float(result.rate):g}")


def _frames(verdict: Verdict, before: Frames, after: Frames) -> None:
    """How many there are, and when."""
    old, new = before.times, after.times
    verdict.check("video frames", len(old), len(new))
    if verdict.source.first_number is not None or verdict.result.first_number is not None:
        verdict.inform("frame times are not compared, as a sequence of pictures has none")
    elif (unusable := _unusable(old)) and old != new:
        verdict.inform(f"frame times are not compared, as the source's are {unusable}")
        verdict.check("video frame times", None, _unusable(new))
    elif len(old) == len(new):
        verdict.times("video frame times", old, new, "frame")
        # Other frames last until the next.  As the distance of two rounded times, it may be off by as much as both.
        last, copied = before.last_duration, after.last_duration
        if last and copied and abs(last - copied) > 2 * verdict.tolerance(old, new):
            verdict.differ("video last frame's duration", seconds(last), seconds(copied))
    else:
        found, _ = apart(old, new, verdict.tolerance(old, new))
        if found:
            one, other = seconds(old[found[0]]), seconds(new[found[0]])
            verdict.inform(f"video frame {found[0]} is at {one} in the source and at {other} in the result")


def _unusable(times: Times) -> str | None:
    if NO_TIME in times.ticks:
        return "missing"
    unordered = sum(after <= before for before, after in zip(times.ticks, times.ticks[1:], strict=False))
    return f"not rising, {unordered} times" if unordered else None


def _shape(surface: SurfaceDescriptor) -> Fraction:
    """Width to height as it is shown."""
    return (surface.sample_aspect_ratio or Fraction(1)) * Fraction(surface.width, surface.height)


def _shown(surface: SurfaceDescriptor) -> str:
    return f"{_size(surface)} in pixels of {surface.sample_aspect_ratio or 1}"


def _surfaces(verdict: Verdict, before: SurfaceDescriptor, after: SurfaceDescriptor) -> None:
    """What the samples are and mean.  Grey has no chroma to lose; RGB has no matrix, nor a range in common with YUV."""
    shapes = _shape(before), _shape(after)
    if abs(shapes[0] - shapes[1]) * before.height > 1:  # some containers keep the display's width, in whole pixels
        verdict.differ("video shape", _shown(before), _shown(after))
    old, new = before.pixel_format, after.pixel_format
    if old.name != new.name:
        verdict.inform(f"pixel format: {old.name} became {new.name}")
    verdict.check("video bit depth", old.bit_depth, new.bit_depth)
    verdict.check("video alpha", "yes" if old.has_alpha else "no", "yes" if new.has_alpha else "no")
    verdict.check("video colour primaries", before.color.primaries, after.color.primaries)
    verdict.check("video colour transfer", before.color.transfer, after.color.transfer)
    if old.is_grey and not new.is_grey:
        return
    if not new.is_rgb:
        verdict.check("video chroma subsampling", _subsampling(old), _subsampling(new))
    if old.is_rgb != new.is_rgb:
        return
    if not old.is_rgb:
        verdict.check("video colour matrix", before.color.matrix, after.color.matrix)
    ranges = (range_of(surface.color, surface.pixel_format).name.lower() for surface in (before, after))
    verdict.check("video colour range", *ranges)
    if old.chroma_shift_x:
        # Untagged chroma lies to the left, for players and for most decoders, some of which say so and some do not.
        sitings = (s.color.chroma_location or ChromaLocation.LEFT for s in (before, after))
        verdict.check("video chroma location", *(siting.name.lower() for siting in sitings))


def _subsampling(pixels: PixelFormat) -> str:
    if pixels.is_grey:
        return "grey"
    across = 4 >> pixels.chroma_shift_x
    return f"4:{across}:{0 if pixels.chroma_shift_y else across}"


def _size(surface: SurfaceDescriptor) -> str:
    return f"{surface.width}x{surface.height}"


def _turned(matrix: DisplayMatrix | None) -> str:
    """All that the matrix says but where the picture is put: its first row the angle, its determinant the mirroring."""
    a, b, _, c, d, *_ = matrix or UPRIGHT
    angle = round(math.degrees(math.atan2(b, a)), 1) % 360
    return f"turned by {angle:g} degrees" + (" and mirrored" if a * d < b * c else "")


def _hdr(verdict: Verdict, before: HdrMetadata, after: HdrMetadata) -> None:
    old, new = _display(before.mastering), _display(after.mastering)
    if len(old) != len(new) or not all(map(_close, old, new, TOLERANCES)):
        verdict.differ("video mastering display", _numbers(old), _numbers(new))
    levels = [() if light is None else (light.max_content, light.max_average) for light in (before.light, after.light)]
    verdict.check("video content light level", _numbers(levels[0]), _numbers(levels[1]))


def _display(display: MasteringDisplay | None) -> tuple[Fraction | None, ...]:
    """The numbers in the standard's order, none if there is no display."""
    if display is None:
        return ()
    unknown = (None, None)
    points = (*(display.primaries or [unknown] * 3), display.white_point or unknown)
    return (*(value for point in points for value in point), display.min_luminance, display.max_luminance)


def _close(one: Fraction | None, other: Fraction | None, allowed: Fraction) -> bool:
    return one == other if one is None or other is None else abs(one - other) <= allowed


def _numbers(values: Iterable[Fraction | int | None]) -> str | None:
    return ", ".join("unknown" if value is None else f"{float(value):g}" for value in values) or None
