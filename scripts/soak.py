#!/usr/bin/env python3
"""Runs of every ending, one after another in one process, and what the process holds after each.

Some succeed, some are stopped, cancelled, starved of memory, or fail at a planted fault; the sizes differ.  At the end
memory, descriptors and threads must not have grown since the warm-up: the exit status is 1 if they have.

    scripts/soak.py --minutes 10
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import attrs
import av
import numpy as np
import trio

import rave_trio
from rave_trio import assembly
from rave_trio.errors import RaveError
from rave_trio.testing import Fault, FaultPlan, every_fault, holdings

SIZES = ((48, 32), (160, 90), (96, 128))
FRAMES = 12
MODEL = "animevideo-x2"
WARM_UP = 0.25
"""Share of the time after which libraries have opened what they keep; growth counts from there."""

ALLOWED_GROWTH = 1.03
"""Of resident memory, the medians of the last and the first tenth after the warm-up: allocators wander a little."""

ENDINGS = ("success", "stop", "cancellation", "fault", "limit")


@attrs.frozen
class Sample:
    """What the process holds after one run."""

    seconds: float
    resident: int
    descriptors: int
    threads: int


def sample(began: float) -> Sample:
    now = holdings()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident = pages * os.sysconf("SC_PAGE_SIZE")
    return Sample(time.monotonic() - began, resident, len(now.files), len(now.threads) + now.native_threads)


def make_clip(path: Path, width: int, height: int) -> Path:
    """A short clip of moving noise."""
    noise = np.random.default_rng(width).integers(0, 256, (height + FRAMES, width, 3), np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", Fraction(25), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(FRAMES):
            picture = np.ascontiguousarray(noise[index : index + height])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return path


class Planting:
    """The parts that a job makes, with the faults of the day."""

    def __init__(self) -> None:
        self.plan = FaultPlan(())
        self._wrap("LibavDecoder", "around_decoder")
        self._wrap("OpenVinoBackend", "around_backend")
        self._wrap("PartEncoder", "around_encoder")

    def _wrap(self, name: str, around: str) -> None:
        make = getattr(assembly, name)
        setattr(assembly, name, lambda *what, **how: getattr(self.plan, around)(make(*what, **how)))


async def run_once(source: Path, target: Path, ending: str, planting: Planting, fault: Fault) -> str:
    """One run that is to end so; how it did."""
    options: dict[str, object] = {"model": MODEL, "preset": "ultrafast", "overwrite": True}
    planting.plan = FaultPlan((fault,) if ending == "fault" else ())
    stop, scope = rave_trio.Stop(), trio.CancelScope()

    def on_progress(progress: rave_trio.Progress) -> None:
        if progress.done and ending == "stop":
            stop.request()
        elif progress.done and ending == "cancellation":
            scope.cancel()

    if ending == "limit":
        options["vram_limit"] = 1 << 20
    try:
        with scope:
            await rave_trio.upscale(source, target, on_progress=on_progress, stop=stop, **options)
    except RaveError as error:
        return type(error).__name__
    return "cancelled" if scope.cancelled_caught else "success"


async def soak(minutes: float, folder: Path) -> tuple[list[Sample], Counter[str]]:
    clips = [make_clip(folder / f"{width}x{height}.mkv", width, height) for width, height in SIZES]
    kinds = {"exception", "out_of_memory", "encoder_refusal", "disk_full", "corrupt_size", "short_read"}
    stages = ("decode", "inference", "encode")
    # The converter behind the network is not wrapped here.
    faults = [f for f in every_fault((3,), stages) if f.kind in kinds and (f.stage, f.call) != ("inference", "convert")]
    planting, choice = Planting(), random.Random(0)
    samples: list[Sample] = []
    endings: Counter[str] = Counter()
    began = time.monotonic()
    for ending in itertools.cycle(ENDINGS):
        source, fault = choice.choice(clips), choice.choice(faults)
        endings[await run_once(source, folder / "out.mkv", ending, planting, fault)] += 1
        samples.append(sample(began))
        if samples[-1].seconds > 60 * minutes:
            return samples, endings
    raise AssertionError


def grown(samples: list[Sample]) -> Iterator[str]:
    """What has grown since the warm-up, in words."""
    settled = [s for s in samples if s.seconds >= WARM_UP * samples[-1].seconds]
    tenth = max(1, len(settled) // 10)
    first, last = settled[:tenth], settled[-tenth:]
    for name in ("descriptors", "threads"):
        before, after = (max(getattr(s, name) for s in some) for some in (first, last))
        if after > before:
            yield f"{name}: {before} to {after}"
    before, after = (statistics.median(s.resident for s in some) for some in (first, last))
    if after > before * ALLOWED_GROWTH:
        yield f"resident memory: {before / 1e6:.1f} to {after / 1e6:.1f} MB"


def show(samples: list[Sample]) -> None:
    step = max(1, len(samples) // 12)
    print("   time    runs  resident MB  descriptors  threads")
    for number in sorted({*range(0, len(samples), step), len(samples) - 1}):
        s = samples[number]
        print(f"{s.seconds:6.0f} s  {number + 1:6d}  {s.resident / 1e6:11.1f}  {s.descriptors:11d}  {s.threads:7d}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples, endings = trio.run(soak, options.minutes, Path(folder))
    show(samples)
    print(f"{len(samples)} runs: {', '.join(f'{count} {how}' for how, count in endings.most_common())}")
    failures = list(grown(samples))
    print(f"grown: {'; '.join(failures)}" if failures else "flat")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
