"""Parts: video-only files that hold contiguous runs of finished output frames.

A part is Matroska, so that a run that dies leaves something readable.  Matroska would round the frames' times, so a
part carries frame indices in the place of times (one index a millisecond) and the true times travel beside it.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from array import array
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import attrs
import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from rave_trio.color.samples import paint
from rave_trio.errors import EncodeError, MuxError, OutputNotWritable
from rave_trio.frames import Frame
from rave_trio.media._libav import writing
from rave_trio.media.encoders import EncoderSettings, add_encoded_stream

INDEX_TIME_BASE = Fraction(1, 1000)
"""Matroska's own: index i is written as i milliseconds, exactly."""

AT_ONCE = {"cluster_time_limit": "1", "flush_packets": "1"}
"""Matroska would hold back five thousand indices, its five seconds, or 5 MB: a frame may take as long as all these."""

DEEPEST_REORDER = 16
"""Frames by which H.264, HEVC and AV1 may at most reorder; keeps a part's dts below its pts."""


@attrs.frozen
class Part:
    """A finished part: ``pts[i]`` and ``durations[i]``, in ``time_base``, belong to its i-th frame in display order."""

    path: Path
    time_base: Fraction
    pts: array[int]
    durations: array[int]
    reorder_delay: int
    """Packets by which decoding order runs ahead of display order."""

    @property
    def frames(self) -> int:
        return len(self.pts)

    @property
    def end(self) -> Fraction:
        """When the last frame stops being shown, in seconds."""
        return (self.pts[-1] + self.durations[-1]) * self.time_base if self.pts else Fraction(0)


class PartWriter(Protocol):
    """What makes a part of frames: :class:`PartEncoder` and its like."""

    @property
    def part(self) -> Part:
        """The finished part; only after :meth:`finish`."""

    @property
    def packets(self) -> int:
        """Packets written so far."""

    def write(self, frame: Frame) -> None:
        """Encode one frame, which stays the caller's."""

    def finish(self) -> Part:
        """Flush the encoder and make the part whole."""

    def close(self) -> None:
        """Let go of everything.  Idempotent."""


class FrameTimes:
    """The true times of frames whose encoder only counts them, and the part that comes of them."""

    def __init__(self, settings: EncoderSettings) -> None:
        self.pts = array("q")
        self.durations = array("q")
        self._settings = settings
        self._part: Part | None = None

    def note(self, frame: Frame) -> int:
        """Note the next frame's time; returns its number."""
        self.pts.append(frame.pts)
        self.durations.append(frame.duration)
        return len(self.pts) - 1

    def take(self, frame: Frame, native: VideoFrame) -> VideoFrame:
        """Note the next frame's time; its picture gets its number instead."""
        native.pts, native.time_base = self.note(frame), 1 / self._settings.rate
        return native

    def finish(self, path: Path, reorder_delay: int = 0) -> Part:
        """The part of all frames noted."""
        self._part = Part(path, self._settings.time_base, self.pts, self.durations, reorder_delay)
        return self._part

    @property
    def finished(self) -> Part:
        """The same again; only after :meth:`finish`."""
        if self._part is None:
            raise ValueError("the part is not finished")
        return self._part


class PartFile:
    """The file of a part: one stream, whose packets come in decoding order with frame indices as their pts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packets = 0
        """How many were written so far."""
        self.reorder_delay = 0
        """By how many of them decoding order has run ahead of display order."""
        self._stream: VideoStream | None = None
        with writing(path, MuxError):
            container = av.open(path, "w", format="matroska", container_options=AT_ONCE)
        self._container: OutputContainer | None = container

    @property
    def container(self) -> OutputContainer:
        """Where the stream is added, before the first packet."""
        assert self._container is not None
        return self._container

    def take(self, stream: VideoStream) -> VideoStream:
        """Say which stream of the container the packets belong to."""
        self._stream = stream
        return stream

    def write(self, packet: Packet[Any]) -> None:
        """Write one packet; what it says of decode time, duration and time base is replaced."""
        assert packet.pts is not None
        assert self._stream is not None
        self.reorder_delay = max(self.reorder_delay, self.packets - packet.pts)
        packet.stream = self._stream
        packet.dts = self.packets - DEEPEST_REORDER
        packet.duration = 1
        packet.time_base = INDEX_TIME_BASE
        self.packets += 1
        with writing(self.path, MuxError):
            self.container.mux_one(packet)

    def finish(self) -> None:
        """Write what a container has at its end."""
        with writing(self.path, MuxError):
            self.container.close()

    def close(self) -> None:
        """Let go of the file.  Idempotent and silent."""
        container, self._container, self._stream = self._container, None, None
        if container is not None:
            with contextlib.suppress(Exception):
                container.close()


class PartsFolder:
    """A hidden folder beside the output for everything unfinished.  Gone when closed."""

    def __init__(self, output: Path) -> None:
        with writing(output.parent, OutputNotWritable):
            # Absolute, so that libav never takes a part of the name for a protocol.
            folder = output.parent.absolute()
            self.path = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".parts", dir=folder))

    def part_path(self, number: int) -> Path:
        return self.path / f"part-{number:05}.mkv"

    def close(self) -> None:
        """Remove the folder and what is in it.  Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)


class PartEncoder:
    """Encodes surfaces into one part.

    Not thread-safe; one caller at a time, from any thread.  :meth:`finish` makes the part whole; :meth:`close`
    without it leaves a file that holds what the encoder had given out.
    """

    def __init__(self, path: Path, settings: EncoderSettings) -> None:
        self.path = path
        self._times = FrameTimes(settings)
        self._stream: VideoStream | None = None
        self._file = PartFile(path)
        try:
            self._stream = self._file.take(add_encoded_stream(self._file.container, settings))
        except BaseException:
            self.close()
            raise

    @property
    def packets(self) -> int:
        """Packets written so far; after :meth:`finish`, one for each frame."""
        return self._file.packets

    def write(self, frame: Frame) -> None:
        """Encode one frame; its surface must have the settings' size and format.  The frame stays the caller's."""
        self._encode(self._times.take(frame, _with_captions(frame)))

    @property
    def part(self) -> Part:
        """The finished part; only after :meth:`finish`."""
        return self._times.finished

    def finish(self) -> Part:
        """Flush the encoder, close the file and hand over the part."""
        self._encode(None)
        self._file.finish()
        return self._times.finish(self.path, self._file.reorder_delay)

    def close(self) -> None:
        """Let go of the codec and the file.  Idempotent, and silent: whoever closes early has an error of its own."""
        self._stream = None  # the codec's threads live as long
        self._file.close()

    def _encode(self, native: VideoFrame | None) -> None:
        assert self._stream is not None
        try:
            with writing(self.path, EncodeError):
                packets = self._stream.encode(native)
        finally:
            del native  # an error's traceback would keep its memory
        for packet in packets:
            self._file.write(packet)


def _with_captions(frame: Frame) -> VideoFrame:
    """The frame's picture, carrying the input's captions if it had any.

    PyAV cannot put side data on a frame, but scaling keeps it: the captions' carrier is scaled up and painted over.
    """
    native: VideoFrame = frame.surface.native
    if frame.captions is None:
        return native
    carrier: VideoFrame = frame.captions.reformat(
        width=native.width,
        height=native.height,
        format=native.format.name,
        interpolation=Interpolation.POINT,
        threads=1,
    )
    paint(carrier, native)
    carrier.pict_type = PictureType.NONE
    return carrier
