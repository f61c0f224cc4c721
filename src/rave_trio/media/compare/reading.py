"""Reading a whole file once: every packet goes to the reader of its stream."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error
from av.packet import Packet
from av.video.stream import VideoStream

from rave_trio import errors
from rave_trio.media._libav import reason
from rave_trio.media.compare.contents import Attachment, Chapter, Contents
from rave_trio.media.compare.labels import lower_keys
from rave_trio.media.compare.reading_picture import PictureReader, is_flush
from rave_trio.media.compare.reading_tracks import TrackReader
from rave_trio.media.compare.sums import Sum
from rave_trio.media.extent import is_cut_short
from rave_trio.media.probe import open_input


def read_contents(path: Path, *, video_stream: int | None = None, video_position: int | None = None) -> Contents:
    """Read all of ``path``.  Blocking, for as long as decoding its video takes.

    The video that counts is that of index ``video_stream``, else the one at ``video_position`` among those that are no
    cover art if there are so many, else the best.  Damage does not raise: it is told in the result.  Raises an
    :class:`~rave_trio.errors.InputError` for a file that cannot be used at all and a
    :class:`~rave_trio.errors.UsageError` where ``video_stream`` is no video.
    """
    with open_input(path) as container:
        stream = _choose(path, container, video_stream, video_position)
        return _Reader(path, container, stream).read()


def _choose(path: Path, container: Any, index: int | None, position: int | None) -> VideoStream:
    videos = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not videos:
        raise errors.InputHasNoVideo(f"{path} has no video stream")
    if index is not None:
        chosen = next((stream for stream in videos if stream.index == index), None)
        if chosen is None:
            raise errors.UsageError(
                f"stream #{index} of {path} is no video", remedy=f"rave-trio probe {path} lists the streams"
            )
    elif position is not None and position < len(videos):
        chosen = videos[position]
    else:
        best = container.streams.best("video")
        chosen = next((stream for stream in videos if best is not None and stream.index == best.index), videos[0])
    if chosen.codec_context is None:
        raise errors.InputFormatUnsupported(f"{path} has video of a kind that cannot be decoded here")
    assert isinstance(chosen, VideoStream)
    return chosen


def _is_cover(stream: Any) -> bool:
    return stream.type == "video" and bool(stream.disposition & stream.disposition.attached_pic)


class _Reader:
    """One file's reading."""

    def __init__(self, path: Path, container: Any, stream: VideoStream) -> None:
        self._path = path
        self._container = container
        self._picture = PictureReader(stream)
        self._tracks: dict[int, TrackReader] = {}
        self._covers: dict[int, Sum] = {}
        self._attachments: list[Attachment] = []
        self._timecodes: set[str] = set()
        self._timecode_tracks = 0
        self._damage: list[str] = []
        self._notes: list[str] = []
        self._chapters = tuple(_chapters(container))
        for other in container.streams:
            self._sort(other, is_picture=other.index == stream.index)

    def _sort(self, stream: Any, is_picture: bool) -> None:
        timecode = lower_keys(stream.metadata).get("timecode")
        if timecode is not None:
            self._timecodes.add(timecode)
        if is_picture:
            return
        if _is_cover(stream):
            self._covers[stream.index] = Sum()
        elif stream.type == "attachment":
            self._attachments.append(Attachment(stream.name or "", stream.mimetype or "", Sum.of(stream.data)))
        elif stream.type == "data" and timecode is not None:
            self._timecode_tracks += 1
        elif not self._is_chapter_text(stream):
            self._tracks[stream.index] = TrackReader(stream, self._container.metadata)

    def _is_chapter_text(self, stream: Any) -> bool:
        """Where MP4 and MOV keep the chapters' titles, unless no chapter came of it."""
        is_mov = "mov" in self._container.format.name.split(",")
        return is_mov and stream.type == "data" and stream.name == "bin_data" and bool(self._chapters)

    def read(self) -> Contents:
        for packet in self._packets():
            index = packet.stream.index
            if index == self._picture.index:
                self._picture.take(packet)
            elif is_flush(packet):
                continue
            elif index in self._covers:
                self._covers[index].add(packet)
            elif index in self._tracks:
                self._tracks[index].take(packet)
        self._picture.flush()
        if self._path.is_file() and is_cut_short(self._path):
            self._damage.append("the file ends before its container says")
        picture = self._picture.finish(self._path, self._container.metadata)
        tags = lower_keys(self._container.metadata)
        if "timecode" in tags:
            self._timecodes.add(tags.pop("timecode"))
        return Contents(
            path=self._path,
            format=self._container.format.name,
            tags=tags,
            chapters=self._chapters,
            picture=picture,
            tracks=tuple(track.finish() for track in self._tracks.values()),
            covers=tuple(cover.blob() for cover in self._covers.values()),
            attachments=tuple(self._attachments),
            timecodes=frozenset(self._timecodes),
            timecode_tracks=self._timecode_tracks,
            damage=(*self._damage, *self._picture.damage()),
            notes=(
                *self._notes,
                *self._picture.notes(),
                *(note for track in self._tracks.values() for note in track.notes()),
            ),
        )

    def _packets(self) -> Iterator[Packet[Any]]:
        try:
            yield from self._container.demux()
        except av.error.FFmpegError as error:
            self._damage.append(f"the container is damaged after {self._picture.where()}: {reason(error)}")
        except IndexError:  # PyAV has no place for streams that libav finds while reading, and trips at the very end
            self._notes.append("streams that begin late in the file are not compared")


def _chapters(container: Any) -> Iterator[Chapter]:
    for chapter in container.chapters():
        tick = chapter["time_base"] or Fraction(1, 1000)
        title = lower_keys(chapter["metadata"]).get("title")
        yield Chapter(title, chapter["start"] * tick, chapter["end"] * tick, tick)
