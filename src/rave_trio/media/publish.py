"""Publishing: join the finished video with everything else the input carried and put the result in its place."""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.packet import Packet

from rave_trio import errors
from rave_trio.media._libav import codecs_of, writing
from rave_trio.media.encoders import MUXERS
from rave_trio.media.parts import Part
from rave_trio.media.probe import MediaInfo, StreamInfo, open_input

COPIED_KINDS = ("audio", "subtitle", "attachment")

STALE_TAGS = ("DURATION", "ENCODER", "BPS", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS")
"""Beginnings of stream tags that describe the old picture's bits, not its content."""

KEEP_TIMES = {"avoid_negative_ts": "disabled"}
"""Muxers would otherwise shift every stream so that priming sound before time 0 gets a positive time."""

LARGEST_TIME_SCALE = 2**31 - 1

MUXER_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder"}
"""Container tags that each muxer writes for itself."""


def copied_streams(media: MediaInfo) -> tuple[StreamInfo, ...]:
    """The streams that are taken over unchanged."""
    return tuple(s for s in media.streams if s.kind in COPIED_KINDS)


def check_container(media: MediaInfo, output: Path, video_codec: str) -> None:
    """Raise ContainerRejectsStream if the output's container cannot hold the video or a copied stream."""
    muxer = MUXERS[output.suffix.lower()]
    needed = [(video_codec, "the video", "")] + [
        (s.codec, f"stream #{s.index} ({s.kind}, {s.codec})", s.kind) for s in copied_streams(media)
    ]
    for codec, what, kind in needed:
        if _holds(muxer, codec, kind):
            continue
        fitting = [ext for ext, m in MUXERS.items() if all(_holds(m, c, k) for c, _, k in needed)]
        remedy = f"write to {' or '.join(fitting)}, which can hold all of it" if fitting else None
        raise errors.ContainerRejectsStream(
            f"{output.suffix} cannot hold {what}{'' if kind else f' as {codec}'} of {media.path}", remedy=remedy
        )


def _holds(muxer: str, codec: str, kind: str) -> bool:
    return muxer == "matroska" if kind == "attachment" else codec in codecs_of(muxer)


def publish(
    part: Part,
    media: MediaInfo,
    target: Path,
    *,
    workspace: Path,
    overwrite: bool,
    complete: bool = True,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Write ``target``: the part's video, and from the input its other streams, tags and chapters.  Blocking.

    The file is made in ``workspace`` (same file system), synced and renamed: ``target`` either stays as it was or is
    whole. An incomplete run's streams are cut where its video ends.  ``tick`` is called for every packet and may
    raise.
    """
    made = workspace / f"published{target.suffix}"
    with open_input(media.path) as source, av.open(part.path) as video, writing(target, errors.MuxError):
        muxer = MUXERS[target.suffix.lower()]
        with av.open(made, "w", format=muxer, options=_muxer_options(part, media, muxer)) as out:
            _copy_everything(part, media, source, video, out, None if complete else part.end, tick)
        _sync(made)
        if not overwrite and target.exists():
            raise errors.OutputExists(f"{target} has come into being meanwhile")
        made.replace(target)
        _sync(target.parent)


def _muxer_options(part: Part, media: MediaInfo, muxer: str) -> dict[str, str]:
    """Settings under which the muxer keeps every stream's times.

    MP4 and MOV note where a stream starts in the movie's time scale: the least common multiple of the streams' makes
    all of the starts exact.
    """
    if muxer not in ("mp4", "mov"):
        return KEEP_TIMES
    scale = part.time_base.denominator
    for stream in copied_streams(media):
        if stream.time_base is not None:
            common = math.lcm(scale, stream.time_base.denominator)
            scale = common if common <= LARGEST_TIME_SCALE else scale
    return {**KEEP_TIMES, "movie_timescale": str(scale)}


def _copy_everything(
    part: Part, media: MediaInfo, source: Any, video: Any, out: Any, until: Fraction | None, tick: Callable[[], None]
) -> None:
    out.metadata.update({k: v for k, v in source.metadata.items() if k not in MUXER_TAGS})
    out.set_chapters(source.chapters())
    copies: dict[int, Any] = {}
    video_stream = None
    for stream in source.streams:
        if stream.index == media.video.index:
            # Opaque: only the parameters matter; the encoder that made them need not exist for muxing.
            video_stream = out.add_stream_from_template(video.streams.video[0], opaque=True)
            video_stream.time_base = part.time_base
            video_stream.codec_context.framerate = media.video.rate
            video_stream.metadata.update(
                {k: v for k, v in stream.metadata.items() if not k.upper().startswith(STALE_TAGS)}
            )
            video_stream.disposition = stream.disposition
        elif stream.type in COPIED_KINDS:
            copy = out.add_stream_from_template(stream)
            if stream.type != "attachment":
                copies[stream.index] = copy
                copy.metadata.update(stream.metadata)
                copy.disposition = stream.disposition
    assert video_stream is not None
    packets = heapq.merge(
        _video_packets(part, video, video_stream), _source_packets(source, copies, until), key=_decode_time
    )
    for packet in packets:
        tick()
        out.mux_one(packet)


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


def _source_packets(source: Any, copies: dict[int, Any], until: Fraction | None) -> Iterator[Packet[Any]]:
    if not copies:
        return
    for packet in source.demux([source.streams[index] for index in copies]):
        if packet.dts is None:
            continue
        if until is not None and packet.dts * packet.time_base >= until:
            continue
        packet.stream = copies[packet.stream_index]
        yield packet


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
