#!/usr/bin/env python3
"""What ``rave-trio benchmark`` does not measure on a GPU: decoder and encoder alone, where a run's time goes, and what
runs leave.

    scripts/bench_gpu.py [--input film.mkv] [--device cuda:0] [--backend NAME] [--rounds 3]

Without an input, the sample clip is enlarged to 1080 lines, H.264, and repeated.  Frames per second are medians over
the rounds, with the least and the most; the first round of all warms up and does not count.  Where the time goes is
seen in one run of its own, so that looking does not cost the rounds anything.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Self

import av

from rave_trio.assembly import Assembly
from rave_trio.audit.memory import MemorySample
from rave_trio.bench.rounds import Flow, Rounds, scratch
from rave_trio.bench.spread import Spread
from rave_trio.frames import Frame
from rave_trio.media.download import DownloadingEncoder
from rave_trio.media.parts import PartsFolder
from rave_trio.options import UpscaleOptions
from rave_trio.pipeline import Unchanged
from rave_trio.pipeline.latency import Histogram, Latency
from rave_trio.plan import EnginePlan, make_plan

SAMPLE = Path(__file__).resolve().parent.parent / "tests" / "media" / "bunny.mkv"
WIDTH, HEIGHT, REPEATS = 1920, 1080, 8
FRAMES = 96
"""Of the sample."""

ALL = 10**9


def make_clip(path: Path) -> Path:
    """The sample at 1080 lines, eight times over: 768 frames of H.264."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", Fraction(24), options={"preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        number = 0
        for _ in range(REPEATS):
            with av.open(SAMPLE) as source:
                for picture in source.decode(video=0):
                    large = picture.reformat(WIDTH, HEIGHT, "yuv420p")
                    large.pts, large.time_base, large.pict_type = number, Fraction(1, 24), 0
                    container.mux(stream.encode(large))
                    number += 1
        container.mux(stream.encode(None))
    return path


class Parts:
    """What else can be timed of a plan: decoder and encoder alone."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self.cores = 0.0
        """Processors that the last run of the encoder alone kept busy, on average."""
        self.writes = Latency()
        """Its calls."""

    @property
    def converts_within(self) -> bool:
        """Whether the network takes surfaces itself."""
        with self._rounds.assembled() as (assembly, *_):
            return isinstance(assembly.to_tensor(), Unchanged)

    def decoder(self, *, convert: bool) -> float:
        """Frames decoded into memory of ours, with or without their conversion to tensors."""
        with self._rounds.assembled() as (assembly, _, _, held):
            decoder = held.enter_context(contextlib.closing(assembly.decoder()))
            to_tensor = assembly.to_tensor()
            frames, last = 0, None
            began = time.perf_counter()
            while (frame := decoder.read()) is not None:
                made = to_tensor.convert(frame) if convert else frame
                last = (made.tensor if convert else made.surface.native).memory.last_use
                made.close()
                frames += 1
            if last is not None:
                last.wait()
            return frames / (time.perf_counter() - began)

    def encoder(self, frames: int) -> float:
        """The encoder alone behind its download, on pictures that are on the device: those of the sample, in turn."""
        with self._rounds.assembled() as (assembly, _, _, held):
            parts = held.enter_context(contextlib.closing(PartsFolder(self._rounds.plan.options.output)))
            pictures = self._pictures(assembly, FRAMES)
            for picture in pictures:
                held.enter_context(contextlib.closing(picture))
            encoder = held.enter_context(contextlib.closing(assembly.encoder(parts)))
            assert isinstance(encoder, DownloadingEncoder)
            calls = Histogram()
            processor, began = time.process_time(), time.perf_counter()
            for number in range(frames):
                entered = time.perf_counter()
                encoder.write(pictures[number % len(pictures)])
                calls.add(time.perf_counter() - entered)
            encoder.finish()
            elapsed = time.perf_counter() - began
            self.cores, self.writes = (time.process_time() - processor) / elapsed, calls.snapshot()
            return frames / elapsed

    def _pictures(self, assembly: Assembly, count: int) -> list[Frame]:
        pictures = []
        with contextlib.closing(assembly.decoder()) as decoder, contextlib.closing(assembly.backend()) as backend:
            to_tensor, to_surface = assembly.to_tensor(), assembly.to_surface()
            while len(pictures) < count and (frame := decoder.read()) is not None:
                backend.submit(to_tensor.convert(frame))
                pictures.append(to_surface.convert(backend.collect()))
        return pictures


class Lateness:
    """A thread that sleeps a millisecond at a time, and how much later than that it has the interpreter again.

    That is what any thread loses that comes back from a codec or from CUDA.
    """

    def __init__(self) -> None:
        self.seen = Histogram()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            due = time.perf_counter() + 1e-3
            time.sleep(1e-3)
            self.seen.add(time.perf_counter() - due)


def in_turn(rounds: int, **runs: Callable[[], float]) -> dict[str, Spread]:
    figures: dict[str, list[float]] = {name: [] for name in runs}
    for at in range(rounds + 1):
        for name, run in runs.items():
            fps = run()
            if at:
                figures[name].append(fps)
    return {name: Spread.of(values) for name, values in figures.items()}


def show(figures: dict[str, Spread]) -> None:
    for name, values in figures.items():
        print(f"  {name:24} {values.text(' fps')}")


def show_ratio(figures: dict[str, Spread], ratio: str, over: str, *under: str) -> None:
    slowest = Spread.of(map(min, zip(*(figures[name].values for name in under), strict=True)))
    print(f"  {ratio:24} {Spread.ratio(figures[over], slowest).text()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="animevideo-x2")
    parser.add_argument("--preset", default="ultrafast")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", default="auto")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = UpscaleOptions(
            chosen.input or make_clip(folder / "clip.mkv"),
            scratch(folder),
            model=chosen.model,
            device=chosen.device,
            backend=chosen.backend,
            preset=chosen.preset,
        )
        measure(Rounds(*make_plan(options)), chosen.rounds)


def measure(rounds: Rounds, count: int) -> None:
    plan, parts = rounds.plan, Parts(rounds)
    size = f"{plan.surface.width}x{plan.surface.height}"
    print(f"{plan.models[0].name} on {plan.device.name}, {plan.backend} {plan.precision}, {size}, {plan.decoder}; "
          f"{count} rounds in turn")  # fmt: skip
    rounds.pipeline(ALL, encode=False)  # what CUDA and the libraries keep for good is there
    before = sample(plan)
    print("\nthe pipeline with its encoder and without, beside network and encoder alone")
    figures = in_turn(
        count,
        pipeline=lambda: rounds.pipeline(ALL, encode=True).fps,
        discard=lambda: rounds.pipeline(ALL, encode=False).fps,
        network=lambda: rounds.network(200),
        encoder=lambda: parts.encoder(REPEATS * FRAMES),
    )
    show(figures)
    show_ratio(figures, "pipeline / slower", "pipeline", "network", "encoder")
    show_ratio(figures, "discard / network", "discard", "network")
    where_time_goes(rounds, parts)
    decoding(parts, count)
    hashes: list[list[str]] = [[], []]
    for each in hashes:
        flow = hashed(rounds, each)
    same = "identical" if hashes[0] == hashes[1] else "DIFFERENT"
    print(f"\ntwo runs, the hashes of their {len(hashes[0])} pictures: {same}")
    held = ", ".join(f"{owner} {nbytes / 2**20:.0f}" for owner, nbytes in flow.ledger.by_owner.items())
    print(f"the ledger at the end of a run, MiB: {held}; {flow.pool.misses} allocations")
    after = sample(plan)
    print(f"GPU memory in use, before and after all runs: "
          f"{before.in_use / 2**20:.0f} and {after.in_use / 2**20:.0f} MiB")  # fmt: skip


def decoding(parts: Parts, count: int) -> None:
    if parts.converts_within:
        print("\nconversions are part of the network: --backend onnxruntime measures them behind the decoder")
        return
    print("\ndecode and convert, beside decoding alone")
    runs = {"both": lambda: parts.decoder(convert=True), "decode": lambda: parts.decoder(convert=False)}
    figures = in_turn(count, **runs)
    show(figures)
    show_ratio(figures, "both / decode", "both", "decode")


def where_time_goes(rounds: Rounds, parts: Parts) -> None:
    """Of the stages with the encoder and without it, and of the encoder alone: one run each."""
    for encode in (True, False):
        with Lateness() as late:
            flow = rounds.pipeline(ALL, encode=encode)
        elapsed = flow.metrics.elapsed
        cores = f"{flow.processor_seconds / elapsed:.1f} processors busy of {os.cpu_count()}"
        print(f"\n{flow.fps:.1f} fps {'with' if encode else 'without'} the encoder: {cores}, {lateness(late)}")
        print("  stage          busy   for input  for room  calls of, ms: median  95%   most")
        for stage in flow.metrics.stages:
            shares = (stage.busy, stage.waiting_for_input, stage.waiting_for_output)
            busy, idle, full = (f"{share / elapsed:.0%}" for share in shares)
            print(f"  {stage.name:12} {busy:>6} {idle:>11} {full:>9}  {calls(stage.latency)}")
    with Lateness() as late:
        fps = parts.encoder(REPEATS * FRAMES)
    print(f"\n{fps:.1f} fps of the encoder alone: {parts.cores:.1f} processors busy, {lateness(late)}")
    print(f"  {'encode':42} {calls(parts.writes)}")


def calls(latency: Latency) -> str:
    shown = (latency.quantile(0.5), latency.quantile(0.95), latency.max)
    return f"{1e3 * shown[0]:20.2f} {1e3 * shown[1]:6.2f} {1e3 * shown[2]:6.1f}"


def lateness(late: Lateness) -> str:
    seen = late.seen.snapshot()
    return f"threads late by {1e3 * seen.quantile(0.5):.2f} ms, one in twenty by {1e3 * seen.quantile(0.95):.2f}"


def hashed(rounds: Rounds, into: list[str]) -> Flow:
    """A run whose pictures are looked at in place of being encoded."""
    return rounds.pipeline(FRAMES, encode=False, look=lambda made, frame: into.append(made.hash_of(frame.surface)))


def sample(plan: EnginePlan) -> MemorySample:
    """What NVML says now."""
    assert plan.gpu is not None
    assert plan.gpu.uuid is not None
    return MemorySample.take("now", plan.gpu.uuid, {})


if __name__ == "__main__":
    main()
