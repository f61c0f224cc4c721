#!/usr/bin/env python3
"""Whole networks of the Compact family on a GPU, by our own kernels and by what else is installed, in one run.

    scripts/bench_compact.py [--sizes 1920x1080,1280x720,3840x2160] [--models animevideo-x4,animevideo-x2]
        [--features 16,24,32,48,64,96,128] [--kernels auto,fp8,apart,mma,mma8] [--without torch,onnxruntime]
        [--rounds 30] [--json]

``compact fp8`` is ours in fp8, where that can be, and ``compact apart`` ours with the resize as a kernel
of its own.  ``compact mma`` and ``mma8`` (fp8) are the kernels for other GPUs than those of compute capability 9.0.
``nv12`` is the way from an NV12 surface to a larger one, frames one after the other as the engine launches them, and
``nv12 in three`` the same by way of tensors: conversion, network, conversion.
``host ms`` is what launching a frame takes the thread that does so.

A network reads a picture in fp16 in the GPU's memory and writes the larger one there; each figure is the median over
frames, with the least and the most, timed by events after a third of a second of the same work.  ``of dense`` is the
share of the rate of a dense fp16 matrix product of 8192 x 8192 x 8192, by PyTorch, before and after all.  What is not
installed is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs
import numpy as np

from rave_trio.color.cuda.conversion import Conversion
from rave_trio.color.cuda.planes import layout
from rave_trio.color.cuda.specialisation import reading, writing
from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.copies import copy_from_host
from rave_trio.devices.cuda import CudaDevice, CudaStream
from rave_trio.devices.graphs import Graphs, Unrecorded
from rave_trio.devices.interface import use
from rave_trio.devices.launcher import CudaLauncher
from rave_trio.devices.pool import device_pool
from rave_trio.frames import ChromaLocation, ColorRange, ColorSpec, PixelFormat, SurfaceDescriptor
from rave_trio.inference.catalogue import find_model
from rave_trio.inference.compact.find import find_compact
from rave_trio.inference.compact.kernel_sets import HOPPER, kernels_for
from rave_trio.inference.compact.mma_kernels import MmaKernels
from rave_trio.inference.compact.net import CompactNet, Layer
from rave_trio.inference.compact.network import CompactNetwork
from rave_trio.inference.compact.surfaces import Ends, Surfaces
from rave_trio.inference.device_tiles import stacked
from rave_trio.memory import Ledger

WARM_UP = 1 / 3
FRAMES = 8
NV12 = PixelFormat("nv12", 8, chroma_shift_x=1, chroma_shift_y=1)
DENSE = 8192
TRUNK = 16

T = TypeVar("T")


@attrs.frozen
class Timing:
    """Milliseconds of each frame."""

    times: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def as_dict(self) -> dict[str, float]:
        return {"ms": self.median, "least": min(self.times), "most": max(self.times)}

    def text(self) -> str:
        return f"{self.median:8.3f} ms ({min(self.times):.3f} to {max(self.times):.3f})"


class Stepping:
    """Kernels that note the time behind each of them."""

    def __init__(self, kernels: Any, stream: CudaStream) -> None:
        self._kernels, self._stream = kernels, stream
        self.fp8, self.resizes_at_once = kernels.fp8, kernels.resizes_at_once
        self.events: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        kernel = getattr(self._kernels, name)

        def call(*args: Any) -> None:
            kernel(*args)
            self.events.append((name, self._stream.record(timing=True)))

        return call


class Bench:
    """One GPU."""

    def __init__(self, rounds: int) -> None:
        self.device = CudaDevice(0)
        self.rounds = rounds
        self.stream = self.device.stream()
        self._pool = device_pool(self.device, Ledger())

    def timed(self, network: Any, source: DeviceArray, target: DeviceArray) -> Timing:
        """A network as the engine launches it."""
        failures: list[Exception] = []

        def frame() -> float:
            begin = self.stream.record(timing=True)
            with use(self.stream, source.memory, target.memory):
                network.launch(self.stream, source, target, failures.append)
            return self.stream.record(timing=True).seconds_since(begin) * 1000

        times = repeated(frame, self.rounds)
        if failures:
            raise failures[0]
        return Timing(times)

    @contextlib.contextmanager
    def pictures(self, height: int, width: int, scale: int) -> Iterator[tuple[DeviceArray, DeviceArray]]:
        """Noise, and room for what becomes of it."""
        shapes = (3, height, width), (3, height * scale, width * scale)
        with contextlib.ExitStack() as held:
            leases = [held.enter_context(contextlib.closing(self._pool.lease(2 * int(np.prod(s))))) for s in shapes]
            source, target = (
                DeviceArray(each.memory, shape, np.float16) for each, shape in zip(leases, shapes, strict=True)
            )
            noise = np.random.default_rng(0).random(shapes[0], np.float32).astype(np.float16)
            with use(self.stream, source.memory):
                copy_from_host(self.stream, noise, source)
            self.stream.synchronize()
            yield source, target

    @contextlib.contextmanager
    def network(
        self, net: CompactNet, height: int, width: int, make: Any, *, step: bool = False, ends: Ends | None = None
    ) -> Iterator[Any]:
        kernels = make(net.architecture, CudaLauncher(), self.stream)
        made = CompactNetwork(
            net,
            Stepping(kernels, self.stream) if step else kernels,
            height=height,
            width=width,
            strip=height,
            stream=self.stream,
            scratch=self._pool,
            player=Unrecorded() if step else Graphs(),
            upload=copy_from_host,
            surfaces=None if ends is None else Surfaces(ends, kernels, self.stream, CudaLauncher()),
        )
        with contextlib.closing(made):
            yield made

    def ours(self, net: CompactNet, height: int, width: int, make: Any) -> tuple[Timing, float]:
        """And the bytes of parameters and buffers, in millions."""
        with self.pictures(height, width, net.scale) as arrays, self.network(net, height, width, make) as network:
            return self.timed(network, *arrays), network._lease.memory.nbytes / 1e6

    def nv12(self, net: CompactNet, height: int, width: int, make: Any) -> dict[str, tuple[Timing, Timing]]:
        """Of one of FRAMES frames that follow one another, in one launch each and in three, by way of tensors: on the
        GPU, and of the thread that launches.  Both by turns, so that they are as hot.
        """
        color = ColorSpec(1, 1, 1, ColorRange.LIMITED, ChromaLocation.LEFT)
        sizes = (height, width), (height * net.scale, width * net.scale)
        surfaces = [SurfaceDescriptor(across, down, NV12, color) for down, across in sizes]
        placed = [layout(surface) for surface in surfaces]
        noise = np.random.default_rng(0).integers(0, 255, placed[0].nbytes, np.uint8)
        with contextlib.ExitStack() as held:
            source, target = held.enter_context(self.pictures(height, width, net.scale))
            ends = Ends(source=surfaces[0], target=surfaces[1])
            network = held.enter_context(self.network(net, height, width, make, ends=ends))
            leases = [held.enter_context(contextlib.closing(self._pool.lease(each.nbytes))) for each in placed]
            memories = [each.memory for each in leases]
            read = Conversion(surfaces[0], reading(surfaces[0], np.float16), self.stream, None)
            written = Conversion(surfaces[1], writing(surfaces[1], np.float16), self.stream, None)
            pictures = [each.picture(memory) for each, memory in zip(placed, memories, strict=True)]
            with use(self.stream, memories[0]):
                copy_from_host(self.stream, noise, DeviceArray(memories[0], noise.shape, np.uint8))

            def in_one() -> None:
                network.launch_surfaces(self.stream, *pictures, failed=_raise)

            def in_three() -> None:
                read.run(pictures[0], source)
                network.launch(self.stream, source, target, failed=_raise)
                written.run(pictures[1], target)

            def frames(launch: Callable[[], None]) -> tuple[float, float]:
                begin = self.stream.record(timing=True)
                with use(self.stream, source.memory, target.memory, *memories):
                    began = time.perf_counter()
                    for _ in range(FRAMES):
                        launch()
                    launched = time.perf_counter() - began
                return self.stream.record(timing=True).seconds_since(begin) * 1000 / FRAMES, launched * 1000 / FRAMES

            rounds = repeated(lambda: (frames(in_one), frames(in_three)), self.rounds)
            names = "nv12", "nv12 in three"
            return {
                name: (Timing([gpu for gpu, _ in times]), Timing([host for _, host in times]))
                for name, times in zip(names, zip(*rounds, strict=True), strict=True)
            }

    def layers(self, net: CompactNet, height: int, width: int, make: Any) -> dict[str, float]:
        """Milliseconds of a kernel of each kind, one after the other without a graph."""
        found: dict[str, list[float]] = {}
        with (
            self.pictures(height, width, net.scale) as arrays,
            self.network(net, height, width, make, step=True) as made,
        ):
            self.timed(made, *arrays)
            for _ in range(self.rounds):
                steps = made._kernels
                steps.events = [("begin", self.stream.record(timing=True))]
                made.launch(self.stream, *arrays, failed=_raise)
                for (_, before), (name, after) in itertools.pairwise(steps.events):
                    found.setdefault(name, []).append(after.seconds_since(before) * 1000)
        return {name: statistics.median(times) for name, times in found.items()}

    def onnxruntime(self, name: str, height: int, width: int, scale: int) -> Timing:
        from rave_trio.inference.model import Geometry
        from rave_trio.inference.onnx_model import prepared
        from rave_trio.inference.onnxruntime_session import Cuda, OnnxRuntimeSession
        from rave_trio.inference.openvino_model import Model

        data = Model(*find_model(name)).metadata
        onnx = prepared(data, Geometry(height, width, overlap=0, tiles=1), np.float16)
        provider = Cuda(int(self.stream.raw.handle), self.device.ordinal)
        session = OnnxRuntimeSession(onnx, name, np.dtype(np.float16), provider)
        with contextlib.closing(session), self.pictures(height, width, scale) as arrays:
            return self.timed(session, *(stacked(array, 1) for array in arrays))

    def close(self) -> None:
        self._pool.close()
        self.device.close()


def _raise(error: Exception) -> None:
    raise error


def repeated(frame: Callable[[], T], rounds: int) -> list[T]:
    """The last ``rounds`` times, after a while of the same."""
    times: list[T] = []
    until = time.monotonic() + WARM_UP
    while time.monotonic() < until or len(times) < rounds:
        times.append(frame())
    return times[-rounds:]


def dense_rate(rounds: int) -> float:
    """TFLOP/s of PyTorch's matrix product."""
    import torch

    left, right = (torch.randn(DENSE, DENSE, device="cuda", dtype=torch.float16) for _ in range(2))
    return 2 * DENSE**3 / statistics.median(repeated(lambda: torch_time(lambda: left @ right), rounds)) / 1e9


def torch_time(work: Callable[[], Any]) -> float:
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def torch_compiled(net: CompactNet, height: int, width: int, rounds: int) -> Timing:
    """The same network by torch.compile, fp16, channels last."""
    import torch
    from torch import nn

    class Compact(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.ModuleList()
            for layer in net.layers:
                outputs, inputs = layer.weights.shape[:2]
                conv = nn.Conv2d(inputs, outputs, 3, padding=1)
                conv.weight.data, conv.bias.data = torch.tensor(layer.weights), torch.tensor(layer.bias)
                self.body.append(conv)
                if layer.slope is not None:
                    bend = nn.PReLU(outputs)
                    bend.weight.data = torch.tensor(layer.slope)
                    self.body.append(bend)

        def forward(self, picture: Any) -> Any:
            x = picture
            for each in self.body:
                x = each(x)
            x = nn.functional.pixel_shuffle(x, net.factor)
            if net.skip:
                x = x + nn.functional.interpolate(picture, scale_factor=net.factor, mode="nearest")
            if net.resampling is not None:
                x = nn.functional.interpolate(x, scale_factor=net.scale / net.factor, mode="bicubic")
            return x

    model = Compact().cuda().half().to(memory_format=torch.channels_last)
    compiled = torch.compile(model, mode="max-autotune")
    picture = torch.rand(1, 3, height, width, device="cuda", dtype=torch.float16).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        for _ in range(3):
            compiled(picture)
        return Timing(repeated(lambda: torch_time(lambda: compiled(picture)), rounds))


def random_net(features: int, factor: int = 4) -> CompactNet:
    """Weights that keep the size of what goes through."""
    rng = np.random.default_rng(1)
    widths = [3, *[features] * (TRUNK + 1), 3 * factor**2]
    layers = [
        Layer(
            rng.normal(0, (9 * inputs) ** -0.5, (outputs, inputs, 3, 3)).astype(np.float32),
            np.zeros(outputs, np.float32),
            np.full(outputs, 0.25, np.float32) if at <= TRUNK else None,
        )
        for at, (inputs, outputs) in enumerate(itertools.pairwise(widths))
    ]
    return CompactNet(tuple(layers), factor, skip=True, resampling=None, clip=False)


def flops(net: CompactNet, height: int, width: int) -> int:
    """Of all convolutions, without padding."""
    return sum(2 * layer.weights.size for layer in net.layers) * height * width


def kernels_named(name: str, device: CudaDevice) -> Any:
    if name == "mma":
        return MmaKernels
    if name == "mma8":
        return functools.partial(MmaKernels, fp8=True)
    if name == "fp8":
        return kernels_for(device.compute_capability, fp8=True)
    made = kernels_for(device.compute_capability)
    apart = name == "apart" and device.compute_capability == HOPPER
    return functools.partial(made, at_once=False) if apart else made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1920x1080,1280x720,3840x2160")
    parser.add_argument("--models", default="animevideo-x4,animevideo-x2")
    parser.add_argument("--features", default="16,24,32,48,64,96,128")
    parser.add_argument("--kernels", default="auto,fp8,apart,mma")
    parser.add_argument("--without", default="")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    left_out = set(args.without.split(","))
    has = {
        name: name not in left_out and importlib.util.find_spec(name) is not None for name in ("torch", "onnxruntime")
    }
    sizes = [tuple(map(int, size.split("x"))) for size in args.sizes.split(",")]
    bench, found = Bench(args.rounds), []
    dense = [dense_rate(args.rounds)] if has["torch"] else []

    def note(what: str, model: str, size: tuple[int, ...], timing: Timing, flop: int, **more: Any) -> None:
        rate = flop / timing.median / 1e9
        share = {"of dense": rate / dense[0]} if dense else {}
        entry = {"what": what, "model": model, "size": size, **timing.as_dict(), "TFLOP/s": rate, **share, **more}
        found.append(entry)
        if not args.json:
            text = f"{what:22} {model:14} {size[0]:>4}x{size[1]:<4} {timing.text()}  {rate:5.0f} TFLOP/s"
            print(text + "".join(f"  {key} {value:.4g}" for key, value in (share | more).items()), flush=True)

    for model, (width, height) in itertools.product(args.models.split(","), sizes):
        net = find_compact(find_model(model)[1])
        flop = flops(net, height, width)
        for kernels in args.kernels.split(","):
            make = kernels_named(kernels, bench.device)
            timing, megabytes = bench.ours(net, height, width, make)
            note(f"compact {kernels}", model, (width, height), timing, flop, MB=megabytes)
            layers = bench.layers(net, height, width, make)
            if not args.json:
                print(" " * 16, "  ".join(f"{name} {ms:.4f} ms" for name, ms in layers.items()))
            found[-1]["layers"] = layers
            for name, (gpu, host) in bench.nv12(net, height, width, make).items():
                note(f"{name} {kernels}", model, (width, height), gpu, flop, **{"host ms": host.median})
        if (width, height) != sizes[0]:
            continue
        others: dict[str, Callable[[], Timing]] = {}
        if has["onnxruntime"]:
            others["onnxruntime"] = functools.partial(bench.onnxruntime, model, height, width, net.scale)
        if has["torch"]:
            others["torch.compile"] = functools.partial(torch_compiled, net, height, width, args.rounds)
        for name, run in others.items():
            try:
                note(name, model, (width, height), run(), flop)
            except Exception as error:  # whatever keeps another library from it is no reason to end
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    width, height = sizes[0]
    for features, kernels in itertools.product(filter(None, args.features.split(",")), args.kernels.split(",")):
        net = random_net(int(features))
        timing, megabytes = bench.ours(net, height, width, kernels_named(kernels, bench.device))
        flop = flops(net, height, width)
        note(f"compact {kernels}", f"F={features} N={TRUNK} x4", (width, height), timing, flop, MB=megabytes)
    if dense:
        dense.append(dense_rate(args.rounds))
    if args.json:
        json.dump({"device": bench.device.name, "dense TFLOP/s": dense, "results": found}, sys.stdout, indent=1)
        print()
    elif dense:
        print(f"dense fp16 matrix product: {dense[0]:.0f} TFLOP/s before, {dense[1]:.0f} after")
    bench.close()


if __name__ == "__main__":
    main()
