"""Reading a whole file once: every packet goes to what gathers its stream."""

from __future__ import annotations

from typing import Any

import attrs
import av.error

from rave_trio.media._libav import demux, has_late_streams, reason
from rave_trio.media.compare.measures import Sum, sum_of
from rave_trio.media.compare.tracks import Track
from rave_trio.media.compare.video import Frames
from rave_trio.media.probe import MediaInfo
from rave_trio.media.sequence import ImageSequence
from rave_trio.media.tags import FILE_KEYS, own_tags


@attrs.frozen
class Contents:
    """What a file carries beside the facts that probing shows.

    ``pieces`` are cover art and attachments: what each is called and what is in it, in words.  ``damage`` says what
    kept part of the file from being read.
    """

    frames: Frames
    tracks: tuple[Track, ...]
    pieces: tuple[tuple[str, str], ...]
    chapters: tuple[Any, ...]
    damage: tuple[str, ...]
    late_streams: bool


def read(media: MediaInfo) -> Contents:
    """Read all of a file.  Blocking, for as long as decoding its video takes.  Damage does not raise."""
    damage = []
    with media.open() as container:
        frames = Frames(container.streams[media.video.index], media.video)
        tracks: dict[int, Track] = {}
        covers: dict[int, Sum] = {}
        pieces = []
        for info in media.streams:
            stream: Any = container.streams[info.index]
            if info.kind == "cover":
                covers[info.index] = Sum()
            elif info.kind == "attachment":
                words = f"{stream.mimetype}, {sum_of(stream.data)}"
                pieces.append((f"attachment {stream.name}", words + _description(info.tags)))
            elif info.kind not in ("timecode", "chapters") and info.index != media.video.index:
                tracks[info.index] = Track(stream, info)
        takers = {index: track.take for index, track in tracks.items()} | {i: cover.add for i, cover in covers.items()}
        takers[media.video.index] = frames.take
        try:
            for packet in demux(container):
                take = takers.get(packet.stream.index)
                if take is not None and (packet.size or packet.dts is not None):
                    take(packet)
        except av.error.FFmpegError as error:
            damage.append(f"the container is damaged after {frames.where()}: {reason(error)}")
        late_streams = has_late_streams(container)
        frames.take(None)
        chapters = tuple(container.chapters())
    sequence = ImageSequence.of(media.path)
    if sequence is not None and len(sequence.numbers()) != len(frames.times):
        damage.append(f"of {len(sequence.numbers())} pictures {len(frames.times)} can be read")
    if media.cut_short:
        damage.append("the file ends before its container says")
    if frames.failures:
        count, first = len(frames.failures), frames.failures[0]
        damage.append(f"packets of the video that cannot be decoded: {count}, the first {first}")
    for index, cover in covers.items():
        pieces.append(("cover art", (cover.words or "nothing") + _description(media.streams[index].tags)))
    return Contents(frames, tuple(tracks.values()), tuple(pieces), chapters, tuple(damage), late_streams)


def _description(tags: dict[str, str]) -> str:
    """What a piece says about itself, in words; its name and its type are told elsewhere, or not at all."""
    said = {key.lower(): value for key, value in own_tags(tags).items()}
    return "".join(f", {key} {said[key]!r}" for key in sorted(said.keys() - FILE_KEYS))
