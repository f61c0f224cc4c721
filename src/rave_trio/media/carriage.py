"""What becomes of each of the input's streams: decided before the first frame, carried out when publishing."""

from __future__ import annotations

import contextlib
import enum
import io
from collections.abc import Sequence
from typing import Any

import attrs
import av
import av.error
from av.container import OutputContainer

from rave_trio import errors
from rave_trio.media.containers import CONTAINERS, IMAGES, Container
from rave_trio.media.encoders import ENCODERS, EncoderSettings, add_encoded_stream, on_cpu
from rave_trio.media.probe import MediaInfo, StreamInfo
from rave_trio.media.subtitles import converted_codec, lossy

COVER_CODECS = ("mjpeg", "png", "bmp")
"""Pictures that an MP4 file can hold as its cover."""


USUAL_LAYOUTS = {"1 channels": "mono", "2 channels": "stereo", "6 channels": "5.1", "8 channels": "7.1"}
"""libav's names for sound of which only the number of channels is known, and what is usually meant."""


class Fate(enum.StrEnum):
    """What is done with a stream."""

    UPSCALED = "upscaled"
    COPIED = "copied"
    CONVERTED = "converted"
    ATTACHED = "attached"
    """Cover art as a file in the container."""
    IMPLIED = "implied"
    """Written again by the muxer from what it is told anyway: chapter titles, the timecode tag."""
    DROPPED = "dropped"


@attrs.frozen
class Carriage:
    """One stream and what is done with it.  ``codec`` is what it will be in the output."""

    stream: StreamInfo
    fate: Fate
    codec: str
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"index": self.stream.index, "kind": self.stream.kind, "fate": self.fate.value, "codec": self.codec}


def plan_carriage(
    media: MediaInfo, container: Container, settings: EncoderSettings, *, drop_unsupported: bool = False
) -> tuple[Carriage, ...]:
    """The fate of every stream of ``media`` in ``container``, in the input's order.  Blocking.

    The muxer itself is asked, with headers written to memory: libav's own tables promise more than its muxers keep.

    Raises ContainerRejectsStream, naming every stream that the container cannot hold and the containers that could,
    unless ``drop_unsupported``.
    """
    if not drop_unsupported:
        _check_aspect(container, settings)
    with media.open() as source:
        planned = _plan(media, source, container, settings)
        lost = [carriage.stream for carriage in planned if carriage.fate is Fate.DROPPED]
        if not lost or drop_unsupported:
            _check_together(media, source, container, settings, planned)
            return planned
        fitting = [
            other.extension
            for other in CONTAINERS.values()
            if all(c.fate is not Fate.DROPPED for c in _plan(media, source, other, settings))
        ]
    video = [stream for stream in lost if stream.index == media.video.index]
    what = ", ".join(f"stream #{s.index} ({s.kind}, {s.codec})" for s in lost)
    if video:
        what = f"the video as {ENCODERS[settings.encoder].codec}"
    remedies = [f"write to {' or '.join(fitting)}, which can hold all of it"] if fitting else []
    remedies += ["use another --codec"] if video else ["go on without it with --drop-unsupported"]
    raise errors.ContainerRejectsStream(
        f"{container.extension} cannot hold {what} of {media.path}", remedy=", or ".join(remedies)
    )


def _check_aspect(container: Container, settings: EncoderSettings) -> None:
    """AV1 has no place for it, and PyAV no way to tell it to Matroska's muxer."""
    aspect, codec = settings.surface.sample_aspect_ratio, ENCODERS[settings.encoder].codec
    if codec == "av1" and container.muxer in ("matroska", "webm") and aspect not in (None, 1):
        raise errors.ContainerRejectsStream(
            f"{container.extension} cannot hold the sample aspect ratio {aspect} with the video as {codec}",
            remedy="use --codec libx265 in .mkv, write to .mp4, or go on with square pixels with --drop-unsupported "
            "(with --size, --square-pixels makes them so)",
        )


def _plan(media: MediaInfo, source: Any, container: Container, settings: EncoderSettings) -> tuple[Carriage, ...]:
    return tuple(_carriage(media, source, container, settings, stream) for stream in media.streams)


def _carriage(
    media: MediaInfo, source: Any, container: Container, settings: EncoderSettings, stream: StreamInfo
) -> Carriage:
    named = f"stream #{stream.index} ({stream.kind}, {stream.codec})"
    dropped = Carriage(stream, Fate.DROPPED, stream.codec, f"{named} is left out: {container.extension} cannot hold it")
    if stream.index == media.video.index:
        codec = ENCODERS[settings.encoder].codec
        fits = container is IMAGES or _takes(container.muxer, settings, [])
        return Carriage(stream, Fate.UPSCALED, codec) if fits else attrs.evolve(dropped, codec=codec)
    if container is IMAGES:
        return dropped
    if stream.kind == "attachment" and container.covers != "attachment":  # WebM's muxer leaves them out silently
        return dropped
    if stream.kind == "data" and not (media.format.startswith("mov") and container.edit_lists):
        return dropped  # what it is would not be known any more
    if stream.kind == "chapters" or (stream.kind == "timecode" and "timecode" in _tags(source, media)):
        return Carriage(stream, Fate.IMPLIED, stream.codec)
    if stream.kind == "cover":
        if container.covers == "attachment":
            return Carriage(stream, Fate.ATTACHED, stream.codec)
        picture = source.streams[stream.index].codec_context
        fits = container.covers == "stream" and stream.codec in COVER_CODECS and picture.width > 0
        return Carriage(stream, Fate.COPIED, stream.codec) if fits else dropped
    target = converted_codec(stream.codec, container.muxer) if stream.kind == "subtitle" else None
    if target is not None:
        loss = lossy(stream.codec, target)
        note = f"{named} becomes {target}" + (f" and loses {loss}" if loss else "")
        return Carriage(stream, Fate.CONVERTED, target, note)
    if _takes(container.muxer, settings, [source.streams[stream.index]]):
        return Carriage(stream, Fate.COPIED, stream.codec)
    return dropped


def _tags(source: Any, media: MediaInfo) -> set[str]:
    return {key.lower() for key in (*source.streams[media.video.index].metadata, *source.metadata)}


def _check_together(
    media: MediaInfo, source: Any, container: Container, settings: EncoderSettings, planned: Sequence[Carriage]
) -> None:
    """Some containers take each of two streams and not both."""
    copies = [source.streams[c.stream.index] for c in planned if c.fate is Fate.COPIED and c.stream.kind != "cover"]
    if container is not IMAGES and not _takes(container.muxer, settings, copies):
        raise errors.ContainerRejectsStream(f"{container.extension} cannot hold all streams of {media.path} together")


def _takes(muxer: str, settings: EncoderSettings, copies: Sequence[Any]) -> bool:
    trial = av.open(io.BytesIO(), "w", format=muxer)
    try:
        add_encoded_stream(trial, on_cpu(settings))
        for stream in copies:
            add_copy(trial, stream)
        trial.start_encoding()
        trial.close()  # some refuse only when they write their index
    except (av.error.FFmpegError, OSError, ValueError):
        with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
            trial.close()
        return False
    return True


def add_copy(out: OutputContainer, stream: Any) -> Any:
    """A stream in ``out`` for the packets of ``stream`` as they are.

    Matroska says how many sound channels there are and not which; MP4 must say.  The usual ones are taken.
    """
    copy = out.add_stream_from_template(stream, opaque=True)
    if stream.type == "audio":
        layout = USUAL_LAYOUTS.get(stream.codec_context.layout.name)
        if layout is not None:
            copy.codec_context.layout = layout
    return copy
