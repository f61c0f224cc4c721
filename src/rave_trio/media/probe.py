"""Look into a media file and say what is there, or why it cannot be used."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import av
import av.error
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from rave_trio import errors
from rave_trio.frames import SurfaceDescriptor
from rave_trio.media import picture
from rave_trio.media._libav import DAMAGED_TAGS, describe_format, fraction, reason
from rave_trio.media.extent import is_cut_short
from rave_trio.media.hdr import HdrMetadata
from rave_trio.media.hdr import read as read_hdr
from rave_trio.media.sequence import ImageSequence, check_sequence

if TYPE_CHECKING:
    from av.container.core import Chapter

FALLBACK_RATE = Fraction(25)

FAR_SIGHTED = {"probesize": "50000000", "analyzeduration": "20000000"}
"""Bytes and microseconds in which streams that a header does not announce (FLV, MPEG) are looked for."""

PROGRESSIVE = (0, 1)
"""libav's field orders that are not interlaced: unknown and progressive."""


@attrs.frozen
class StreamInfo:
    """One stream of a file.

    ``kind`` is video, audio, subtitle, attachment, cover (one picture), timecode (a track that repeats the tag of the
    video), chapters (a track with the chapters' titles) or data.
    """

    index: int
    kind: str
    codec: str
    time_base: Fraction | None = None
    language: str | None = None
    title: str | None = None
    detail: str = ""
    tags: dict[str, str] = attrs.field(factory=dict, eq=False)
    flags: tuple[str, ...] = ()
    """Its dispositions, by libav's names."""


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
    display_matrix: picture.DisplayMatrix | None = None
    """How the picture is turned and mirrored for display; None if it is upright."""
    hdr: HdrMetadata | None = None
    interlaced: bool = False
    """Whether the stream or its first picture is flagged interlaced."""
    captioned: bool = False
    """Whether its first picture carries closed captions."""
    uncarried: tuple[str, ...] = ()
    """What the first picture says, in words, that cannot be carried over."""


@attrs.frozen
class MediaInfo:
    """A media file as probed; times in seconds, size in bytes."""

    path: Path
    format: str
    size: int
    duration: float | None
    streams: tuple[StreamInfo, ...]
    video: VideoInfo
    chapters: tuple[Chapter, ...]
    """As libav gives them: id, start, end, time_base, metadata."""
    cut_short: bool
    """Whether the file ends before its container's framing says so."""
    first_number: int | None = None
    """The number of the first picture, if the input is an image sequence."""
    frame_rate: Fraction | None = None
    """The rate that was asked for, of an image sequence."""
    tags: dict[str, str] = attrs.field(factory=dict, eq=False)
    """Of the file as a whole."""

    def open(self) -> av.container.InputContainer:
        """Open it again for demuxing; the caller closes it."""
        return open_input(self.path, self.frame_rate)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        surface = self.video.surface
        return {
            "path": str(self.path),
            "format": self.format,
            "size": self.size,
            "duration": self.duration,
            "chapters": len(self.chapters),
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
                "interlaced": self.video.interlaced,
                "display_matrix": self.video.display_matrix,
                "hdr": self.video.hdr and attrs.asdict(self.video.hdr, value_serializer=_plain),
            },
            "streams": [attrs.asdict(stream) for stream in self.streams],
        }


def _plain(_owner: object, _field: object, value: Any) -> Any:
    return float(value) if isinstance(value, Fraction) else value


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


def open_input(path: Path, frame_rate: Fraction | None = None) -> av.container.InputContainer:
    """Open a file, or an image sequence of ``frame_rate``, for demuxing; or raise the InputError that says why not.

    The caller closes it.
    """
    sequence = ImageSequence.of(path)
    if sequence is not None:
        first = check_sequence(sequence, path)[0]
        check_readable(sequence.path(first))
        how = {"framerate": str(frame_rate or FALLBACK_RATE), "start_number": str(first)}
        name, demuxer = sequence.libav_pattern, "image2"
    else:
        check_readable(path)
        # An absolute path is never taken for a protocol, whatever colons the name has.
        name, demuxer, how = str(path.absolute()), None, FAR_SIGHTED
    try:
        container: av.container.InputContainer = av.open(name, "r", format=demuxer, options=how, **DAMAGED_TAGS)
    except PermissionError as error:
        raise errors.InputUnreadable(f"{path} may not be read") from error
    except (av.error.FFmpegError, OSError) as error:
        if sequence is not None:
            raise errors.InputNotMedia(f"{path} does not name pictures that can be read: {reason(error)}") from error
        raise _unusable(path, f"is not a media file that can be read: {reason(error)}") from error
    return container


def _unusable(path: Path, why: str) -> errors.InputError:
    if path.is_file() and is_cut_short(path):
        return errors.InputTruncated(f"{path} is cut short and cannot be read without its end")
    return errors.InputNotMedia(f"{path} {why}")


def probe(path: Path, *, video_stream: int | None = None, frame_rate: Fraction | None = None) -> MediaInfo:
    """What is inside ``path``, a file or the pattern of an image sequence.  Decodes one picture.  Blocking.

    ``video_stream`` is the index of the stream to work on, by default the one that libav takes for the best;
    ``frame_rate`` is that of an image sequence, by default 25.

    Raises an :class:`~rave_trio.errors.InputError` for a missing, empty or unreadable file, one that is not media, and
    one without video; UsageError for a stream that is not video.
    """
    sequence = ImageSequence.of(path)
    if frame_rate is not None and sequence is None:
        raise errors.UsageError(
            "a frame rate can only be given to an image sequence", remedy="leave out --frame-rate: a video has its own"
        )
    numbers = sequence.numbers() if sequence else []
    files = [sequence.path(number) for number in numbers] if sequence else [path]
    with open_input(path, frame_rate) as container:
        chapters = tuple(container.chapters())
        streams = tuple(_stream_info(stream, container.format.name) for stream in container.streams)
        chosen = _choose(path, container, streams, video_stream)
        duration = None if container.duration is None else container.duration / av.time_base
        return MediaInfo(
            path=path,
            format=container.format.name,
            size=sum(file.stat().st_size for file in files),
            duration=duration,
            streams=streams,
            video=_video_info(path, container, chosen, duration, len(numbers) or None),
            chapters=chapters,
            cut_short=sequence is None and is_cut_short(path),
            first_number=numbers[0] if numbers else None,
            frame_rate=frame_rate,
            tags=dict(container.metadata),
        )


def _choose(path: Path, container: Any, streams: tuple[StreamInfo, ...], wanted: int | None) -> VideoStream:
    """The stream to work on."""
    videos = [stream.index for stream in streams if stream.kind == "video"]
    if not videos:
        kinds = sorted({stream.kind for stream in streams}) or ["nothing"]
        raise errors.InputHasNoVideo(f"{path} has no video stream, only {', '.join(kinds)}")
    if wanted is not None and wanted not in videos:
        raise errors.UsageError(
            f"stream #{wanted} of {path} is not video", remedy=f"give --video-stream {'|'.join(map(str, videos))}"
        )
    best = container.streams.best("video")
    index = best.index if best is not None and best.index in videos else videos[0]
    chosen = container.streams[index if wanted is None else wanted]
    assert isinstance(chosen, VideoStream)
    return chosen


def _stream_info(stream: Any, container: str) -> StreamInfo:
    context = stream.codec_context
    match stream.type if context is not None else "unknown":
        case "video":
            detail = f"{context.width}x{context.height} {context.pix_fmt}"
        case "audio":
            detail = f"{context.sample_rate} Hz {context.layout.name}"
        case _:
            detail = stream.metadata.get("filename", "")
    named = stream.name if stream.type == "data" else stream.metadata.get("mimetype")
    language = stream.metadata.get("language")
    return StreamInfo(
        index=stream.index,
        kind=_kind(stream, container),
        codec=context.codec.canonical_name if context is not None else named or "unknown",
        time_base=fraction(stream.time_base),
        language=None if language == "und" else language,
        title=stream_title(stream.metadata),
        detail=detail,
        tags=dict(stream.metadata),
        flags=tuple(flag.name for flag in Disposition if flag & stream.disposition and flag.name),
    )


def stream_title(tags: dict[str, str]) -> str | None:
    """A stream's title: MP4 and MOV call it name."""
    return tags.get("title") or tags.get("name")


def _kind(stream: Any, container: str) -> str:
    if stream.type == "video" and stream.disposition & Disposition.attached_pic:
        return "cover"
    if stream.type == "data" and container.startswith("mov"):
        if stream.discard == Discard.all:  # libav reads the chapters from it and wants it to be left alone
            return "chapters"
        if "timecode" in stream.metadata:
            return "timecode"
    return stream.type or "unknown"


def _own_duration(stream: VideoStream) -> float | None:
    """Seconds of the stream alone: from its header, or the tag that Matroska muxers write."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    try:
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except (KeyError, ValueError):
        return None


def _video_info(
    path: Path, container: Any, stream: VideoStream, duration: float | None, frames: int | None
) -> VideoInfo:
    context = stream.codec_context
    if context is None:
        raise errors.InputFormatUnsupported(f"{path} has video of a kind that cannot be decoded here")
    if not context.width or not context.height or not context.pix_fmt:
        raise _unusable(path, "has a video stream that says neither its size nor its pixel format")
    time_base = fraction(stream.time_base)
    if time_base is None:
        raise _unusable(path, "has a video stream without a time base")
    rate = fraction(stream.average_rate) or fraction(stream.guessed_rate) or FALLBACK_RATE
    frames = frames or stream.frames or None
    duration = _own_duration(stream) or duration
    if frames is None and duration is not None:
        frames = max(1, round(duration * rate))
    location = picture.chroma_location_of(stream)
    aspect = fraction(stream.sample_aspect_ratio)
    surface = SurfaceDescriptor(
        width=context.width,
        height=context.height,
        pixel_format=describe_format(context.pix_fmt),
        color=picture.color_of(context, location),
        sample_aspect_ratio=aspect,
    )
    flagged = context.field_order not in PROGRESSIVE
    start = stream.start_time or 0
    found = picture.first_picture(container, stream)
    known = VideoInfo(stream.index, context.codec.canonical_name, surface, time_base, rate, frames, start)
    if found is None:
        return attrs.evolve(known, interlaced=flagged)
    return attrs.evolve(
        known,
        surface=picture.surface_of(found, location, aspect),
        display_matrix=picture.display_matrix_of(found),
        hdr=read_hdr(found),
        interlaced=flagged or found.interlaced_frame,
        captioned=picture.captions_of(found) is not None,
        uncarried=tuple(picture.uncarried(found)),
    )
