"""TensorRT in place: from a model to a backend, through the cache of engines.  Imports TensorRT; only where it runs.

Not run on any machine so far: the parts are tested on a stand-in, and engines are built for real without a GPU.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import numpy as np
import trio.from_thread

from rave_trio import errors
from rave_trio.devices.copies import copy
from rave_trio.devices.cuda import CudaDevice
from rave_trio.devices.graphs import Graphs
from rave_trio.devices.nvml import driver_version
from rave_trio.devices.pool import DevicePool
from rave_trio.inference.engine_cache import EngineCache, default_folder
from rave_trio.inference.model import Geometry
from rave_trio.inference.onnx_model import prepared
from rave_trio.inference.openvino_model import Model
from rave_trio.inference.tensorrt_backend import TensorRtBackend
from rave_trio.inference.tensorrt_engine import Shapes, build_engine, engine_key
from rave_trio.inference.tensorrt_library import load_library
from rave_trio.inference.tensorrt_runtime import RuntimeSettings, open_engine
from rave_trio.memory import Ledger

log = logging.getLogger("rave_trio.inference")

LIBRARIES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""The modules, by the names of the backends."""


def tensorrt_network(
    backend: str,
    model: Model,
    geometry: Geometry,
    size: tuple[int, int],
    *,
    dtype: np.dtype[Any],
    device: CudaDevice,
    pool: DevicePool,
    scratch: DevicePool,
    ledger: Ledger,
    streams: int,
    batch: int,
    audited: bool,
) -> TensorRtBackend:
    """The engine of one tile shape and batch, from the cache or built now, which takes up to minutes.

    ``size`` is the frames'; ``streams`` is the number of execution contexts, each with a stream of its own.
    An ``audited`` run has no CUDA graphs: see docs/audit.md.

    Called from a Trio worker thread, a build ends when the task there is cancelled.  Raises DeviceUnknown if the
    library is not there or refuses the GPU, ModelUnsupported, OutOfMemory.
    """
    library, name = load_library(LIBRARIES[backend]), model.metadata.name
    if refused := library.refusal(device.compute_capability):
        raise errors.DeviceUnknown(refused, remedy="use --backend auto")
    onnx = prepared(model.metadata, geometry, dtype, batch)
    shapes = Shapes.fixed(batch, model.metadata.input_channels, geometry.tile_height, geometry.tile_width)
    targets = [device.compute_capability] if library.is_rtx else []
    key = engine_key(
        library,
        onnx,
        shapes,
        precision=dtype.name,
        gpu=device.name,
        driver=driver_version() or "unknown",
        capabilities=targets,
    )
    cache = EngineCache(default_folder())

    def build() -> bytes:
        log.info("building a %s engine of %s, which is done once", backend, name)
        with device.current():
            return build_engine(library, onnx, shapes, model=name, capabilities=targets, tick=_tick)

    with device.current():
        engine = open_engine(library, cache, key, build, model=name, settings=RuntimeSettings(cuda_graphs=not audited))
    return TensorRtBackend(
        engine,
        model.metadata,
        geometry,
        streams=[device.stream() for _ in range(streams)],
        pool=pool,
        scratch=scratch,
        ledger=ledger,
        copy=copy,
        size=size,
        batch=batch,
        handle=lambda stream: int(stream.raw.handle),
        current=device.current,
        keep_compiled=lambda compiled: cache.store(key, compiled, "runtime"),
        player=None if library.is_rtx or audited else Graphs(),  # that of RTX records by itself
    )


def _tick() -> None:
    """Raise if the task that this thread works for is cancelled."""
    with contextlib.suppress(RuntimeError):  # of a thread that works for none
        trio.from_thread.check_cancelled()
