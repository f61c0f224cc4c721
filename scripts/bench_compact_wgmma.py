"""Speed of the Compact family's wgmma kernels, beside a dense fp16 matrix product by PyTorch in the same run.

    python scripts/bench_compact_wgmma.py [--features 64,128] [--sizes 1920x1080,1280x720] [--fp8] [--rounds N] [--json]

A round is one launch of a CUDA graph, timed with events.  The trunk's graph has 16 layers that write two buffers by
turns, as a network does; those of the tail, and of the tail that resizes to x2, have 4 launches that write two pictures
by turns.  The figures are medians over the rounds, a launch; the dense rate is taken before and after.  Each is warmed
up for a third of a second, since the rate of all of them falls when the GPU reaches its limit of power.  ``of dense``
is the share of it that the operations of the layer make up, padding not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import attrs
import numpy as np
import torch
from cuda.bindings import driver

from rave_trio.devices.cuda import CudaDevice
from rave_trio.devices.driver import check
from rave_trio.devices.launcher import CudaLauncher
from rave_trio.inference.compact.e4m3 import encoded
from rave_trio.inference.compact.kernels_protocol import (
    REMAINING,
    Architecture,
    Parameters,
    Planes,
    Rows,
    remainder_bytes,
    remainders_at,
)
from rave_trio.inference.compact.resampling import Resize
from rave_trio.inference.compact.wgmma_kernels import WgmmaKernels, has_tail

LAYERS = 16
TAILS = 4
FACTOR = 4
HALVED = Resize(Fraction(1, 2), "cubic", "half_pixel").over(FACTOR)
E4M3_SPREAD = 8
DENSE = 8192
DENSE_ROUNDS = 30
WARM_UP = 1 / 3
"""Seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", default="64,128,96,48,32,16")
    parser.add_argument("--sizes", default="1920x1080,1280x720,3840x2160,854x480,320x180")
    parser.add_argument("--fp8", action="store_true", help="activations and weights in e4m3")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    device = CudaDevice(0)
    dense = dense_rate()
    found = []
    for features in map(int, args.features.split(",")):
        for size in args.sizes.split(","):
            width, height = map(int, size.split("x"))
            for result in Bench(device, features, width, height, fp8=args.fp8).results(args.rounds):
                result["of dense"] = result["TFLOP/s"] / dense
                found.append(result)
                if not args.json:
                    print(render(result), flush=True)
    after = dense_rate()
    if args.json:
        json.dump({"device": device.name, "dense TFLOP/s": [dense, after], "results": found}, sys.stdout, indent=1)
        print()
    else:
        print(f"dense fp16 matrix product: {dense:.0f} TFLOP/s before, {after:.0f} after")
    device.close()


def render(result: dict[str, Any]) -> str:
    return (
        f"{result['kernel']:7} F={result['features']:<3} {result['size']:>9}  {result['ms']:.4f} ms "
        f"({result['least']:.4f} to {result['most']:.4f})  {result['TFLOP/s']:6.1f} TFLOP/s  "
        f"{result['of dense']:6.1%} of dense  {result['GB/s']:5.0f} GB/s"
    )


def dense_rate() -> float:
    """TFLOP/s."""
    left, right = (torch.randn(DENSE, DENSE, device="cuda", dtype=torch.float16) for _ in range(2))
    times = []
    until = time.monotonic() + WARM_UP
    while time.monotonic() < until or len(times) < DENSE_ROUNDS:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        left @ right
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return 2 * DENSE**3 / statistics.median(times[-DENSE_ROUNDS:]) / 1e9


class Bench:
    """One size and one number of features."""

    def __init__(self, device: CudaDevice, features: int, width: int, height: int, *, fp8: bool = False) -> None:
        self._device, self._features, self._width, self._height = device, features, width, height
        self._stream = device.stream()
        self._architecture = Architecture(features, FACTOR, skip=True, clip=True)
        self._fp8, self._itemsize = fp8, 1 if fp8 else 2
        self._kernels = self._made(self._architecture)
        self._random = np.random.default_rng(1)
        self._memories: list[Any] = []

    def _made(self, architecture: Architecture) -> WgmmaKernels:
        return WgmmaKernels(architecture, CudaLauncher(), self._stream, fp8=self._fp8)

    def results(self, rounds: int) -> list[dict[str, Any]]:
        """Of the trunk, and of the tails."""
        try:
            pixels = self._height * self._width
            flop = 2 * 9 * self._features * pixels
            moved = pixels * self._features * self._itemsize
            found = [self._result("trunk", self._trunk(rounds), flop * self._features, 2 * self._activation_bytes())]
            if has_tail(self._features, self._itemsize):
                picture, flop = pixels * 3 * 2, flop * self._architecture.outputs
                resized = attrs.evolve(self._architecture, resampling=HALVED)
                resizing = self._made(resized)
                for name, tail, scale in (
                    ("tail", self._kernels.tail, FACTOR),
                    ("resized", resizing.tail_resized, resized.scale),
                ):
                    times = self._tail(tail, scale, rounds)
                    found.append(self._result(name, times, flop, moved + picture * (1 + scale**2)))
            return found
        finally:
            self._stream.synchronize()
            for memory in self._memories:
                memory.close()

    def _result(self, kernel: str, times: list[float], flop: int, moved: int) -> dict[str, Any]:
        ms = statistics.median(times)
        return {
            "kernel": kernel,
            "features": self._features,
            "size": f"{self._width}x{self._height}",
            "ms": ms,
            "least": min(times),
            "most": max(times),
            "TFLOP/s": flop / ms / 1e9,
            "GB/s": moved / ms / 1e6,
        }

    def _trunk(self, rounds: int) -> list[float]:
        source = self._activations()
        buffers = [self._empty(self._activation_bytes()) for _ in range(2)]
        layers = [self._layer(self._features, E4M3_SPREAD) for _ in range(LAYERS)]

        def launches(raw: Any) -> None:
            at = source
            for number, layer in enumerate(layers):
                target = buffers[number % 2]
                self._kernels.trunk(raw, at, target, self._height, self._width, self._rows, layer)
                at = target

        return self._times(launches, LAYERS, rounds)

    def _tail(self, tail: Callable[..., None], scale: int, rounds: int) -> list[float]:
        source, layer = self._activations(), self._layer(self._architecture.outputs, 1)
        pixels = self._height * self._width
        picture = Planes(self._put(self._random.random(3 * pixels, np.float32).astype(np.float16)), pixels)
        targets = [Planes(self._empty(3 * pixels * scale**2 * 2), pixels * scale**2) for _ in range(2)]

        def launches(raw: Any) -> None:
            for number in range(TAILS):
                target = targets[number % 2]
                tail(raw, source, picture, target, self._height, self._width, self._rows, layer)

        return self._times(launches, TAILS, rounds)

    @property
    def _rows(self) -> Rows:
        return Rows(0, self._height)

    def _times(self, launches: Callable[[Any], None], count: int, rounds: int) -> list[float]:
        """Milliseconds a launch, of each round."""
        raw = self._stream.raw
        with self._device.current():
            mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
            check(driver.cuStreamBeginCapture(raw.handle, mode))
            launches(raw)
            graph = check(driver.cuStreamEndCapture(raw.handle))
            executable = check(driver.cuGraphInstantiate(graph, 0))
            times = []
            until = time.monotonic() + WARM_UP
            while time.monotonic() < until or len(times) < rounds:
                begin = self._stream.record(timing=True)
                check(driver.cuGraphLaunch(executable, raw.handle))
                times.append(self._stream.record(timing=True).seconds_since(begin) * 1000 / count)
            check(driver.cuGraphExecDestroy(executable))
            check(driver.cuGraphDestroy(graph))
        return times[-rounds:]

    def _activations(self) -> int:
        return self._put(np.resize(self._numbers(1 << 20, 1), self._activation_bytes() // self._itemsize))

    def _activation_bytes(self) -> int:
        """With remainders in fp8."""
        size = self._height, self._width
        if self._itemsize == 2:
            return 2 * self._height * self._width * self._features
        return remainders_at(*size, self._features) + remainder_bytes(*size)

    def _layer(self, outputs: int, written: float) -> Parameters:
        """In fp8 with results of the spread ``written``; else they are as what was read."""
        spread = (1.9 / (9 * self._features)) ** 0.5
        weights = self._numbers(9 * outputs * self._features, spread)
        bias = self._random.normal(0, 0.1, outputs).astype(np.float32)
        slope = self._random.uniform(-0.2, 1.2, outputs).astype(np.float32)
        addresses = [self._put(array) for array in (weights, bias, slope)]
        if self._itemsize == 2:
            return Parameters(*addresses)
        scale = np.repeat(np.float32([spread / E4M3_SPREAD**2 * written, 0.1]), [outputs, REMAINING])
        return Parameters(*addresses, scale=self._put(scale), remains=True)

    def _numbers(self, count: int, spread: float) -> np.ndarray:
        """Normally distributed; in fp8 with a spread of E4M3_SPREAD."""
        if self._itemsize == 2:
            return (self._random.standard_normal(count, np.float32) * spread).astype(np.float16)
        return encoded(self._random.standard_normal(count, np.float32) * E4M3_SPREAD)

    def _empty(self, nbytes: int) -> int:
        memory = self._device.allocate(nbytes)
        self._memories.append(memory)
        return memory.pointer

    def _put(self, array: np.ndarray) -> int:
        pointer = self._empty(array.nbytes)
        with self._device.current():
            check(driver.cuMemcpyHtoD(pointer, array.ctypes.data, array.nbytes))
        return pointer


if __name__ == "__main__":
    main()
