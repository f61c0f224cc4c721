"""Publishing: join the finished video with everything else the input carried and put the result in its place."""

from __future__ import annotations

import contextlib
import heapq
import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import av
import av.error
from av.packet import Packet

from rave_trio import errors
from rave_trio.media._libav import writing
from rave_trio.media.encoders import ENCODERS, MUXERS, EncoderSettings, add_encoded_stream
from rave_trio.media.parts import Part
from rave_trio.media.probe import MediaInfo, StreamInfo, open_input

COPIED_KINDS = ("audio", "subtitle", "attachment")

STALE_TAGS = ("DURATION", "ENCODER", "BPS", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS")
"""Beginnings of stream tags that describe the old picture's bits, not its content."""

KEEP_TIMES = {"avoid_negative_ts": "disabled"}
"""Muxers would otherwise shift every stream so that priming sound before time 0 gets a positive time."""

STRICT_MUXERS = ("mp4", "mov")
"""Muxers that refuse two packets of a stream with the same decode time."""

INTERLEAVING = 10
"""Seconds by which a container's streams may be apart in the file; libav's own muxers keep to it."""

LARGEST_TIME_SCALE = 2**31 - 1

MUXER_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder"}
"""Container tags that each muxer writes for itself."""


def copied_streams(media: MediaInfo) -> tuple[StreamInfo, ...]:
    """The streams that are taken over unchanged."""
    return tuple(s for s in media.streams if s.kind in COPIED_KINDS)


def check_container(media: MediaInfo, output: Path, settings: EncoderSettings) -> None:
    """Raise ContainerRejectsStream if the output's container does not take the video or a copied stream.

    The muxer itself is asked, with a header written to memory.
    """
    muxer = MUXERS[output.suffix.lower()]
    with open_input(media.path) as source:
        copies = [source.streams[stream.index] for stream in copied_streams(media)]
        if _takes(muxer, settings, copies):
            return
        refused = f"the video as {ENCODERS[settings.encoder].codec}"
        if _takes(muxer, settings, []):
            alone = (stream for stream in copies if not _takes(muxer, settings, [stream]))
            culprit = next(alone, None)
            refused = "all of these streams together"
            if culprit is not None:
                found = next(stream for stream in media.streams if stream.index == culprit.index)
                refused = f"stream #{found.index} ({found.kind}, {found.codec})"
        fitting = [extension for extension, other in MUXERS.items() if _takes(other, settings, copies)]
    remedy = f"write to {' or '.join(fitting)}, which can hold all of it" if fitting else "use another --codec"
    raise errors.ContainerRejectsStream(f"{output.suffix} cannot hold {refused} of {media.path}", remedy=remedy)


def _takes(muxer: str, settings: EncoderSettings, copies: Sequence[Any]) -> bool:
    trial = av.open(io.BytesIO(), "w", format=muxer)
    try:
        add_encoded_stream(trial, settings)
        for stream in copies:
            trial.add_stream_from_template(stream)
        trial.start_encoding()
    except (av.error.FFmpegError, OSError, ValueError):
        return False
    finally:
        with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
            trial.close()
    return True


@attrs.frozen
class Publication:
    """What is to be published: a part's video, and from ``media`` its other streams, tags and chapters.

    The streams of an incomplete run are cut where its video ends.  ``rotation`` is the input's, in degrees.
    """

    part: Part
    media: MediaInfo
    complete: bool = True
    video_only: bool = False
    rotation: int = 0


def publish(
    what: Publication,
    target: Path,
    *,
    workspace: Path,
    overwrite: bool,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Put the publication at ``target``.  Blocking.

    The file is made in ``workspace`` (same file system), synced and renamed: ``target`` either stays as it was or is
    whole.  ``tick`` is called for every packet and may raise.
    """
    made = workspace / f"published{target.suffix}"
    muxer = MUXERS[target.suffix.lower()]
    with open_input(what.media.path) as source, av.open(what.part.path) as video, writing(target, errors.MuxError):
        with av.open(made, "w", format=muxer, options=_muxer_options(what, muxer)) as out:
            video_stream, copies = _add_streams(what, source, video, out)
            packets = heapq.merge(
                _video_packets(what.part, video, video_stream),
                _source_packets(what, source, copies, out),
                key=_decode_time,
            )
            for packet in packets:
                tick()
                out.mux_one(packet)
        _sync(made)
        if not overwrite and target.exists():
            raise errors.OutputExists(f"{target} has come into being meanwhile")
        made.replace(target)
        _sync(target.parent)


def _muxer_options(what: Publication, muxer: str) -> dict[str, str]:
    """Settings under which the muxer keeps every stream's times.

    MP4 and MOV note where a stream starts in the movie's time scale: the least common multiple of the streams' makes
    all of the starts exact.
    """
    if muxer not in ("mp4", "mov"):
        return KEEP_TIMES
    scale = what.part.time_base.denominator
    for stream in copied_streams(what.media):
        if stream.time_base is not None:
            common = math.lcm(scale, stream.time_base.denominator)
            scale = common if common <= LARGEST_TIME_SCALE else scale
    return {**KEEP_TIMES, "movie_timescale": str(scale)}


def _add_streams(what: Publication, source: Any, video: Any, out: Any) -> tuple[Any, dict[int, Any]]:
    """Give ``out`` the input's tags, chapters and streams in order; returns the video's, and the copies by index."""
    out.metadata.update({k: v for k, v in source.metadata.items() if k not in MUXER_TAGS})
    out.set_chapters(source.chapters())
    copies: dict[int, Any] = {}
    video_stream = None
    for stream in source.streams:
        if stream.index == what.media.video.index:
            # Opaque: only the parameters matter; the encoder that made them need not exist for muxing.
            video_stream = out.add_stream_from_template(video.streams.video[0], opaque=True)
            video_stream.time_base = what.part.time_base
            video_stream.codec_context.framerate = what.media.video.rate
            video_stream.metadata.update(
                {k: v for k, v in stream.metadata.items() if not k.upper().startswith(STALE_TAGS)}
            )
            video_stream.disposition = stream.disposition
            if what.rotation:
                video_stream.set_display_rotation(what.rotation)
        elif stream.type in COPIED_KINDS and not what.video_only:
            copy = out.add_stream_from_template(stream)
            if stream.type != "attachment":
                copies[stream.index] = copy
                copy.metadata.update(stream.metadata)
                copy.disposition = stream.disposition
    return video_stream, copies


def _decode_time(packet: Packet[Any]) -> Fraction:
    assert packet.dts is not None
    return packet.dts * packet.time_base


def _video_packets(part: Part, video: Any, stream: Any) -> Iterator[Packet[Any]]:
    """The part's packets with their true times: pts by index, dts as far ahead as the reordering needs."""
    step = part.durations[0] if part.frames else 1
    count = 0
    for packet in video.demux(video=0):
        if packet.dts is None and packet.pts is None:
            continue
        ahead = count - part.reorder_delay
        index = packet.pts
        packet.pts = part.pts[index]
        packet.dts = part.pts[ahead] if ahead >= 0 else part.pts[0] + ahead * step
        packet.duration = part.durations[index]
        packet.time_base = part.time_base
        packet.stream = stream
        count += 1
        yield packet
    if count != part.frames:
        raise errors.FrameCountMismatch(f"the part holds {count} of the {part.frames} frames that were encoded")


def _source_packets(what: Publication, source: Any, copies: dict[int, Any], out: Any) -> Iterator[Packet[Any]]:
    if not copies:
        return
    until = None if what.complete else what.part.end
    clocks = {index: _Clock(strict=out.format.name in STRICT_MUXERS) for index in copies}
    # The video is read along for its times alone: streams may pause for long, it does not.
    for packet in source.demux([source.streams[index] for index in (what.media.video.index, *copies)]):
        if packet.dts is None:
            continue
        if until is not None and packet.dts * packet.time_base > until + INTERLEAVING:
            return
        if packet.stream.index not in copies:
            continue
        clocks[packet.stream.index].set(packet)
        if until is not None and packet.dts * packet.time_base >= until:
            continue
        packet.stream = copies[packet.stream.index]
        yield packet


class _Clock:
    """Keeps one stream's decode times rising where the input's do not, as in recordings that were joined.

    A jump back of more than a second is a new beginning: what follows is moved behind what was before.
    """

    def __init__(self, strict: bool) -> None:
        self._strict = strict
        self._shift = 0
        self._last: int | None = None
        self._duration = 1

    def set(self, packet: Packet[Any]) -> None:
        assert packet.dts is not None
        dts = packet.dts + self._shift
        if self._last is not None and dts < self._last + self._strict:
            if (self._last - dts) * packet.time_base > 1:
                self._shift += self._last + self._duration - dts
                dts = packet.dts + self._shift
            else:
                dts = self._last + self._strict
        if packet.pts is not None:
            packet.pts = max(packet.pts + self._shift, dts)
        packet.dts = self._last = dts
        self._duration = packet.duration or 1


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
