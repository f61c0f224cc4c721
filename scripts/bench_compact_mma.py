"""Times the Compact family's kernels on the GPU here: python scripts/bench_compact_mma.py [--features 64]

Each figure is the median of several replays of a CUDA graph of launches, which go around buffers that are together
larger than the L2 cache and hold random values; events take the time.  With --tilings every tiling that fits is timed
too.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from cuda.bindings import driver

from rave_trio.devices.copies import copy_from_host
from rave_trio.devices.cuda import CudaDevice
from rave_trio.devices.driver import check
from rave_trio.devices.launcher import CudaLauncher
from rave_trio.inference.compact.kernels_protocol import FEATURES, Architecture, Parameters, Planes, Resampling, Rows
from rave_trio.inference.compact.mma_kernels import MmaKernels, samples_bytes_of
from rave_trio.inference.compact.mma_tiling import Tiling, shared_bytes_of, tilings

LAUNCHES, REPLAYS = 24, 7
CACHE_BYTES = 96 << 20
"""More than the L2 of any GPU that this was run on."""

FACTOR = 4
OUTPUTS = 48

Call = Callable[[Any], None]

X2 = Resampling(2, (-1, 1), ((-0.09375, 0.59375, 0.59375, -0.09375),) * 2)
X3 = Resampling(
    3,
    (-1, 0, 1),
    ((-0.087, 0.926, 0.189, -0.028), (-0.094, 0.594, 0.594, -0.094), (-0.028, 0.189, 0.926, -0.087)),
)
"""The ends of animevideov3, by 1/2 and 3/4 after a shuffle by 4; X3's weights are rounded, which is the same here."""


class Bench:
    """Buffers and a stream on the first GPU, for pictures of one size."""

    def __init__(self, height: int, width: int) -> None:
        self.device = CudaDevice(0)
        self.stream = self.device.stream()
        self.launcher = CudaLauncher()
        self.pixels = height * width
        self.size = {"height": height, "width": width, "rows": Rows(0, height)}
        self._rng = np.random.default_rng(1)
        self._kept: list[Any] = []

    def upload(self, values: np.ndarray) -> int:
        memory = self.device.allocate(values.nbytes)
        self._kept.append(memory)
        target = memory.array((values.size,), values.dtype)
        self.stream.launch(lambda _: copy_from_host(self.stream, values.reshape(-1), target))
        self.stream.synchronize()
        return int(memory.pointer)

    def ring(self, elements: int) -> list[int]:
        """Buffers of so many fp16 values that the cache cannot hold together."""
        values = np.resize(self._rng.normal(0, 0.5, 1 << 20).astype(np.float16), elements)
        return [self.upload(values) for _ in range(max(2, -(-CACHE_BYTES // values.nbytes)))]

    def planes(self, scale: int) -> list[Planes]:
        plane = self.pixels * scale**2
        return [Planes(pointer, plane) for pointer in self.ring(3 * plane)]

    def parameters(self, features: int) -> Parameters:
        weights = self._rng.normal(0, (9 * features) ** -0.5, 9 * features * max(features, OUTPUTS))
        bias, slope = self._rng.normal(0, 0.1, 128), self._rng.uniform(-0.2, 0.8, 128)
        return Parameters(
            self.upload(weights.astype(np.float16)),
            self.upload(bias.astype(np.float32)),
            self.upload(slope.astype(np.float32)),
        )

    def milliseconds(self, calls: list[Call]) -> tuple[float, float]:
        """The median of a call, and how far the slowest replay was above the fastest, relative to it."""
        with self.device.current():
            handle = self.stream.raw.handle
            check(driver.cuStreamBeginCapture(handle, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))
            for i in range(LAUNCHES):
                calls[i % len(calls)](self.stream.raw)
            graph = check(driver.cuGraphInstantiate(check(driver.cuStreamEndCapture(handle)), 0))
            times = []
            for _ in range(REPLAYS + 1):
                begin = self.stream.record(timing=True)
                check(driver.cuGraphLaunch(graph, handle))
                times.append(self.stream.record(timing=True).seconds_since(begin) * 1000 / LAUNCHES)
            check(driver.cuGraphExecDestroy(graph))
        return statistics.median(times[1:]), max(times[1:]) / min(times[1:]) - 1

    def show(self, name: str, calls: list[Call], flop: float, halves: float, note: str = "") -> None:
        """``flop`` and ``halves``, fp16 values read and written, are for each pixel."""
        ms, spread = self.milliseconds(calls)
        tflops, rate = flop * self.pixels / ms / 1e9, 2 * halves * self.pixels / ms / 1e6
        print(f"{name:16} {ms:8.4f} ms +-{spread:5.1%} {tflops:7.1f} TFLOP/s {rate:6.0f} GB/s  {note}", flush=True)

    def clear(self) -> None:
        self.stream.synchronize()
        while self._kept:
            self._kept.pop().close()


def architecture(features: int, resampling: Resampling | None = None) -> Architecture:
    return Architecture(features, FACTOR, skip=True, clip=False, resampling=resampling)


def time_head(bench: Bench, features: int) -> None:
    kernels, parameters = MmaKernels(architecture(features), bench.launcher, bench.stream), bench.parameters(features)
    picture, targets = bench.planes(1)[0], bench.ring(bench.pixels * features)

    def call(target: int) -> Call:
        return lambda raw: kernels.head(raw, picture, target, **bench.size, parameters=parameters)

    bench.show(f"head {features}", [call(target) for target in targets], 2 * 27 * features, 3 + features)
    bench.clear()


def time_trunk(bench: Bench, features: int, found: list[Tiling | None]) -> None:
    parameters, buffers = bench.parameters(features), bench.ring(bench.pixels * features)
    for tiling in found:
        kernels = MmaKernels(architecture(features), bench.launcher, bench.stream, trunk_tiling=tiling)

        def call(source: int, target: int, kernels: MmaKernels = kernels) -> Call:
            return lambda raw: kernels.trunk(raw, source, target, **bench.size, parameters=parameters)

        calls = [call(buffers[i - 1], target) for i, target in enumerate(buffers)]
        bench.show(f"trunk {features}", calls, 2 * 9 * features**2, 2 * features, describe(tiling))
    bench.clear()


def time_tail(bench: Bench, features: int, found: list[Tiling | None]) -> None:
    parameters, sources = bench.parameters(features), bench.ring(bench.pixels * features)
    picture, targets = bench.planes(1)[0], bench.planes(FACTOR)
    for tiling in found:
        kernels = MmaKernels(architecture(features), bench.launcher, bench.stream, tail_tiling=tiling)

        def call(i: int, kernels: MmaKernels = kernels) -> Call:
            source, target = sources[i % len(sources)], targets[i % len(targets)]
            return lambda raw: kernels.tail(raw, source, picture, target, **bench.size, parameters=parameters)

        calls = [call(i) for i in range(LAUNCHES)]
        bench.show(f"tail {features} x4", calls, 2 * 9 * features * OUTPUTS, features + 3 + OUTPUTS, describe(tiling))
    bench.clear()


def time_resize(bench: Bench, resampling: Resampling) -> None:
    scale = resampling.scale
    kernels = MmaKernels(architecture(16, resampling), bench.launcher, bench.stream)
    picture, sources, targets = bench.planes(1)[0], bench.planes(FACTOR), bench.planes(scale)

    def call(i: int) -> Call:
        source, target = sources[i % len(sources)], targets[i % len(targets)]
        return lambda raw: kernels.resize(raw, source, picture, target, **bench.size)

    bench.show(f"resize x{scale}", [call(i) for i in range(LAUNCHES)], 0, 3 * (1 + FACTOR**2 + scale**2))
    bench.clear()


def describe(tiling: Tiling | None) -> str:
    if tiling is None:
        return ""
    stages = f"{tiling.weight_stages} of {tiling.steps} steps of {tiling.step_slices}"
    return f"warps and rows {tiling.shape}, {stages}, {tiling.blocks} a multiprocessor, {tiling.shared_bytes} bytes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, nargs="*", default=FEATURES)
    parser.add_argument("--size", type=int, nargs=2, default=(1080, 1920), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--tilings", action="store_true")
    options = parser.parse_args()
    bench = Bench(*options.size)
    print(bench.device.name, "x".join(map(str, reversed(options.size))))
    for features in options.features:
        trunks: list[Tiling | None] = [None]
        tails: list[Tiling | None] = [None]
        if options.tilings:
            room = shared_bytes_of(bench.launcher.arch(bench.stream))
            trunks += tilings(features, features, room)
            tails += tilings(features, OUTPUTS, room, samples_bytes_of(architecture(features)))
        time_head(bench, features)
        time_trunk(bench, features, trunks)
        time_tail(bench, features, tails)
    for resampling in (X2, X3):
        time_resize(bench, resampling)
    bench.device.close()


if __name__ == "__main__":
    main()
