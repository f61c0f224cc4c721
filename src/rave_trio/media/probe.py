"""Look into a media file and say what is there, or why it cannot be used."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import av
import av.error
from av.video.stream import VideoStream

from rave_trio import errors
from rave_trio.frames import ColorRange, ColorSpec, SurfaceDescriptor
from rave_trio.media._libav import describe_format, reason
from rave_trio.media.extent import is_cut_short

FALLBACK_RATE = Fraction(25)


@attrs.frozen
class StreamInfo:
    """One stream of a file.  ``kind`` is video, audio, subtitle, attachment or data."""

    index: int
    kind: str
    codec: str
    time_base: Fraction | None = None
    language: str | None = None
    title: str | None = None
    detail: str = ""


@attrs.frozen
class VideoInfo:
    """The video stream that will be worked on.  ``frames`` is an estimate unless the container counts them."""

    index: int
    codec: str
    surface: SurfaceDescriptor
    time_base: Fraction
    rate: Fraction
    frames: int | None
    start: int


@attrs.frozen
class MediaInfo:
    """A media file as probed; times in seconds, size in bytes."""

    path: Path
    format: str
    size: int
    duration: float | None
    streams: tuple[StreamInfo, ...]
    video: VideoInfo
    chapters: int
    cut_short: bool
    """Whether the file ends before its container's framing says so."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        surface = self.video.surface
        return {
            "path": str(self.path),
            "format": self.format,
            "size": self.size,
            "duration": self.duration,
            "chapters": self.chapters,
            "cut_short": self.cut_short,
            "video": {
                "index": self.video.index,
                "codec": self.video.codec,
                "width": surface.width,
                "height": surface.height,
                "pixel_format": surface.pixel_format.name,
                "bit_depth": surface.pixel_format.bit_depth,
                "color": attrs.asdict(surface.color),
                "sample_aspect_ratio": str(surface.sample_aspect_ratio or "unknown"),
                "time_base": str(self.video.time_base),
                "rate": str(self.video.rate),
                "frames": self.video.frames,
            },
            "streams": [attrs.asdict(stream) for stream in self.streams],
        }


def check_readable(path: Path) -> None:
    """Raise the InputError that fits if ``path`` is not a regular, non-empty, readable file."""
    try:
        found = path.exists()
    except PermissionError as error:
        raise errors.InputUnreadable(f"the folder of {path} may not be entered") from error
    except OSError as error:
        raise errors.InputNotFound(f"{path} cannot be a file: {error.strerror}") from error
    if not found:
        raise errors.InputNotFound(f"there is no file {path}")
    if path.is_dir():
        raise errors.InputIsDirectory(f"{path} is a folder")
    if not os.access(path, os.R_OK):
        raise errors.InputUnreadable(f"{path} may not be read")
    if not path.is_file():
        raise errors.InputUnreadable(f"{path} is not a regular file", remedy="copy the video to a file first")
    if path.stat().st_size == 0:
        raise errors.InputEmpty(f"{path} is empty")


def open_input(path: Path) -> av.container.InputContainer:
    """Open ``path`` for demuxing, or raise the InputError that says why not.  The caller closes it."""
    check_readable(path)
    try:
        # An absolute path is never taken for a protocol, whatever colons the name has.
        return av.open(path.absolute(), "r", metadata_errors="replace")
    except PermissionError as error:
        raise errors.InputUnreadable(f"{path} may not be read") from error
    except (av.error.FFmpegError, OSError) as error:
        raise _unusable(path, f"is not a media file that can be read: {reason(error)}") from error


def _unusable(path: Path, why: str) -> errors.InputError:
    if is_cut_short(path):
        return errors.InputTruncated(f"{path} is cut short and cannot be read without its end")
    return errors.InputNotMedia(f"{path} {why}")


def probe(path: Path) -> MediaInfo:
    """What is inside ``path``.  Blocking.

    Raises an :class:`~rave_trio.errors.InputError` for a missing, empty or unreadable file, one that is not media, and
    one without video.
    """
    with open_input(path) as container:
        best = container.streams.best("video")
        if not isinstance(best, VideoStream) or best.disposition & best.disposition.attached_pic:
            kinds = sorted({str(stream.type) for stream in container.streams}) or ["nothing"]
            raise errors.InputHasNoVideo(f"{path} has no video stream, only {', '.join(kinds)}")
        duration = None if container.duration is None else container.duration / av.time_base
        return MediaInfo(
            path=path,
            format=container.format.name,
            size=container.size,
            duration=duration,
            streams=tuple(_stream_info(stream) for stream in container.streams),
            video=_video_info(path, best, duration),
            chapters=len(container.chapters()),
            cut_short=is_cut_short(path),
        )


def _stream_info(stream: Any) -> StreamInfo:
    context = stream.codec_context
    match stream.type if context is not None else "unknown":
        case "video":
            detail = f"{context.width}x{context.height} {context.pix_fmt}"
        case "audio":
            detail = f"{context.sample_rate} Hz {context.layout.name}"
        case _:
            detail = stream.metadata.get("filename", "")
    return StreamInfo(
        index=stream.index,
        kind=stream.type or "unknown",
        codec=context.codec.canonical_name if context is not None else stream.metadata.get("mimetype", "unknown"),
        time_base=stream.time_base,
        language=stream.metadata.get("language"),
        title=stream.metadata.get("title"),
        detail=detail,
    )


def _own_duration(stream: VideoStream) -> float | None:
    """Seconds of the stream alone: from its header, or the tag that Matroska muxers write."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    try:
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except (KeyError, ValueError):
        return None


def _video_info(path: Path, stream: VideoStream, duration: float | None) -> VideoInfo:
    context = stream.codec_context
    if context is None:
        raise errors.InputFormatUnsupported(f"{path} has video of a kind that cannot be decoded here")
    if not context.width or not context.height or not context.pix_fmt:
        raise _unusable(path, "has a video stream that says neither its size nor its pixel format")
    if stream.time_base is None:
        raise _unusable(path, "has a video stream without a time base")
    rate = stream.average_rate or stream.guessed_rate or FALLBACK_RATE
    frames = stream.frames or None
    duration = _own_duration(stream) or duration
    if frames is None and duration is not None:
        frames = max(1, round(duration * rate))
    return VideoInfo(
        index=stream.index,
        codec=context.codec.canonical_name,
        surface=SurfaceDescriptor(
            width=context.width,
            height=context.height,
            pixel_format=describe_format(context.pix_fmt),
            color=ColorSpec(
                int(context.colorspace),
                int(context.color_primaries),
                int(context.color_trc),
                ColorRange(int(context.color_range)),
            ),
            sample_aspect_ratio=stream.sample_aspect_ratio or None,
        ),
        time_base=stream.time_base,
        rate=rate,
        frames=frames,
        start=stream.start_time or 0,
    )
