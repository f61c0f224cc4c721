"""Times the Compact family's kernels on the GPU here: python scripts/bench_compact_kernels.py [--features 64] [--tilings]

Each figure is the median of several replays of a CUDA graph of launches that go around buffers larger than the L2 cache,
timed by events, on random values.  With --tilings every tiling that fits is timed, and its results are compared bit by
bit with those of the one that is in use.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from cuda.bindings import driver

from rave_trio.devices.copies import copy_from_host, copy_to_host
from rave_trio.devices.cuda import CudaDevice
from rave_trio.devices.driver import check
from rave_trio.devices.launcher import CudaLauncher
from rave_trio.inference.compact.kernels_protocol import FEATURES, Architecture, Parameters, Planes, Resampling, Rows
from rave_trio.inference.compact.mma_kernels import MmaKernels, tail_kernel, trunk_kernel
from rave_trio.inference.compact.mma_tiling import shared_bytes_of, tilings

LAUNCHES, REPLAYS = 24, 7
CACHE_BYTES = 96 << 20
"""More than the L2 of any GPU that this was run on."""

HALVING = Resampling(2, (-1, 1), ((-0.09375, 0.59375, 0.59375, -0.09375),) * 2)
"""The x2 end of animevideov3: by 1 / 2 after a shuffle by 4."""

THREE_QUARTERS = Resampling(
    3,
    (-1, 0, 1),
    tuple(
        tuple(float(tap) for tap in taps)
        for taps in (
            (-0.0868, 0.9259, 0.1887, -0.0278),
            (-0.0938, 0.5938, 0.5938, -0.0938),
            (-0.0278, 0.1887, 0.9259, -0.0868),
        )
    ),
)
"""Like its x3 end; the weights are rounded, which does not change the time."""


class Bench:
    """Buffers and a stream on the first GPU."""

    def __init__(self, height: int, width: int) -> None:
        self.device = CudaDevice(0)
        self.stream = self.device.stream()
        self.launcher = CudaLauncher()
        self.height, self.width = height, width
        self.rng = np.random.default_rng(1)
        self._kept: list[Any] = []

    @property
    def size(self) -> tuple[int, int, Rows]:
        return self.height, self.width, Rows(0, self.height)

    def upload(self, values: np.ndarray) -> int:
        return self._upload(values).pointer

    def _upload(self, values: np.ndarray) -> Any:
        memory = self.device.allocate(values.nbytes)
        self.stream.launch(
            lambda _: copy_from_host(self.stream, values.reshape(-1), memory.array((values.size,), values.dtype))
        )
        self.stream.synchronize()
        self._kept.append(memory)
        return memory

    def halves(self, *shape: int) -> np.ndarray:
        block = self.rng.normal(0, 0.5, 1 << 20).astype(np.float16)
        return np.resize(block, shape)

    def ring(self, *shape: int) -> list[Any]:
        """Buffers of this shape that the cache cannot hold."""
        values = self.halves(*shape)
        return [self._upload(values) for _ in range(max(2, -(-CACHE_BYTES // values.nbytes)))]

    def parameters(self, features: int) -> Parameters:
        weights = self.rng.normal(0, (9 * features) ** -0.5, 9 * features * max(features, 48)).astype(np.float16)
        return Parameters(
            self.upload(weights),
            self.upload(self.rng.normal(0, 0.1, 128).astype(np.float32)),
            self.upload(self.rng.uniform(-0.2, 0.8, 128).astype(np.float32)),
        )

    def milliseconds(self, calls: list[Callable[[Any], None]]) -> tuple[float, float]:
        """The median of a call, and how far the slowest replay was above the fastest, relative to it."""
        with self.device.current():
            raw = self.stream.raw
            mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
            check(driver.cuStreamBeginCapture(raw.handle, mode))
            for i in range(LAUNCHES):
                calls[i % len(calls)](raw)
            graph = check(driver.cuGraphInstantiate(check(driver.cuStreamEndCapture(raw.handle)), 0))
            times = []
            for _ in range(REPLAYS + 1):
                begin = self.stream.record(timing=True)
                check(driver.cuGraphLaunch(graph, raw.handle))
                times.append(self.stream.record(timing=True).seconds_since(begin) * 1000 / LAUNCHES)
            check(driver.cuGraphExecDestroy(graph))
        return statistics.median(times[1:]), max(times[1:]) / min(times[1:]) - 1

    def result(self, memory: Any) -> np.ndarray:
        """The bits of what lies there."""
        host = np.empty(memory.nbytes // 2, np.uint16)
        self.stream.launch(lambda _: copy_to_host(self.stream, memory.array(host.shape, np.uint16), host))
        self.stream.synchronize()
        return host

    def close(self) -> None:
        self.stream.synchronize()
        while self._kept:
            self._kept.pop().close()


def show(name: str, timed: tuple[float, float], gflop: float, gbytes: float, note: str = "") -> None:
    ms, spread = timed
    print(
        f"{name:24} {ms:8.4f} ms  +-{spread:5.1%}  {gflop / ms:7.1f} TFLOP/s  {gbytes / ms * 1000:7.0f} GB/s  {note}",
        flush=True,
    )


def time_layers(bench: Bench, features: int) -> None:
    """One of each kernel."""
    height, width = bench.height, bench.width
    pixels = height * width
    kernels = {
        name: MmaKernels(Architecture(features, 4, True, False, resampling), bench.launcher, bench.stream)
        for name, resampling in (("x4", None), ("x2", HALVING), ("x3", THREE_QUARTERS))
    }
    parameters = bench.parameters(features)
    pictures = [Planes(each.pointer, pixels) for each in bench.ring(3, height, width)]
    activations = [each.pointer for each in bench.ring(height, width, features)]
    around = range(len(activations))
    x4 = kernels["x4"]
    show(
        f"head {features}",
        bench.milliseconds(
            [
                partial(
                    x4.head,
                    picture=pictures[i % len(pictures)],
                    target=activations[i],
                    **_size(bench),
                    parameters=parameters,
                )
                for i in around
            ]
        ),
        2 * 27 * features * pixels / 1e9,
        (2 * features + 6) * pixels / 1e9,
    )
    show(
        f"trunk {features}",
        bench.milliseconds(
            [
                partial(
                    x4.trunk, source=activations[i - 1], target=activations[i], **_size(bench), parameters=parameters
                )
                for i in around
            ]
        ),
        2 * 9 * features**2 * pixels / 1e9,
        4 * features * pixels / 1e9,
    )
    large = [Planes(each.pointer, 16 * pixels) for each in bench.ring(3, 4 * height, 4 * width)]
    for name, gbytes in (("x4", 6 * 17), ("x2", 6 * 16)):
        show(
            f"tail {features} {name}",
            bench.milliseconds(
                [
                    partial(
                        kernels[name].tail,
                        source=activations[i],
                        picture=pictures[0],
                        target=large[i % len(large)],
                        **_size(bench),
                        parameters=parameters,
                    )
                    for i in around
                ]
            ),
            2 * 9 * features * 48 * pixels / 1e9,
            (2 * features + gbytes) * pixels / 1e9,
        )
    if features == 64:
        for name, scale in (("x2", 2), ("x3", 3)):
            small = [Planes(each.pointer, scale**2 * pixels) for each in bench.ring(3, scale * height, scale * width)]
            show(
                f"resize {name}",
                bench.milliseconds(
                    [
                        partial(
                            kernels[name].resize,
                            source=large[i % len(large)],
                            picture=pictures[0],
                            target=small[i % len(small)],
                            **_size(bench),
                        )
                        for i in range(6)
                    ]
                ),
                0,
                6 * (16 + 1 + scale**2) * pixels / 1e9,
            )
    bench.close()


def _size(bench: Bench) -> dict[str, Any]:
    height, width, rows = bench.size
    return {"height": height, "width": width, "rows": rows}


def time_tilings(bench: Bench, features: int, only: str) -> None:
    """Every tiling of the trunk and the tail that fits."""
    height, width = bench.height, bench.width
    pixels = height * width
    architecture = Architecture(features, 4, True, False)
    kernels = MmaKernels(architecture, bench.launcher, bench.stream)
    arch = bench.launcher.arch(bench.stream)
    parameters = bench.parameters(features)
    picture = Planes(bench.upload(bench.halves(3, height, width)), pixels)
    activations = bench.ring(height, width, features)
    large = bench.ring(3, 4 * height, 4 * width)

    def trunk(i: int) -> Callable[[Any], None]:
        return partial(
            kernels.trunk,
            source=activations[0].pointer,
            target=activations[1 + i % (len(activations) - 1)].pointer,
            **_size(bench),
            parameters=parameters,
        )

    def tail(i: int) -> Callable[[Any], None]:
        return partial(
            kernels.tail,
            source=activations[i].pointer,
            picture=picture,
            target=Planes(large[i % len(large)].pointer, 16 * pixels),
            **_size(bench),
            parameters=parameters,
        )

    for name, call, make, outputs, target in (
        ("trunk", trunk, trunk_kernel, features, activations[1]),
        ("tail", tail, tail_kernel, architecture.outputs, large[0]),
    ):
        if only not in ("all", name):
            continue
        own = getattr(kernels, f"_{name}_kernel").tiling
        expected = None
        for tiling in dict.fromkeys([own, *tilings(features, outputs, shared_bytes_of(arch), own.samples_bytes)]):
            kernel = make(architecture, arch, tiling)
            setattr(kernels, f"_{name}_kernel", kernel)
            setattr(
                kernels,
                f"_{name}",
                bench.launcher.load(bench.stream, kernel.source, shared_bytes=tiling.shared_bytes),
            )
            bench.stream.launch(call(0))
            found = bench.result(target)
            expected = found if expected is None else expected
            same = np.array_equal(found, expected)
            note = f"{tiling.warps_x},{tiling.warps_y},{tiling.warps_out},{tiling.warp_rows} ring {tiling.ring_rows} stages {tiling.weight_stages}/{tiling.steps} blocks {tiling.blocks} unroll {tiling.unrolled_columns} {'' if same else 'DIFFERS'}"  # noqa: E501
            timed = bench.milliseconds([call(i) for i in range(len(activations))])
            show(f"{name} {features}", timed, 2 * 9 * features * outputs * pixels / 1e9, 0, note)
    bench.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, nargs="*", default=FEATURES)
    parser.add_argument("--size", type=int, nargs=2, default=(1080, 1920), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--tilings", choices=["trunk", "tail", "all"])
    options = parser.parse_args()
    bench = Bench(*options.size)
    print(bench.device.name, f"{options.size[1]}x{options.size[0]}")
    for features in options.features:
        if options.tilings:
            time_tilings(bench, features, options.tilings)
        else:
            time_layers(bench, features)
    bench.device.close()


if __name__ == "__main__":
    main()
