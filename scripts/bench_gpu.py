#!/usr/bin/env python3
"""The pipeline on a GPU beside its parts alone, in turn, in one run; ratios of the same round, and what it leaves.

    scripts/bench_gpu.py [--input film.mkv] [--device cuda:0] [--backend NAME] [--rounds 3]
    scripts/bench_gpu.py --sweep [--backend NAME] [--seconds 1]

With ``--sweep``, the network alone at four sizes with every batch and number of streams, and what auto picks there and
how long that takes once the libraries are loaded.  Without an input, the sample clip is enlarged to 1080 lines, H.264,
and repeated.  Frames per second are medians over the rounds, with the least and the most; the first round of all warms
up and does not count.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import av
import numpy as np
import trio

from rave_trio.assembly import Assembly, assemble
from rave_trio.audit.memory import MemorySample
from rave_trio.errors import RaveError
from rave_trio.frames import Frame, Tensor
from rave_trio.media.download import DownloadingEncoder
from rave_trio.media.parts import PartsFolder
from rave_trio.memory import Ledger, Waiting
from rave_trio.options import UpscaleOptions
from rave_trio.pipeline import PipelineMetrics, UpscalePipeline
from rave_trio.plan import EnginePlan, make_plan
from rave_trio.speed import Speedometer, speedometer

SAMPLE = Path(__file__).resolve().parent.parent / "tests" / "media" / "bunny.mkv"
WIDTH, HEIGHT, REPEATS = 1920, 1080, 4
FRAMES = 96
"""Of the sample."""

SIZES = ((320, 180), (640, 360), (1280, 720), (1920, 1080))
BATCHES, STREAMS = (1, 2, 4, 8), (1, 2)


def make_clip(path: Path, width: int = WIDTH, height: int = HEIGHT, repeats: int = REPEATS) -> Path:
    """The sample of that size, at 1080 lines four times over: 384 frames of H.264."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", Fraction(24), options={"preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        number = 0
        for _ in range(repeats):
            with av.open(SAMPLE) as source:
                for picture in source.decode(video=0):
                    large = picture.reformat(width, height, "yuv420p")
                    large.pts, large.time_base, large.pict_type = number, Fraction(1, 24), 0
                    container.mux(stream.encode(large))
                    number += 1
        container.mux(stream.encode(None))
    return path


class Discarding:
    """An encoder that waits for each picture to be there and drops it; with ``hashes``, what it was."""

    def __init__(self, device: Any = None, hashes: list[str] | None = None) -> None:
        self.frames = 0
        self._hashes = hashes
        self._stream = None if hashes is None else device.stream()

    def write(self, frame: Frame) -> None:
        memory = frame.surface.native.memory
        if memory.last_use is not None:
            memory.last_use.wait()
        if self._hashes is not None:
            self._hashes.append(self._hash(frame))
        self.frames += 1

    def finish(self) -> None:
        """Nothing is held back."""

    def _hash(self, frame: Frame) -> str:
        from rave_trio.devices.copies import copy_to_host

        digest = hashlib.sha256()
        for plane in frame.surface.native.planes:
            host = np.empty(plane.shape, plane.dtype)
            copy_to_host(self._stream, plane, host)
            self._stream.synchronize()
            digest.update(host)
        return digest.hexdigest()


class Bench:
    """One plan, and what can be timed of it."""

    def __init__(self, plan: EnginePlan, steps: Any, folder: Path) -> None:
        self.plan, self.steps, self._folder = plan, steps, folder
        self.hit_rate = 0.0
        self.metrics: PipelineMetrics | None = None

    @contextlib.contextmanager
    def assembled(self) -> Iterator[tuple[Assembly, Waiting, Ledger]]:
        ledger, waiting = Ledger(), Waiting()
        assembly = assemble(self.plan, self.steps, ledger, waiting)
        try:
            yield assembly, waiting, ledger
        finally:
            assembly.close()
            assert ledger.stats().current == 0, ledger.stats()

    def pipeline(self, hashes: list[str] | None = None, *, encode: bool = False) -> float:
        """Frames per second from the first read to the last write."""
        with self.assembled() as (assembly, waiting, ledger), contextlib.ExitStack() as held:
            decoder = held.enter_context(contextlib.closing(assembly.decoder()))
            backend = held.enter_context(contextlib.closing(assembly.backend()))
            encoder: Any = Discarding(assembly.device, hashes)
            if encode:
                parts = held.enter_context(contextlib.closing(PartsFolder(self._folder / "out.mkv")))
                encoder = held.enter_context(contextlib.closing(assembly.encoder(parts)))
            warm_up(assembly, backend, self.plan)
            run = UpscalePipeline(self.plan.fit.pipeline, waiting).run
            metrics = trio.run(run, decoder, assembly.to_tensor(), backend, assembly.to_surface(), encoder)
            stats = assembly.pool_stats()
            self.memory = sample(self.plan, ledger.stats().by_owner)
        self.hit_rate, self.metrics = stats.hit_rate, metrics
        self.misses = stats.misses
        return metrics.frames_encoded / metrics.elapsed

    def backend(self, frames: int) -> float:
        """The network alone, on a tensor that is there."""
        with self.assembled() as (assembly, _, _), contextlib.closing(assembly.backend()) as backend:
            warm_up(assembly, backend, self.plan)
            noise = noise_for(self.plan)
            tensors = [assembly.tensor(noise) for _ in range(backend.depth)]

            def submit(number: int) -> None:
                lent = Tensor(tensors[number % len(tensors)].array, lease=None)
                backend.submit(enveloped(number, lent))

            began = time.perf_counter()
            for number in range(frames):
                if number >= backend.depth:
                    backend.collect().close()
                submit(number)
            for _ in range(min(frames, backend.depth)):
                backend.collect().close()
            took = time.perf_counter() - began
            for tensor in tensors:
                tensor.close()
            return frames / took

    def decoder(self, *, convert: bool) -> float:
        """Frames decoded into memory of ours, with or without their conversion to tensors."""
        with self.assembled() as (assembly, _, _), contextlib.closing(assembly.decoder()) as decoder:
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
        with self.assembled() as (assembly, _, _), contextlib.ExitStack() as held:
            parts = held.enter_context(contextlib.closing(PartsFolder(self._folder / "out.mkv")))
            pictures = self._pictures(assembly, FRAMES)
            encoder = held.enter_context(contextlib.closing(assembly.encoder(parts)))
            assert isinstance(encoder, DownloadingEncoder)
            began = time.perf_counter()
            for number in range(frames):
                encoder.write(pictures[number % len(pictures)])
            encoder.finish()
            took = time.perf_counter() - began
            for picture in pictures:
                picture.close()
            return frames / took

    def _pictures(self, assembly: Assembly, count: int) -> list[Frame]:
        pictures = []
        with contextlib.closing(assembly.decoder()) as decoder, contextlib.closing(assembly.backend()) as backend:
            to_tensor, to_surface = assembly.to_tensor(), assembly.to_surface()
            while len(pictures) < count and (frame := decoder.read()) is not None:
                backend.submit(to_tensor.convert(frame))
                pictures.append(to_surface.convert(backend.collect()))
        return pictures


def noise_for(plan: EnginePlan) -> np.ndarray:
    return np.random.default_rng(0).random((3, plan.surface.height, plan.surface.width), np.float32)


def enveloped(number: int, tensor: Any) -> Frame:
    return Frame(number, number, 1, Fraction(1, 25), False, tensor)


def warm_up(assembly: Assembly, backend: Any, plan: EnginePlan) -> None:
    """The first frame has the library choose its algorithms."""
    noise = noise_for(plan)
    for number in range(2):
        backend.submit(enveloped(number, assembly.tensor(noise)))
        backend.collect().close()


def in_turn(rounds: int, **runs: Callable[[], float]) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {name: [] for name in runs}
    for at in range(rounds + 1):
        for name, run in runs.items():
            fps = run()
            if at:
                figures[name].append(fps)
    return figures


def show(figures: dict[str, list[float]], ratios: dict[str, tuple[str, ...]]) -> None:
    for name, values in figures.items():
        print(f"  {name:24} {_spread(values)} fps")
    for ratio, (over, *under) in ratios.items():
        values = [top / min(parts) for top, *parts in zip(figures[over], *(figures[u] for u in under), strict=True)]
        print(f"  {ratio:24} {_spread(values)}")


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):8.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="animevideo-x2")
    parser.add_argument("--preset", default="ultrafast")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sweep", action="store_true", help="batches and streams in place of the pipeline")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each batch and number of streams")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.sweep:
            sweep(folder, chosen)
            return
        source = chosen.input or make_clip(folder / "clip.mkv")
        options = UpscaleOptions(
            source,
            folder / "out.mkv",
            model=chosen.model,
            device=chosen.device,
            backend=chosen.backend,
            preset=chosen.preset,
            overwrite=True,
        )
        plan, steps = make_plan(options)
        bench = Bench(plan, steps, folder)
        measure(bench, chosen.rounds)


def sweep(folder: Path, chosen: argparse.Namespace) -> None:
    """Frames per second of the network alone, and what auto makes of it with nothing remembered."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    for width, height in SIZES:
        auto = UpscaleOptions(
            make_clip(folder / f"{width}.mkv", width, height, repeats=1),
            folder / "out.mkv",
            model=chosen.model,
            device=chosen.device,
            backend=chosen.backend,
        )
        one_by_one = attrs.evolve(auto, batch=1, streams=1)
        plan, steps = make_plan(one_by_one)
        print(f"{plan.models[0].name} on {plan.device.name}, {plan.backend} {plan.precision}, {width}x{height}, fps")
        print("  streams  " + "".join(f"batch {batch:<6}" for batch in BATCHES))
        with speedometer(plan, steps, steps[0]) as measuring:
            measuring.rate(plan.geometries[0], 1, 1, seconds=chosen.seconds)  # the GPU comes up to its speed
            for streams in STREAMS:
                cells = [_rate(measuring, plan, streams, batch, chosen.seconds) for batch in BATCHES]
                print(f"  {streams:<9}" + "".join(f"{cell:<12}" for cell in cells), flush=True)
        began = time.perf_counter()
        make_plan(one_by_one)
        planning = time.perf_counter() - began
        began = time.perf_counter()
        picked, _ = make_plan(auto)
        took = time.perf_counter() - began - planning
        assert picked.tuning is not None
        print(
            f"  auto: batch {picked.batch}, streams {picked.streams}, found in {took:.2f} s; {picked.tuning.text()}\n"
        )


def _rate(measuring: Speedometer, plan: EnginePlan, streams: int, batch: int, seconds: float) -> str:
    try:
        return f"{measuring.rate(plan.geometries[0], streams, batch, seconds=seconds):.1f}"
    except RaveError as error:
        return type(error).__name__


def measure(bench: Bench, rounds: int) -> None:
    plan = bench.plan
    size = f"{plan.surface.width}x{plan.surface.height}"
    print(f"{plan.models[0].name} on {plan.device.name}, {plan.backend} {plan.precision}, {size}, {plan.decoder}; "
          f"{rounds} rounds in turn")  # fmt: skip
    bench.pipeline()  # what CUDA and the libraries keep for good is there
    before = sample(plan, {})
    print("\ndecode, convert, infer, convert, discard, beside the network alone")
    figures = in_turn(rounds, pipeline=bench.pipeline, network=lambda: bench.backend(200))
    show(figures, {"pipeline / network": ("pipeline", "network")})
    assert bench.metrics is not None
    print(f"  memory: {bench.hit_rate:.1%} of requests met by the pool, {bench.misses} allocations")
    held = ", ".join(f"{owner} {nbytes / 2**20:.0f}" for owner, nbytes in bench.memory.ledger.items())
    print(f"  the ledger at the end of a run, MiB: {held}; NVML, beyond what CUDA and the libraries keep: "
          f"{bench.memory.held_since(before) / 2**20:.0f}")  # fmt: skip
    utilisation(bench.metrics)
    print("\nthe same with the software encoder, beside the slower of network and encoder alone")
    figures = in_turn(
        rounds,
        pipeline=lambda: bench.pipeline(encode=True),
        network=lambda: bench.backend(200),
        encoder=lambda: bench.encoder(REPEATS * FRAMES),
    )
    show(figures, {"pipeline / slower": ("pipeline", "network", "encoder")})
    utilisation(bench.metrics)
    print("\ndecode and convert, beside decoding alone")
    runs = {"decode and convert": lambda: bench.decoder(convert=True), "decode": lambda: bench.decoder(convert=False)}
    show(in_turn(rounds, **runs), {"ratio": ("decode and convert", "decode")})
    hashes: list[list[str]] = [[], []]
    for each in hashes:
        bench.pipeline(each)
    same = "identical" if hashes[0] == hashes[1] else "DIFFERENT"
    print(f"\ntwo runs, the hashes of their {len(hashes[0])} pictures: {same}")
    after = sample(plan, {})
    print(f"GPU memory in use, before and after all runs: "
          f"{before.in_use / 2**20:.0f} and {after.in_use / 2**20:.0f} MiB")  # fmt: skip


def sample(plan: EnginePlan, owners: dict[str, int]) -> MemorySample:
    """What NVML says now, beside the ledger."""
    assert plan.gpu is not None
    assert plan.gpu.uuid is not None
    return MemorySample.take("now", plan.gpu.uuid, owners)


def utilisation(metrics: PipelineMetrics) -> None:
    print("  stage         busy   waiting for input   waiting for output")
    for stage in metrics.stages:
        total = stage.busy + stage.waiting_for_input + stage.waiting_for_output or 1
        shares = (stage.busy / total, stage.waiting_for_input / total, stage.waiting_for_output / total)
        print(f"  {stage.name:12}  {shares[0]:4.0%}   {shares[1]:17.0%}   {shares[2]:18.0%}")


if __name__ == "__main__":
    main()
