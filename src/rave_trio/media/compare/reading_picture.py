"""Reading the video: decodes it and keeps what the frames say, but not the frames."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rave_trio import errors
from rave_trio.media._libav import describe_format, reason
from rave_trio.media.compare.contents import NO_TIME, Picture, Times
from rave_trio.media.compare.labels import labels_of
from rave_trio.media.compare.sums import Sum
from rave_trio.media.picture import chroma_location_of

WANTED = {"A53_CC", "CONTENT_LIGHT_LEVEL", "DISPLAYMATRIX", "MASTERING_DISPLAY_METADATA"}
"""Side data of frames that is compared."""


def is_flush(packet: Packet[Any]) -> bool:
    """Whether this is no packet of the file but the end of its stream."""
    return not packet.size and packet.pts is None and packet.dts is None


class PictureReader:
    """Decodes the video and keeps what frames say, but not the frames."""

    def __init__(self, stream: VideoStream) -> None:
        stream.thread_type = "AUTO"
        self.index = stream.index
        self._stream = stream
        self._first: dict[str, Any] = {}
        self._shape: tuple[int, int, str] | None = None
        self._times = array("q")
        self._captions = Sum()
        self._interlaced = 0
        self._mended = 0
        self._last_duration = 0
        self._changed_at: int | None = None
        self._failures = 0
        self._first_failure = ""
        self._unusable = 0
        self._unreadable = 0
        self._flushed = False

    def take(self, packet: Packet[Any]) -> None:
        if is_flush(packet):
            self.flush()
            return
        self._decode(packet)

    def flush(self) -> None:
        """Take the frames that the decoder still holds.  Idempotent."""
        if not self._flushed:
            self._flushed = True
            self._decode(None)

    def _decode(self, packet: Packet[Any] | None) -> None:
        try:
            frames = self._stream.decode(packet)
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            if self._shape is None:
                self._unusable += 1
            else:
                self._first_failure = self._first_failure or f"after {self.where()}: {reason(error)}"
                self._failures += 1
            return
        for frame in frames:
            self._look(frame)

    def _look(self, frame: VideoFrame) -> None:
        data = self._side_data(frame)
        shape = (frame.width, frame.height, frame.format.name)
        if self._shape is None:
            self._shape = shape
            self._first = {
                "matrix": int(frame.colorspace),
                "primaries": int(frame.color_primaries),
                "transfer": int(frame.color_trc),
                "range": int(frame.color_range),
                **_orientation(data.get("DISPLAYMATRIX")),
                "mastering": _mastering(data.get("MASTERING_DISPLAY_METADATA")),
                "light": _light(data.get("CONTENT_LIGHT_LEVEL")),
            }
        elif shape != self._shape and self._changed_at is None:
            self._changed_at = len(self._times)
        if "A53_CC" in data:
            self._captions.add(data["A53_CC"])
        self._interlaced += frame.interlaced_frame
        self._mended += frame.is_corrupt
        pts = frame.dts if frame.pts is None else frame.pts
        self._times.append(NO_TIME if pts is None else pts)
        self._last_duration = frame.duration

    def _side_data(self, frame: VideoFrame) -> dict[str, bytes]:
        try:
            found: Any = frame.side_data
            return {data.type.name: bytes(data) for data in found if data.type.name in WANTED}
        except ValueError:  # PyAV refuses all of a frame's side data where it does not know one kind
            self._unreadable += 1
            return {}

    def where(self) -> str:
        """How far decoding has come."""
        last = next((tick for tick in reversed(self._times) if tick != NO_TIME), None)
        at = "" if last is None else f" at {float(last * self._time_base):.2f} s"
        return f"frame {len(self._times) - 1}{at}" if self._times else "its beginning"

    @property
    def _time_base(self) -> Fraction:
        return self._stream.time_base or Fraction(1, 1000)

    def damage(self) -> Iterator[str]:
        if self._failures:
            yield f"packets of the video that cannot be decoded: {self._failures}, the first {self._first_failure}"

    def notes(self) -> Iterator[str]:
        if self._unusable:
            yield f"packets before the first frame that cannot be decoded: {self._unusable}"
        if self._unreadable:
            yield f"frames whose side data cannot be read: {self._unreadable}"

    def finish(self, path: Path, container_tags: Mapping[str, str]) -> Picture:
        context = self._stream.codec_context
        width, height, pixels = self._shape or (context.width, context.height, context.pix_fmt)
        if not width or not height or not pixels:
            raise errors.InputNotMedia(f"{path} has a video stream that says neither its size nor its pixel format")
        undecoded = {
            "matrix": int(context.colorspace),
            "primaries": int(context.color_primaries),
            "transfer": int(context.color_trc),
            "range": int(context.color_range),
            "rotation": 0.0,
            "flipped": False,
            "mastering": None,
            "light": None,
        }
        return Picture(
            index=self.index,
            codec=context.codec.canonical_name,
            labels=labels_of(self._stream, container_tags),
            width=width,
            height=height,
            pixel_format=describe_format(pixels),
            **(self._first or undecoded),
            chroma_location=chroma_location_of(self._stream),
            sample_aspect_ratio=self._stream.sample_aspect_ratio or Fraction(1),
            captions=self._captions.blob(),
            interlaced=self._interlaced,
            mended=self._mended,
            times=Times(self._times, self._time_base),
            last_duration=self._last_duration * self._time_base if self._last_duration else None,
            rate=self._stream.average_rate or self._stream.guessed_rate,
            changed_at=self._changed_at,
        )


def _orientation(data: bytes | None) -> dict[str, Any]:
    """The first row of the matrix says the angle, its determinant whether the picture is mirrored as well."""
    if data is None:
        return {"rotation": 0.0, "flipped": False}
    a, b, _, c, d = struct.unpack_from("=5i", data)
    return {"rotation": math.degrees(math.atan2(b, a)) % 360, "flipped": a * d - b * c < 0}


def _mastering(data: bytes | None) -> tuple[Fraction | None, ...] | None:
    """AVMasteringDisplayMetadata: ten rationals, then whether the first eight and the last two are meant."""
    if data is None:
        return None
    *numbers, has_primaries, has_luminance = struct.unpack_from("=22i", data)
    values = [Fraction(n, d) if d else None for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
    meant = [has_primaries] * 8 + [has_luminance] * 2
    return tuple(value if said else None for value, said in zip(values, meant, strict=True))


def _light(data: bytes | None) -> tuple[int, int] | None:
    """AVContentLightMetadata: two unsigned integers."""
    return None if data is None else struct.unpack_from("=2I", data)
