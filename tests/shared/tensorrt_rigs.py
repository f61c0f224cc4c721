"""The TensorRT backend on its stand-in, whose engines are computed by onnxruntime on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
from backend_rigs import CAPACITY, TOO_DARK, OnnxRuntimeRig

from rave_trio.devices.pool import device_pool
from rave_trio.inference.onnx_model import prepared
from rave_trio.testing.tensorrt import Plan, StandIn, StandInDevice, tensorrt_backend


class TensorRtRig(OnnxRuntimeRig):
    streams = 2

    def _pool(self):
        self.device = StandInDevice(CAPACITY, latency=1.0, seed=3)
        return device_pool(self.device, self.ledger)

    def _backend(self, model, geometry):
        data = model.metadata
        file = prepared(data, geometry, np.float32, self.batch)
        session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])

        def compute(tile: np.ndarray) -> np.ndarray:
            (result,) = session.run(None, {data.input_name: tile.astype(np.float32)})
            return result.astype(self.dtype)

        module = StandIn(self.device, network=compute)
        plan = Plan(data.scale, data.input_channels, data.output_channels, np.dtype(self.dtype).name)
        made = tensorrt_backend(
            self.device,
            self.pool,
            self.pool,
            self.ledger,
            geometry,
            plan=plan,
            metadata=data,
            standin=module,
            streams=self.streams,
            batch=self.batch,
        )
        made.standin = module
        return made

    def fail(self, backend, pieces):
        execute, started, failing = backend._execute, iter(range(1 << 30)), frozenset(pieces)

        def refusing(*arguments: Any) -> None:
            if next(started) in failing:
                backend.standin.refuse_execution = TOO_DARK
            execute(*arguments)

        backend._execute = refusing


class TensorRtHalfRig(TensorRtRig):
    dtype = np.float16
    tolerance = 4e-3


class TensorRtBatchRig(TensorRtRig):
    batch = 2
