"""Reading a whole file once: every packet goes to what gathers its stream."""

from __future__ import annotations

from typing import Any

import attrs
import av.error

from rave_trio.media._libav import reason
from rave_trio.media.compare.measures import Sum, sum_of
from rave_trio.media.compare.tracks import Track
from rave_trio.media.compare.video import Frames
from rave_trio.media.probe import MediaInfo


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
    damage, late_streams = [], False
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
                pieces.append((f"attachment {stream.name}", f"{stream.mimetype}, {sum_of(stream.data)}"))
            elif info.kind not in ("timecode", "chapters") and info.index != media.video.index:
                tracks[info.index] = Track(stream, info)
        takers = {index: track.take for index, track in tracks.items()} | {i: cover.add for i, cover in covers.items()}
        takers[media.video.index] = frames.take
        try:
            for packet in container.demux():
                take = takers.get(packet.stream.index)
                if take is not None and (packet.size or packet.dts is not None):
                    take(packet)
        except av.error.FFmpegError as error:
            damage.append(f"the container is damaged after {frames.where()}: {reason(error)}")
        except IndexError:  # PyAV has no place for streams that libav finds while reading, and trips at the very end
            late_streams = True
        frames.take(None)
        chapters = tuple(container.chapters())
    if media.cut_short:
        damage.append("the file ends before its container says")
    if frames.failures:
        count, first = len(frames.failures), frames.failures[0]
        damage.append(f"packets of the video that cannot be decoded: {count}, the first {first}")
    pieces += [("cover art", cover.words or "nothing") for cover in covers.values()]
    return Contents(frames, tuple(tracks.values()), tuple(pieces), chapters, tuple(damage), late_streams)
