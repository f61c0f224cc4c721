"""Each backend with the memory it works on, all used in one way: what the conformance suite is run over."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import onnxruntime as ort

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import use
from rave_trio.devices.pool import device_pool
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.model import Geometry, ModelMetadata
from rave_trio.inference.onnx_model import prepared
from rave_trio.inference.onnxruntime_backend import OnnxRuntimeBackend
from rave_trio.inference.onnxruntime_session import Cpu
from rave_trio.inference.openvino_backend import OpenVinoBackend
from rave_trio.inference.openvino_model import Model
from rave_trio.inference.side_by_side import SideBySide
from rave_trio.memory import HostPool, Ledger
from rave_trio.testing import assert_nothing_left
from rave_trio.testing.backend import SimulatedBackend

CAPACITY = 1 << 28
TOO_DARK = "too dark"
"""What a planted failure says."""


SESSIONS: dict[tuple[str, int, int], ort.InferenceSession] = {}
MOST_SESSIONS = 64


def reference_session(data: ModelMetadata, geometry: Geometry) -> ort.InferenceSession:
    """A model in fp32 by onnxruntime alone, on one thread; the last few are kept, as many tests ask for the same."""
    key = data.sha256, geometry.tile_height, geometry.tile_width
    if key not in SESSIONS:
        if len(SESSIONS) == MOST_SESSIONS:
            SESSIONS.pop(next(iter(SESSIONS)))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        model = prepared(data, geometry, np.float32)
        SESSIONS[key] = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return SESSIONS[key]


class Rig:
    """One backend's world.  Backends that it makes are closed with it, and then nothing may be left."""

    dtype: Any = np.float32
    tolerance = 2e-5
    """How far a sample (nominally in [0, 1]) may be from the reference."""
    shipped_tolerance: float | None = None
    """The same of shipped models, given noise, where it is another."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.made: list[Any] = []
        self.pool: Any = self._pool()

    def backend(self, model: Model, geometry: Geometry) -> Any:
        """A backend for frames of any size that ``geometry`` is for."""
        self.made.append(self._backend(model, geometry))
        return self.made[-1]

    def frame(self, picture: np.ndarray, index: int = 0, **how: Any) -> Frame:
        """A frame that holds ``picture`` (3 x H x W), in leased memory."""
        lease = self.pool.lease(picture.size * np.dtype(self.dtype).itemsize)
        tensor = Tensor(self._filled(lease, picture.astype(self.dtype)), lease)
        return Frame(index, 40 * index + 7, 40, Fraction(1, 1000), index % 3 == 0, tensor, **how)

    def samples(self, frame: Frame) -> np.ndarray:
        """A copy of what a frame holds, as float32."""
        return np.array(frame.tensor, np.float32)

    def take(self, frame: Frame) -> np.ndarray:
        """The same, and the frame is closed."""
        try:
            return self.samples(frame)
        finally:
            frame.close()

    def reference(self, model: Model, picture: np.ndarray) -> np.ndarray:
        """What ``picture`` becomes, computed whole in fp32 by onnxruntime alone."""
        data = model.metadata
        _, height, width = picture.shape
        geometry = model.geometry(height, width, None)
        assert geometry.tiles == 1
        down, right = geometry.tile_height - height, geometry.tile_width - width
        padded = np.pad(picture.astype(self.dtype), ((0, 0), (0, down), (0, right)), mode="edge").astype(np.float32)
        session = reference_session(data, geometry)
        batches = padded.reshape(-1, 1, data.input_channels, *padded.shape[1:])
        results = [session.run(None, {data.input_name: batch})[0][0] for batch in batches]
        return np.concatenate(results)[:, : height * data.scale, : width * data.scale]

    def fail(self, backend: Any, pieces: Iterable[int]) -> None:
        """Let the model fail on pieces (a frame, or a tile of one), counted from 0 in the order in which they start."""
        raise NotImplementedError

    def close(self) -> None:
        """Close everything.  Raises AssertionError if something is left."""
        for backend in self.made:
            backend.close()
        assert_nothing_left(pools=[self.pool])
        self.pool.close()
        assert_nothing_left(ledgers=[self.ledger])

    def _pool(self) -> Any:
        raise NotImplementedError

    def _backend(self, model: Model, geometry: Geometry) -> Any:
        raise NotImplementedError

    def _filled(self, lease: Any, picture: np.ndarray) -> Any:
        array = lease.array(picture.shape, self.dtype)
        array[:] = picture
        return array


class OpenVinoRig(Rig):
    streams = 2

    def _pool(self) -> Any:
        return HostPool(self.ledger)

    def _backend(self, model: Model, geometry: Geometry) -> Any:
        return OpenVinoBackend(model, geometry, precision="fp32", streams=self.streams, threads=2, pool=self.pool)

    def fail(self, backend: Any, pieces: Iterable[int]) -> None:
        started = iter(range(1 << 30))
        backend._idle = [FailingRequest(request, started, frozenset(pieces)) for request in backend._idle]


class OpenVinoOneStreamRig(OpenVinoRig):
    streams = 1


class FailingRequest:
    """An OpenVINO request that fails as asked, and works afterwards, which OpenVINO's own do not always."""

    def __init__(self, request: Any, started: Any, failing: frozenset[int]) -> None:
        self._request, self._started, self._failing = request, started, failing
        self._fails = False

    def start_async(self, inputs: Any) -> None:
        self._fails = next(self._started) in self._failing
        self._request.start_async(inputs)

    def wait(self) -> None:
        self._request.wait()
        if self._fails:
            raise RuntimeError(f"Exception from src/somewhere.cpp:1:\n{TOO_DARK}\n\n")

    def get_output_tensor(self, at: int) -> Any:
        return self._request.get_output_tensor(at)


class OnDevice(Rig):
    """What backends on a simulated device have in common; its streams run behind."""

    def _pool(self) -> Any:
        self.device = SimulatedDevice(CAPACITY, latency=1.0, seed=3)
        return device_pool(self.device, self.ledger)

    def close(self) -> None:
        try:
            super().close()
            assert_nothing_left(devices=[self.device])
        finally:
            self.device.close()


class OnnxRuntimeRig(OnDevice):
    """onnxruntime on the CPU, over the memory of a simulated device, on streams of it."""

    precision = "fp32"
    batch = 1
    streams = 1

    def samples(self, frame: Frame) -> np.ndarray:
        return host_view(frame.tensor).astype(np.float32)

    def fail(self, backend: Any, pieces: Iterable[int]) -> None:
        fail_launches(backend, pieces)

    def _backend(self, model: Model, geometry: Geometry) -> Any:
        made = [self._on_a_stream(model, geometry) for _ in range(self.streams)]
        return made[0] if self.streams == 1 else SideBySide(made)

    def _on_a_stream(self, model: Model, geometry: Geometry) -> OnnxRuntimeBackend:
        return OnnxRuntimeBackend(
            model.metadata,
            geometry,
            precision=self.precision,
            provider=Cpu(),
            stream=self.device.stream(),
            pool=self.pool,
            copy=host_copy,
            ledger=self.ledger,
            batch=self.batch,
        )

    def _filled(self, lease: Any, picture: np.ndarray) -> DeviceArray:
        array = DeviceArray(lease.memory, picture.shape, picture.dtype)
        stream = self.device.stream()
        with use(stream, lease.memory):
            stream.launch(np.copyto, host_view(array), picture)
        return array


class OnnxRuntimeHalfRig(OnnxRuntimeRig):
    precision = "fp16"
    dtype = np.float16
    tolerance = 4e-3


class OnnxRuntimeBatchRig(OnnxRuntimeRig):
    batch = 4


class OnnxRuntimeStreamsRig(OnnxRuntimeRig):
    streams = 2


class OnnxRuntimeBatchStreamsRig(OnnxRuntimeRig):
    batch = 2
    streams = 2


def fail_launches(backend: Any, failing: Iterable[int]) -> None:
    """Let launches of a backend's networks, counted together, fail."""
    started, failures = iter(range(1 << 30)), frozenset(failing)
    for each in getattr(backend, "_backends", [backend]):
        each._network = FailingNetwork(each._network, started, failures)


class FailingNetwork:
    """A network that fails as asked."""

    def __init__(self, network: Any, started: Any, failing: frozenset[int]) -> None:
        self._network, self._started, self._failing = network, started, failing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def launch(self, stream: Any, source: Any, target: Any, failed: Any, *held: Any) -> None:
        if next(self._started) in self._failing:
            failed(RuntimeError(TOO_DARK))
        else:
            self._network.launch(stream, source, target, failed, *held)


class SimulatedRig(OnDevice):
    """The simulated backend, which computes no model: it repeats pixels."""

    def reference(self, model: Model, picture: np.ndarray) -> np.ndarray:
        scale = model.metadata.scale
        return picture.repeat(scale, axis=1).repeat(scale, axis=2)

    def _backend(self, model: Model, geometry: Geometry) -> Any:
        return SimulatedBackend(self.device, self.pool, scale=model.metadata.scale)


def host_view(array: DeviceArray) -> np.ndarray:
    """An array in a simulated device's memory, as numpy sees it."""
    memory: Any = array.memory
    raw = memory.array((array.offset + array.nbytes,), np.uint8)[array.offset :]
    if array.nbytes == 0:
        return np.empty(array.shape, array.dtype)
    itemsize = array.dtype.itemsize
    strides = [itemsize, array.pitch]
    for size in reversed(array.shape[1:-1]):
        strides.append(strides[-1] * size)
    return np.ndarray(array.shape, array.dtype, raw, strides=strides[: len(array.shape)][::-1])


def host_copy(stream: Any, source: DeviceArray, target: DeviceArray) -> None:
    """Copies on a simulated device's stream, and refuses what overlaps."""
    assert source.shape == target.shape
    assert source.dtype == target.dtype
    stream.launch(_copied, target, source, target.memory, source.memory)


def _copied(target: DeviceArray, source: DeviceArray, *_held: Any) -> None:
    into, out = host_view(target), host_view(source)
    assert not np.shares_memory(into, out)
    into[:] = out
