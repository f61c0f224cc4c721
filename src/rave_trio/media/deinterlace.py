"""Interlaced pictures made whole by libavfilter's bwdif: one picture out for each one in."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from functools import cache
from typing import Generic, TypeVar

import attrs
import av.error
from av.filter import Graph
from av.video.frame import VideoFrame

from rave_trio import errors
from rave_trio.media._libav import fraction, reason

Envelope = TypeVar("Envelope")


class Deinterlacer(Generic[Envelope]):
    """Turns pairs of fields into pictures of the time of the first field, whichever that is.

    ``everything``: all pictures are treated as interlaced, those without a flag as top field first; else those that are
    flagged interlaced are, and the others come out with the same samples.

    A picture needs the next one, so they come out one later, in order; the envelope given with each comes out beside
    it.  Times, colour tags, key frame flag and side data stay with their picture.  Frames pushed are given away.  All
    must have the size and the format of the first.  Not thread-safe; filters in the calling thread.
    """

    def __init__(self, everything: bool) -> None:
        self._deint = "all" if everything else "interlaced"
        self._graph: _Graph | None = None
        self._inside: deque[tuple[_Tags, Envelope]] = deque()
        self._count = 0
        self._alone: VideoFrame | None = None
        """The first picture, until there is a second."""

    def push(self, native: VideoFrame, envelope: Envelope) -> list[tuple[VideoFrame, Envelope]]:
        """Take a picture; returns those that are done, with their envelopes.

        Raises InputFormatUnsupported if the filter cannot treat pictures of this format or size.
        """
        if self._graph is None:
            self._graph = _open(native, self._deint)
        self._inside.append((_Tags.of(native), envelope))
        native.pts, native.time_base = self._count, _Graph.TIME_BASE
        self._alone = None if self._count else native
        self._count += 1
        return self._outside(self._graph.filter(native))

    def finish(self) -> list[tuple[VideoFrame, Envelope]]:
        """What is left after the last picture; nothing may be pushed any more."""
        if self._graph is None:
            return []
        if self._alone is not None:  # bwdif leaves a single picture as it is, but not one that is followed by itself
            self._alone.pts = self._count
        done = self._outside(self._graph.filter(self._alone))
        if self._inside:
            raise errors.FrameCountMismatch(
                f"the deinterlacer gave back {self._count - len(self._inside)} of {self._count} frames"
            )
        return done

    def _outside(self, pictures: list[VideoFrame]) -> list[tuple[VideoFrame, Envelope]]:
        if len(pictures) > len(self._inside):
            raise errors.FrameCountMismatch(f"the deinterlacer gave back more than {self._count} frames")
        done = []
        for picture in pictures:
            tags, envelope = self._inside.popleft()
            tags.put_on(picture)
            done.append((picture, envelope))
        return done


@cache
def supported(name: str, width: int = 16, height: int = 16) -> bool:
    """Whether pictures in the libav pixel format ``name`` can be deinterlaced as they are; the filter is asked."""
    try:
        graph = _Graph(VideoFrame(width, height, name), "all")
        trial = VideoFrame(width, height, name)
        trial.pts = 0
        return [picture.format.name for picture in (*graph.filter(trial), *graph.filter(None))] == [name]
    except (av.error.FFmpegError, ValueError):  # PyAV itself knows some formats by no name
        return False


def _open(native: VideoFrame, deint: str) -> _Graph:
    name = native.format.name
    if not supported(name):
        raise errors.InputFormatUnsupported(
            f"pictures in {name} cannot be deinterlaced", remedy="convert the input to planar YUV first"
        )
    try:
        return _Graph(native, deint)
    except av.error.FFmpegError as error:
        raise errors.InputFormatUnsupported(
            f"pictures of {native.width}x{native.height} {name} cannot be deinterlaced: {reason(error)}",
            remedy="use another program to deinterlace the input",
        ) from error


@attrs.frozen
class _Tags:
    """What the filter graph changes on its frames: it counts time its own way, and completes untagged colours."""

    pts: int | None
    duration: int
    time_base: Fraction | None
    colorspace: int
    color_range: int

    @classmethod
    def of(cls, native: VideoFrame) -> _Tags:
        return cls(native.pts, native.duration, fraction(native.time_base), native.colorspace, native.color_range)

    def put_on(self, picture: VideoFrame) -> None:
        picture.pts, picture.duration = self.pts, self.duration
        if self.time_base is not None:
            picture.time_base = self.time_base
        picture.colorspace, picture.color_range = self.colorspace, self.color_range


class _Graph:
    """buffer -> bwdif -> buffersink, for frames like ``first``.

    The source is not told a frame rate: with one, libavfilter moves closed captions from frame to frame.
    """

    TIME_BASE = Fraction(1, 1000)

    def __init__(self, first: VideoFrame, deint: str) -> None:
        self._graph = Graph()
        self._graph.threads = 1
        self._source = self._graph.add(
            "buffer",
            video_size=f"{first.width}x{first.height}",
            pix_fmt=first.format.name,
            time_base=str(self.TIME_BASE),
            pixel_aspect="1/1",
            colorspace=str(int(first.colorspace)),
            range=str(int(first.color_range)),
        )
        bwdif = self._graph.add("bwdif", mode="send_frame", parity="auto", deint=deint)
        self._sink = self._graph.add("buffersink")
        self._graph.link_nodes(self._source, bwdif, self._sink).configure()

    def filter(self, native: VideoFrame | None) -> list[VideoFrame]:
        """Push a frame, or None at the end, and pull all that is ready."""
        self._source.push(native)
        ready: list[VideoFrame] = []
        while True:
            try:
                picture = self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return ready
            assert isinstance(picture, VideoFrame)
            ready.append(picture)
