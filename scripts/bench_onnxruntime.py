"""The onnxruntime backend alone, beside a bare onnxruntime session on the same frames, in turn in one run.

    python scripts/bench_onnxruntime.py [--model NAME] [--size 1920x1080] [--frames N] [--rounds N] [--batch N]

For fp16 and fp32, with convolutions in NHWC and in NCHW: frames per second of our backend and of a session without our
code around it, which works on its own stream and waits for each run; with ``--batch N`` also of one that takes N frames
at a time.  Frames are in the device's memory beforehand and results stay there.  Then, for each, how long the first
frame takes (convolutions are chosen), how much of the GPU's memory is gone after it, and what the arena may hold.
``--provider cpu`` tries the program where there is no GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import attrs
import numpy as np
import onnx
import onnxruntime as ort

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import use
from rave_trio.devices.pool import device_pool
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.errors import OutOfMemory
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.catalogue import find_model
from rave_trio.inference.device_backend import DTYPES
from rave_trio.inference.model import Geometry, arena_bytes
from rave_trio.inference.onnx_model import prepared
from rave_trio.inference.onnxruntime_backend import OnnxRuntimeBackend
from rave_trio.inference.onnxruntime_session import Cpu, Cuda
from rave_trio.inference.openvino_model import Model
from rave_trio.memory import Ledger

DISTINCT = 4
"""Frames that are in memory, used in turn."""


@attrs.frozen
class Case:
    """One way to compute."""

    precision: str
    channels_last: bool
    search: str = "HEURISTIC"

    def __str__(self) -> str:
        return f"{self.precision} {'NHWC' if self.channels_last else 'NCHW'} {self.search.lower()}"


class OnGpu:
    """The first GPU, by the engine's own device."""

    def __init__(self) -> None:
        from rave_trio.devices.copies import copy, copy_from_host
        from rave_trio.devices.cuda import CudaDevice
        from rave_trio.devices.pool import device_pool

        self.device, self.ledger = CudaDevice(0), Ledger()
        self.name = self.device.name
        self.pool = device_pool(self.device, self.ledger)
        self.copy, self._copy_from_host = copy, copy_from_host

    def provider(self, stream: Any, case: Case, limit: int) -> Cuda:
        return Cuda(
            int(stream.raw.handle), memory_limit=limit, channels_last=case.channels_last, search=case.search
        )  # fmt: skip

    def bare(self, case: Case) -> tuple[str, dict[str, str]]:
        return "CUDAExecutionProvider", {
            "prefer_nhwc": str(int(case.channels_last)),
            "cudnn_conv_algo_search": case.search,
            "use_tf32": "0",
        }

    def put(self, array: DeviceArray, picture: np.ndarray) -> None:
        stream = self.device.stream()
        with use(stream, array.memory):
            self._copy_from_host(stream, picture, array)
        stream.synchronize()


class OnCpu:
    """The host's memory, to try this program where there is no GPU."""

    name = "CPU"

    def __init__(self) -> None:
        self.device, self.ledger = SimulatedDevice(4 << 30), Ledger()
        self.pool = device_pool(self.device, self.ledger)

    def provider(self, stream: Any, case: Case, limit: int) -> Cpu:
        return Cpu(threads=2)

    def bare(self, case: Case) -> tuple[str, dict[str, str]]:
        return "CPUExecutionProvider", {}

    def copy(self, stream: Any, source: DeviceArray, target: DeviceArray) -> None:
        raise NotImplementedError("frames are taken whole here")

    def put(self, array: DeviceArray, picture: np.ndarray) -> None:
        array.memory.array(picture.shape, picture.dtype)[:] = picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="animevideo-x2")
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--frames", type=int, default=40, help="in each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--provider", choices=["cuda", "cpu"], default="cuda")
    chosen = parser.parse_args()
    width, height = map(int, chosen.size.split("x"))
    where = OnGpu() if chosen.provider == "cuda" else OnCpu()
    model = Model(*find_model(chosen.model))
    geometry = model.geometry(height, width, None)
    print(f"{model.metadata.name}, {width}x{height}, {where.name}, onnxruntime {ort.__version__}; "
          f"{chosen.rounds} rounds of {chosen.frames} frames in turn")  # fmt: skip
    cases = [Case(precision, last) for precision in ("fp16", "fp32") for last in (True, False)]
    cases.append(Case("fp16", True, "EXHAUSTIVE"))
    for case in cases if chosen.provider == "cuda" else [Case("fp16", False), Case("fp32", False)]:
        print(f"\n{case}")
        try:
            measure(where, model, geometry, case, chosen)
        except OutOfMemory as error:
            print(error)
    where.pool.close()
    where.device.close()


def measure(where: Any, model: Model, geometry: Geometry, case: Case, chosen: argparse.Namespace) -> None:
    dtype = DTYPES[case.precision]
    limit = arena_bytes(model.load(geometry, case.precision))
    stream = where.device.stream()
    frames = sources(where, geometry, dtype)
    before = where.device.free
    began = time.perf_counter()
    backend = OnnxRuntimeBackend(
        model.metadata,
        geometry,
        precision=case.precision,
        provider=where.provider(stream, case, limit),
        stream=stream,
        pool=where.pool,
        copy=where.copy,
        ledger=where.ledger,
    )
    made = time.perf_counter() - began
    backend.submit(enveloped(0, frames[0]))
    backend.collect().close()
    first = time.perf_counter() - began - made
    where.pool.trim()
    gone = before - where.device.free
    runs: dict[str, Callable[[], float]] = {"our backend": ours(backend, frames, chosen.frames)}
    runs["bare session"] = bare(where, model, geometry, case, 1, chosen.frames)
    if chosen.batch > 1:
        runs[f"bare session, batches of {chosen.batch}"] = bare(
            where, model, geometry, case, chosen.batch, chosen.frames
        )
    figures: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()  # warm-up, not counted
    for _ in range(chosen.rounds):
        for name, run in runs.items():
            figures[name].append(run())
    for name, values in figures.items():
        show(f"{name}, frames per second", values)
    show("ours / bare", [a / b for a, b in zip(figures["our backend"], figures["bare session"], strict=True)])
    print(f"made in {made:.3f} s, first frame {first:.3f} s; the GPU's memory: {gone / 2**20:.0f} MiB gone, "
          f"arena limit {limit / 2**20:.0f} MiB")  # fmt: skip
    backend.close()
    for lease, _ in frames:
        lease.close()


def sources(where: Any, geometry: Geometry, dtype: np.dtype) -> list[tuple[Any, DeviceArray]]:
    """Some frames of noise in the device's memory, with their leases."""
    shape = (3, geometry.tile_height, geometry.tile_width)
    random, made = np.random.default_rng(0), []
    for _ in range(DISTINCT):
        lease = where.pool.lease(int(np.prod(shape)) * dtype.itemsize)
        array = DeviceArray(lease.memory, shape, dtype)
        where.put(array, random.random(shape, np.float32).astype(dtype))
        made.append((lease, array))
    return made


def enveloped(index: int, source: tuple[Any, DeviceArray]) -> Frame:
    return Frame(index, index, 1, Fraction(1, 25), False, Tensor(source[1], None))


def ours(backend: OnnxRuntimeBackend, frames: list[tuple[Any, DeviceArray]], count: int) -> Callable[[], float]:
    def run() -> float:
        began, under_way = time.perf_counter(), 0
        for index in range(count):
            if under_way == backend.depth:
                backend.collect().close()
                under_way -= 1
            backend.submit(enveloped(index, frames[index % DISTINCT]))
            under_way += 1
        for _ in range(under_way):
            backend.collect().close()
        return count / (time.perf_counter() - began)

    return run


def bare(where: Any, model: Model, geometry: Geometry, case: Case, batch: int, count: int) -> Callable[[], float]:
    """onnxruntime's own session, binding and buffers."""
    dtype, data = DTYPES[case.precision], model.metadata
    file = onnx.ModelProto.FromString(prepared(data, geometry, dtype))
    file.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(file.SerializeToString(), options, providers=[where.bare(case)])
    kind = "cpu" if isinstance(where, OnCpu) else "cuda"
    shape = (batch, data.input_channels, geometry.tile_height, geometry.tile_width)
    larger = (batch, data.output_channels, shape[2] * data.scale, shape[3] * data.scale)
    source = ort.OrtValue.ortvalue_from_numpy(np.random.default_rng(0).random(shape).astype(dtype), kind, 0)
    target = ort.OrtValue.ortvalue_from_shape_and_type(larger, dtype.type, kind, 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, source)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, target)
    runs = -(-count // batch)

    def run() -> float:
        began = time.perf_counter()
        for _ in range(runs):
            session.run_with_iobinding(binding)
        return runs * batch / (time.perf_counter() - began)

    return run


def show(name: str, values: list[float]) -> None:
    print(f"{name:<48} median {statistics.median(values):8.3f}   min {min(values):8.3f}   max {max(values):8.3f}")


if __name__ == "__main__":
    main()
