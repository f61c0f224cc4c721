"""Backends on a GPU, for the conformance suite; a rig for another library derives from :class:`CudaRig`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from backend_rigs import Rig, fail_launches

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import use
from rave_trio.frames import Frame
from rave_trio.inference.model import Geometry, arena_bytes
from rave_trio.inference.onnxruntime_backend import OnnxRuntimeBackend
from rave_trio.inference.onnxruntime_session import Cuda, ort
from rave_trio.inference.openvino_model import Model
from rave_trio.inference.side_by_side import SideBySide


def open_gpu() -> Any:
    """The first GPU; skips the test, or fails it where RAVE_TRIO_REQUIRE_GPU=1 promises one, if it cannot be used."""
    try:
        from rave_trio.devices.cuda import CudaDevice

        if "CUDAExecutionProvider" not in ort.get_available_providers():
            raise RuntimeError("this onnxruntime has no CUDA")
        return CudaDevice(0)
    except Exception as error:
        reason = f"no GPU: {error}"
    if os.environ.get("RAVE_TRIO_REQUIRE_GPU") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class CudaRig(Rig):
    """What backends on a GPU have in common."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.stream = device.stream()
        super().__init__()

    def samples(self, frame: Frame) -> np.ndarray:
        from rave_trio.devices.copies import copy_to_host

        array = frame.tensor
        samples = np.empty(array.shape, array.dtype)
        with use(self.stream, array.memory):
            copy_to_host(self.stream, array, samples)
        self.stream.synchronize()
        return samples.astype(np.float32)

    def _pool(self) -> Any:
        from rave_trio.devices.pool import device_pool

        return device_pool(self.device, self.ledger)

    def _filled(self, lease: Any, picture: np.ndarray) -> DeviceArray:
        from rave_trio.devices.copies import copy_from_host

        array = DeviceArray(lease.memory, picture.shape, picture.dtype)
        with use(self.stream, lease.memory):
            copy_from_host(self.stream, np.ascontiguousarray(picture), array)
        self.stream.synchronize()
        return array


class OnnxRuntimeCudaRig(CudaRig):
    """onnxruntime's CUDA provider."""

    precision = "fp32"
    tolerance = 1e-4
    batch = 1
    streams = 1
    memory_limit: int | None = None
    """None for what the model's load suggests."""

    def fail(self, backend: Any, pieces: Iterable[int]) -> None:
        fail_launches(backend, pieces)

    def _backend(self, model: Model, geometry: Geometry) -> Any:
        made = [self._on_a_stream(model, geometry) for _ in range(self.streams)]
        return made[0] if self.streams == 1 else SideBySide(made)

    def _on_a_stream(self, model: Model, geometry: Geometry) -> OnnxRuntimeBackend:
        from rave_trio.devices.copies import copy

        stream = self.device.stream()
        limit = self.memory_limit or arena_bytes(model.load(geometry, self.precision), self.batch)
        return OnnxRuntimeBackend(
            model.metadata,
            geometry,
            precision=self.precision,
            provider=Cuda(int(stream.raw.handle), self.device.ordinal, memory_limit=limit),
            stream=stream,
            pool=self.pool,
            copy=copy,
            ledger=self.ledger,
            batch=self.batch,
        )


class OnnxRuntimeCudaHalfRig(OnnxRuntimeCudaRig):
    precision = "fp16"
    dtype = np.float16
    tolerance = 8e-3


class OnnxRuntimeCudaBatchRig(OnnxRuntimeCudaHalfRig):
    batch = 4


class OnnxRuntimeCudaBatchStreamsRig(OnnxRuntimeCudaHalfRig):
    batch = 2
    streams = 2
