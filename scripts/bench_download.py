#!/usr/bin/env python3
"""Three ways from a GPU to a software encoder, in one run: GB/s, processor time, and beside an encoder at work.

    scripts/bench_download.py [--size 3840x2160] [--frames 120] [--rounds 3] [--preset ultrafast]

``pageable`` copies each plane into libav's own memory and waits, ``copied`` copies the picture in one piece to
page-locked memory, beside the encoder, and from there into libav's, ``wrapped`` gives libav the page-locked memory
itself: the product's way.  Each is timed with an encoder that drops what it gets, and with libx264, which is timed
alone on pictures in the host's memory besides.  Processor seconds are those of the whole process, for a frame.
Figures are medians over the rounds, with the least and the most; the first round of all warms up and does not count.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import av

from rave_trio.color.cuda.host import host_planes
from rave_trio.color.cuda.planes import layout
from rave_trio.color.samples import blank
from rave_trio.devices.copies import copy_from_host, copy_to_host
from rave_trio.devices.interface import Device, use
from rave_trio.devices.pool import device_pool, pinned_pool
from rave_trio.frames import Frame, Surface, SurfaceDescriptor
from rave_trio.media._libav import describe_format
from rave_trio.media.download import Copy, DownloadingEncoder
from rave_trio.media.encoders import EncoderSettings
from rave_trio.media.parts import PartEncoder
from rave_trio.media.upload import Uploading
from rave_trio.memory import Ledger

SAMPLE = Path(__file__).resolve().parent.parent / "tests" / "media" / "bunny.mkv"
FORMATS = ("nv12", "yuv420p", "yuv420p10le")
PICTURES = 8
TICKS = Fraction(1, 25)


class Dropping:
    """An encoder that drops what it gets."""

    def write(self, frame: Frame) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held."""


class Pageable:
    """Copies planes into libav's memory and waits: for the kernels, as such a copy keeps its caller, and for itself."""

    def __init__(self, encoder: Any, device: Device, copy: Copy) -> None:
        self._encoder, self._stream, self._copy = encoder, device.stream(), copy
        self.finish, self.close = encoder.finish, encoder.close

    def write(self, frame: Frame) -> None:
        """Copy and encode one frame."""
        descriptor, picture = frame.surface.descriptor, frame.surface.native
        native, memory = blank(descriptor), picture.memory
        memory.last_use.wait()
        with use(self._stream, memory):
            for source, target in zip(picture.planes, host_planes(native, descriptor, layout(descriptor)), strict=True):
                self._copy(self._stream, source, target)
        memory.last_use.wait()
        self._encoder.write(attrs.evolve(frame, picture=Surface(descriptor, native)))


@attrs.frozen
class Figures:
    """Of one run: frames a second, and processor seconds for each."""

    fps: float
    processor: float


class Bench:
    """Pictures of one format, on the device and on the host, and the ways between."""

    def __init__(
        self, device: Device, size: tuple[int, int], name: str, preset: str, to_host: Copy, from_host: Copy
    ) -> None:
        self._device, self._to_host = device, to_host
        self._descriptor = SurfaceDescriptor(*size, describe_format(name))
        self._settings = EncoderSettings(
            "libx264", (("preset", preset), ("crf", "17")), self._descriptor, 1 / TICKS, TICKS
        )
        self.nbytes = layout(self._descriptor).nbytes
        self._pool = device_pool(device, Ledger())
        self._page_locked = pinned_pool(device, Ledger(), "downloads")
        upload = Uploading(device, self._pool, copy=from_host)
        self._host = [Frame(0, 0, 1, TICKS, False, Surface(self._descriptor, native)) for native in self._natives()]
        self._pictures = [
            upload.convert(attrs.evolve(frame, picture=attrs.evolve(frame.picture))) for frame in self._host
        ]
        upload.close()

    def _natives(self) -> Iterator[av.VideoFrame]:
        descriptor = self._descriptor
        with av.open(SAMPLE) as source:
            for _, picture in zip(range(PICTURES), source.decode(video=0), strict=False):
                native = picture.reformat(descriptor.width, descriptor.height, descriptor.pixel_format.name)
                native.pict_type = 0
                yield native

    def pageable(self, encoder: Any) -> Any:
        return Pageable(encoder, self._device, self._to_host)

    def copied(self, encoder: Any) -> Any:
        return DownloadingEncoder(encoder, self._device, self._page_locked, wrap=False, copy=self._to_host)

    def wrapped(self, encoder: Any) -> Any:
        return DownloadingEncoder(encoder, self._device, self._page_locked, copy=self._to_host)

    def dropped(self, way: Callable[[Any], Any], frames: int) -> Figures:
        """``frames`` pictures by that way to an encoder that drops them."""
        return self._timed(way(Dropping()), self._pictures, frames)

    def encoded(self, way: Callable[[Any], Any], frames: int) -> Figures:
        """The same to libx264."""
        with tempfile.TemporaryDirectory() as folder:
            return self._timed(way(PartEncoder(Path(folder) / "part.mkv", self._settings)), self._pictures, frames)

    def alone(self, frames: int) -> Figures:
        """libx264 on pictures that are on the host."""
        with tempfile.TemporaryDirectory() as folder:
            return self._timed(PartEncoder(Path(folder) / "part.mkv", self._settings), self._host, frames)

    @staticmethod
    def _timed(encoder: Any, pictures: list[Frame], frames: int) -> Figures:
        with contextlib.closing(encoder):
            began, used = time.perf_counter(), time.process_time()
            for number, picture in zip(range(frames), (pictures[n % len(pictures)] for n in count()), strict=False):
                encoder.write(attrs.evolve(picture, index=number, pts=number))
            encoder.finish()
            took, used = time.perf_counter() - began, time.process_time() - used
        return Figures(frames / took, used / frames)

    def close(self) -> None:
        """Give all memory back."""
        for frame in self._pictures:
            frame.close()
        self._pool.close()
        self._page_locked.close()


def in_turn(rounds: int, runs: dict[str, Callable[[], Figures]]) -> dict[str, list[Figures]]:
    """The figures of each run, round by round, without the first."""
    figures: dict[str, list[Figures]] = {name: [] for name in runs}
    for at in range(rounds + 1):
        for name, run in runs.items():
            found = run()
            if at:
                figures[name].append(found)
    return figures


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):8.3f} ({min(values):.3f} to {max(values):.3f})"


def measure(bench: Bench, frames: int, rounds: int) -> None:
    ways = {"pageable": bench.pageable, "copied": bench.copied, "wrapped": bench.wrapped}
    dropped = in_turn(rounds, {name: lambda way=way: bench.dropped(way, frames) for name, way in ways.items()})
    for name, found in dropped.items():
        print(f"  {name:9} alone       {spread([f.fps * bench.nbytes / 1e9 for f in found])} GB/s, "
              f"{spread([1000 * f.processor for f in found])} ms of processor a frame")  # fmt: skip
    runs: dict[str, Callable[[], Figures]] = {"libx264": lambda: bench.alone(frames)}
    runs |= {name: lambda way=way: bench.encoded(way, frames) for name, way in ways.items()}
    encoded = in_turn(rounds, runs)
    for name, found in encoded.items():
        ratios = [each.fps / alone.fps for each, alone in zip(found, encoded["libx264"], strict=True)]
        print(f"  {name:9} encoding    {spread([f.fps for f in found])} fps, {spread(ratios)} of libx264 alone, "
              f"{spread([1000 * f.processor for f in found])} ms of processor a frame")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="3840x2160")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="ultrafast")
    chosen = parser.parse_args()
    width, height = map(int, chosen.size.split("x"))

    from rave_trio.devices.cuda import CudaDevice

    with contextlib.closing(CudaDevice(0)) as device:
        print(f"{device.name}, {chosen.size}, {chosen.frames} frames, {chosen.rounds} rounds in turn")
        for name in FORMATS:
            print(f"\n{name}")
            with contextlib.closing(
                Bench(device, (width, height), name, chosen.preset, copy_to_host, copy_from_host)
            ) as bench:
                measure(bench, chosen.frames, chosen.rounds)


if __name__ == "__main__":
    main()
