"""Speed of the CUDA colour kernels: GB/s, and the share of what a copy within the device reaches in the same run.

    python scripts/bench_colors_gpu.py [--size 3840x2160] [--rounds 50] [--sweep] [--json]

Each kernel is timed with CUDA events, in rounds that alternate with a device-to-device copy that reads and writes as
many bytes in all; the figures are medians over the rounds.  A round is ``--launches`` launches, each on other memory
than the one before.  Ahead of each round a large piece of memory is set, which empties the second-level cache of what
the round uses, and gives the host time to launch all of it; rounds that the device began before the host had launched
them are told as ``late``.  ``--sweep`` tries threads that convert tiles of other sizes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Callable

import attrs
import numpy as np
from cuda.bindings import driver
from cuda.core import Buffer, Device, EventOptions

from rave_trio.color.cuda.conversion import Conversion
from rave_trio.color.cuda.planes import layout
from rave_trio.color.cuda.specialisation import Tile, reading, writing
from rave_trio.devices.arrays import DeviceArray
from rave_trio.frames import ChromaLocation, ColorRange, ColorSpec, SurfaceDescriptor
from rave_trio.media._libav import describe_format

FORMATS = ("nv12", "p010le")
TILES = [Tile(pixels, groups) for pixels, groups in itertools.product((4, 8, 16), (1, 2))]

HEAD_START = 2 << 30
"""Bytes that are set ahead of a round: about half a millisecond of a fast device."""

WARM_UP = 5
"""Rounds that do not count."""


@attrs.define(eq=False)
class Memory:
    """Device memory for the length of the run."""

    pointer: int
    nbytes: int
    last_use: None = None


@attrs.frozen
class OnStream:
    """What the launcher wants of a stream."""

    raw: object

    def launch(self, work: Callable[..., object], *args: object) -> None:
        work(self.raw, *args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="3840x2160")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--launches", type=int, default=8)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    device = Device(0)
    device.set_current()
    bench = Bench(device, args.rounds, args.launches)
    found = []
    for name in FORMATS:
        color = ColorSpec(1, 1, 1, ColorRange.LIMITED, ChromaLocation.LEFT)
        surface = SurfaceDescriptor(width, height, describe_format(name), color)
        for dtype, direction in itertools.product((np.float16, np.float32), ("to_tensor", "to_surface")):
            for tile in TILES if args.sweep else [None]:
                result = bench.conversion(surface, np.dtype(dtype), direction, tile)
                found.append(result)
                if not args.json:
                    print(render(result), flush=True)
    if args.json:
        json.dump({"device": device.name, "size": args.size, "results": found}, sys.stdout, indent=1)
        print()


def render(result: dict) -> str:
    return (
        f"{result['format']:8} {result['dtype']:8} {result['kernel']:10} tile {result['tile']:>6}  "
        f"{result['microseconds']:7.1f} us  {result['GB/s']:6.0f} GB/s  "
        f"copy {result['copy GB/s']:6.0f} GB/s  {result['share']:6.1%}  {result['late']} late"
    )


class Bench:
    """Times kernels and copies on one stream."""

    def __init__(self, device: Device, rounds: int, launches: int) -> None:
        self._device, self._rounds, self._launches = device, rounds, launches
        self._raw = device.create_stream()
        self._buffers: list[Buffer] = []
        self._late = 0
        self._ahead = device.allocate(HEAD_START, stream=self._raw)

    def conversion(self, surface: SurfaceDescriptor, dtype: np.dtype, direction: str, tile: Tile | None) -> dict:
        """One kernel beside a copy of as many bytes; bytes are the samples read and the elements written, each once."""
        placed = layout(surface)
        shape = (3, surface.height, surface.width)
        samples = sum(plane.rows * plane.samples * plane.dtype.itemsize for plane in placed.planes)
        moved = samples + 3 * surface.height * surface.width * dtype.itemsize
        kernel = reading(surface, dtype, tile) if direction == "to_tensor" else writing(surface, dtype, tile=tile)
        conversion = Conversion(surface, kernel, OnStream(self._raw), None)
        pairs = [
            (
                placed.picture(self._memory(placed.nbytes)),
                DeviceArray(self._memory(3 * surface.height * surface.width * dtype.itemsize), shape, dtype),
            )
            for _ in range(self._launches)
        ]
        half = moved // 2
        self._late = 0
        copies = [(self._memory(half), self._memory(half)) for _ in range(self._launches)]
        kernel_time, copy_time = self._time(
            lambda: [conversion.run(*pair) for pair in pairs],
            lambda: [self._copy(*copy, half) for copy in copies],
        )
        self._free()
        return {
            "format": surface.pixel_format.name,
            "dtype": str(dtype),
            "kernel": direction,
            "tile": f"{kernel.pixels}x{kernel.lines}",
            "microseconds": kernel_time * 1e3,
            "GB/s": moved / kernel_time / 1e6,
            "copy GB/s": 2 * half / copy_time / 1e6,
            "late": self._late,
            "share": (moved / kernel_time) / (2 * half / copy_time),
        }

    def _time(self, *works: Callable[[], object]) -> list[float]:
        """Milliseconds of one launch of each, taken in turn: medians."""
        times: list[list[float]] = [[] for _ in works]
        timing = EventOptions(timing_enabled=True)
        for number in range(-WARM_UP, self._rounds):
            for work, taken in zip(works, times, strict=True):
                self._set(self._ahead, HEAD_START)
                before = self._raw.record(options=timing)
                work()
                after = self._raw.record(options=timing)
                late = before.is_done
                after.sync()
                if number >= 0:
                    self._late += late
                    taken.append((after - before) / self._launches)
        return [statistics.median(taken) for taken in times]

    def _copy(self, source: Memory, target: Memory, nbytes: int) -> None:
        (result,) = driver.cuMemcpyDtoDAsync(target.pointer, source.pointer, nbytes, int(self._raw.handle))
        assert result == driver.CUresult.CUDA_SUCCESS, result

    def _memory(self, nbytes: int) -> Memory:
        buffer = self._device.allocate(nbytes, stream=self._raw)
        self._set(buffer, nbytes)
        self._buffers.append(buffer)
        return Memory(int(buffer.handle), nbytes)

    def _set(self, buffer: Buffer, nbytes: int) -> None:
        (result,) = driver.cuMemsetD8Async(int(buffer.handle), 0x3C, nbytes, int(self._raw.handle))
        assert result == driver.CUresult.CUDA_SUCCESS, result

    def _free(self) -> None:
        self._raw.sync()
        for buffer in self._buffers:
            buffer.close(self._raw)
        self._buffers.clear()


if __name__ == "__main__":
    main()
