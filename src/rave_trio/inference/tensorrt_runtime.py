"""A serialized TensorRT engine, loaded: what it takes and gives, its execution contexts, what it compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from rave_trio import errors
from rave_trio.inference.engine_cache import EngineCache, EngineKey
from rave_trio.inference.tensorrt_library import Library, is_out_of_memory, listening, reason

log = logging.getLogger("rave_trio.inference")


@attrs.frozen
class Port:
    """The input or the output of an engine."""

    name: str
    dtype: np.dtype[Any]


@attrs.frozen
class RuntimeSettings:
    """How TensorRT-RTX runs an engine; the full TensorRT has none of these."""

    cuda_graphs: bool = False
    """Whether it captures the network as a CUDA graph and replays that."""
    specialization: str = "EAGER"
    """When kernels are compiled for a shape: ``EAGER`` before the first frame of that shape is done, ``LAZY`` beside
    the first frames, ``NONE`` never.
    """


def open_engine(
    library: Library,
    cache: EngineCache,
    key: EngineKey,
    build: Callable[[], bytes],
    *,
    model: str,
    settings: RuntimeSettings | None = None,
) -> LoadedEngine:
    """The engine of that key, loaded from the cache, or built and kept.

    One that the library does not take any more is built again, once.  What ``build`` raises goes on; otherwise as
    :class:`LoadedEngine`.
    """
    settings = settings or RuntimeSettings()
    serialized = cache.load(key)
    if serialized is not None:
        try:
            return LoadedEngine(
                library, serialized, model=model, settings=settings, compiled=cache.load(key, "runtime")
            )
        except errors.InferenceError as error:
            log.warning("the engine that was kept is of no use, so it is built again: %s", error)
            cache.discard(key)
    serialized = build()
    cache.store(key, serialized)
    return LoadedEngine(library, serialized, model=model, settings=settings)


class LoadedEngine:
    """An engine on the GPU that is current in the calling thread.  One caller at a time, which keeps that GPU current.

    Closing it is for whoever made it, once no context of it is left.
    """

    def __init__(
        self,
        library: Library,
        serialized: bytes,
        *,
        model: str,
        settings: RuntimeSettings = RuntimeSettings(),
        compiled: bytes | None = None,
    ) -> None:
        """``compiled`` is what :meth:`compiled` gave in an earlier run; it is ignored where it does not fit.

        Raises OutOfMemory, and InferenceError if the library does not take the engine.
        """
        self.library = library
        self.model = model
        self.nbytes = len(serialized)
        """Bytes of the serialized engine: about what its weights take up on the GPU."""
        trt = library.module
        with listening() as heard:
            self._runtime: Any = trt.Runtime(library.logger)
            self._engine: Any = self._runtime.deserialize_cuda_engine(serialized) if self._runtime is not None else None
            if self._engine is None:
                raise self._failure("load the engine of", heard)
            self._config: Any = self._runtime_config(settings, compiled) if library.is_rtx else None
        inputs, outputs = self._ports(trt.TensorIOMode.INPUT), self._ports(trt.TensorIOMode.OUTPUT)
        if len(inputs) != 1 or len(outputs) != 1:
            raise errors.InferenceError(f"the engine of {model} has {len(inputs)} inputs and {len(outputs)} outputs")
        (self.input,), (self.output,) = inputs, outputs

    def context(self, shape: tuple[int, ...]) -> Any:
        """A new execution context for an input of ``shape``, N x C x H x W, which has no memory yet.

        Raises InferenceError if the engine does not take that shape, OutOfMemory.
        """
        strategy = self.library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        with listening() as heard:
            if self._config is None:
                context = self._engine.create_execution_context(strategy=strategy)
            else:
                context = self._engine.create_execution_context(runtime_config=self._config)
            if context is None:
                raise self._failure("prepare", heard)
            if not context.set_input_shape(self.input.name, shape):
                raise self._failure(f"take {' x '.join(map(str, shape))} for", heard)
            return context

    def _failure(self, what: str, heard: list[str]) -> errors.RaveError:
        """The error for something that TensorRT could not do with the model, from what it said."""
        kind: type[errors.RaveError] = errors.OutOfMemory if is_out_of_memory(heard) else errors.InferenceError
        return kind(f"{self.library.name} could not {what} {self.model}: {reason(heard)}")

    def compiled(self) -> bytes | None:
        """What TensorRT-RTX compiled for this GPU so far, to be given to the next run; None if there is none."""
        cache = None if self._config is None else self._config.get_runtime_cache()
        stored = None if cache is None else cache.serialize()
        return None if stored is None else bytes(stored)

    def close(self) -> None:
        """Let go of all that TensorRT holds.  Idempotent."""
        self._config = self._engine = self._runtime = None

    def _runtime_config(self, settings: RuntimeSettings, compiled: bytes | None) -> Any:
        trt = self.library.module
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        graphs = trt.CudaGraphStrategy
        config.cuda_graph_strategy = graphs.WHOLE_GRAPH_CAPTURE if settings.cuda_graphs else graphs.DISABLED
        config.dynamic_shapes_kernel_specialization_strategy = getattr(
            trt.DynamicShapesKernelSpecializationStrategy, settings.specialization
        )
        cache = config.create_runtime_cache()
        if compiled is not None and not cache.deserialize(compiled):
            log.info("the kernels that were compiled earlier do not fit this GPU or driver and are compiled again")
        config.set_runtime_cache(cache)
        return config

    def _ports(self, mode: Any) -> list[Port]:
        engine, trt = self._engine, self.library.module
        names = [engine.get_tensor_name(at) for at in range(engine.num_io_tensors)]
        return [
            Port(name, np.dtype(trt.nptype(engine.get_tensor_dtype(name))))
            for name in names
            if engine.get_tensor_mode(name) == mode
        ]
