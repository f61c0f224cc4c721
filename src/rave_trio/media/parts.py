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
from typing import Any

import attrs
import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

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


class FrameTimes:
    """The true times of frames whose encoder only counts them."""

    def __init__(self, settings: EncoderSettings) -> None:
        self.pts = array("q")
        self.durations = array("q")
        self._settings = settings

    def take(self, frame: Frame, native: VideoFrame) -> VideoFrame:
        """Note the next frame's time; its picture gets its number instead."""
        native.pts, native.time_base = len(self.pts), 1 / self._settings.rate
        self.pts.append(frame.pts)
        self.durations.append(frame.duration)
        return native

    def part(self, path: Path, reorder_delay: int = 0) -> Part:
        """The part of all frames taken so far."""
        return Part(path, self._settings.time_base, self.pts, self.durations, reorder_delay)


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
        self._written = 0
        self._delay = 0
        self._part: Part | None = None
        self._stream: VideoStream | None = None
        with writing(path, MuxError):
            container = av.open(path, "w", format="matroska", container_options=AT_ONCE)
        self._container: OutputContainer | None = container
        try:
            self._stream = add_encoded_stream(container, settings)
        except BaseException:
            self.close()
            raise

    @property
    def packets(self) -> int:
        """Packets written so far; after :meth:`finish`, one for each frame."""
        return self._written

    def write(self, frame: Frame) -> None:
        """Encode one frame; its surface must have the settings' size and format.  The frame stays the caller's."""
        assert self._stream is not None
        native = self._times.take(frame, _with_captions(frame))
        with writing(self.path, EncodeError):
            packets = self._stream.encode(native)
        self._write(packets)

    @property
    def part(self) -> Part:
        """The finished part; only after :meth:`finish`."""
        if self._part is None:
            raise ValueError("the part is not finished")
        return self._part

    def finish(self) -> Part:
        """Flush the encoder, close the file and hand over the part."""
        assert self._stream is not None
        assert self._container is not None
        with writing(self.path, EncodeError):
            packets = self._stream.encode(None)
        self._write(packets)
        with writing(self.path, MuxError):
            self._container.close()
        self._part = self._times.part(self.path, self._delay)
        return self._part

    def close(self) -> None:
        """Let go of the codec and the file.  Idempotent, and silent: whoever closes early has an error of its own."""
        container, self._container, self._stream = self._container, None, None  # the codec's threads live as long
        if container is not None:
            with contextlib.suppress(Exception):
                container.close()

    def _write(self, packets: list[Packet[Any]]) -> None:
        assert self._container is not None
        for packet in packets:
            assert packet.pts is not None
            self._delay = max(self._delay, self._written - packet.pts)
            packet.dts = self._written - DEEPEST_REORDER
            packet.duration = 1
            packet.time_base = INDEX_TIME_BASE
            self._written += 1
            with writing(self.path, MuxError):
                self._container.mux_one(packet)


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
    for target, source in zip(carrier.planes, native.planes, strict=True):
        memoryview(target)[:] = memoryview(source)  # both are PyAV's own, so their pitches are the same
    carrier.pict_type = PictureType.NONE
    return carrier
