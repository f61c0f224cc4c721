"""A stand-in for TensorRT on a simulated device: the parts that run engines, with their signatures and their rules.

What it shows is that our side keeps the rules: shapes and addresses before execution, alignment, scratch of its own for
each context, streams of one's own, memory that is open for as long as work uses it.  What TensorRT itself does with
them it cannot show.

Where TensorRT refuses, the stand-in refuses likewise: it logs an error and returns False or None.  Where TensorRT would
do anything at all, it raises :class:`RuleBroken`.
"""

from __future__ import annotations

import contextlib
import enum
import json
import math
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import Player, Stream
from rave_trio.devices.simulated import SimulatedDevice, SimulatedMemory, SimulatedStream
from rave_trio.inference.model import Geometry, ModelMetadata
from rave_trio.inference.tensorrt_backend import ALIGNMENT, DevicePool, TensorRtBackend
from rave_trio.inference.tensorrt_library import Library
from rave_trio.inference.tensorrt_runtime import LoadedEngine, RuntimeSettings
from rave_trio.memory import Ledger

Network = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""What an engine computes: N x C x h x w to the enlarged N x C' x H x W."""


class RuleBroken(BaseException):
    """Something that TensorRT or CUDA leaves undefined was done."""


class StandInStream(SimulatedStream):
    """A simulated stream with a number that goes for CUDA's handle."""

    handle: int


class StandInDevice(SimulatedDevice):
    """A simulated device whose memory is aligned as CUDA's is, and found again by its address."""

    def __init__(self, capacity: int, *, latency: float = 0.0, seed: int = 0) -> None:
        self._memories: weakref.WeakSet[SimulatedMemory] = weakref.WeakSet()
        super().__init__(capacity, latency=latency, seed=seed)

    def allocate(self, nbytes: int) -> SimulatedMemory:
        memory = super().allocate(nbytes)
        raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        memory._bytes = raw[start : start + nbytes]
        self._memories.add(memory)
        return memory

    def stream(self) -> StandInStream:
        stream = StandInStream(self)
        with self._changed:
            self._streams.append(stream)
            stream.handle = 0x5000 + 0x10 * len(self._streams)
        return stream

    def stream_of(self, handle: int) -> StandInStream:
        """The stream of that handle.  Raises RuleBroken if there is none."""
        for stream in self._streams:
            if isinstance(stream, StandInStream) and stream.handle == handle:
                return stream
        raise RuleBroken(f"{handle:#x} is not a stream of this device")

    def memory_of(self, address: int, nbytes: int) -> SimulatedMemory:
        """The open memory that holds these bytes.  Raises RuleBroken if there is none."""
        for memory in list(self._memories):
            with contextlib.suppress(ValueError):
                if memory.pointer <= address and address + nbytes <= memory.pointer + memory.nbytes:
                    return memory
        raise RuleBroken(f"{nbytes} bytes from {address:#x} on are not in memory that is open")


def smoothed(scale: int) -> Network:
    """A network that looks one pixel far: the mean of 3 x 3 pixels, edges repeated, each ``scale`` times both ways."""

    def run(pictures: npt.NDArray[Any]) -> npt.NDArray[Any]:
        height, width = pictures.shape[2:]
        padded = np.pad(pictures.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
        total = sum(padded[:, :, y : y + height, x : x + width] for y in range(3) for x in range(3))
        mean: npt.NDArray[Any] = np.asarray(total / 9).astype(pictures.dtype)
        return mean.repeat(scale, axis=2).repeat(scale, axis=3)

    return run


def copy(stream: Stream, source: DeviceArray, target: DeviceArray) -> None:
    """Copy one rectangle to another within a simulated device, in the stream's order."""
    if source.shape != target.shape or source.dtype != target.dtype:
        raise ValueError(f"{source.shape} of {source.dtype} is not {target.shape} of {target.dtype}")
    stream.launch(_copy, source, target, source.memory, target.memory)


def samples(array: DeviceArray) -> npt.NDArray[Any]:
    """An array in a simulated device's memory as numpy's; work with it must be done."""
    held = array.memory.array((array.memory.nbytes,), np.uint8)[array.offset : array.offset + array.nbytes]
    *outer, row = array.shape
    strides = [array.dtype.itemsize, array.pitch]
    for size in reversed(outer[1:]):
        strides.append(strides[-1] * size)
    seen = np.ndarray(array.shape, array.dtype, held, strides=tuple(reversed(strides[: len(array.shape)])))
    assert seen.shape[-1] == row
    return seen


def _copy(source: DeviceArray, target: DeviceArray, *memories: SimulatedMemory) -> None:
    samples(target)[...] = samples(source)


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class CudaGraphStrategy(enum.Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY = 0
    EAGER = 1
    NONE = 2


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    """The base of loggers."""

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


@attrs.frozen
class Plan:
    """What an engine of the stand-in is made of; :meth:`serialized` is what goes for TensorRT's own bytes."""

    scale: int = 2
    input_channels: int = 3
    output_channels: int = 3
    dtype: str = "float32"
    smallest: Sequence[int] = (1, 1, 1, 1)
    largest: Sequence[int] = (1 << 16,) * 4

    def serialized(self) -> bytes:
        return json.dumps(attrs.asdict(self)).encode()


class StandIn:
    """Goes for the module ``tensorrt`` or ``tensorrt_rtx``: :attr:`library` is what our modules take.

    ``events`` notes what was done with engines and contexts, in order.
    """

    TensorIOMode = TensorIOMode
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
    CudaGraphStrategy = CudaGraphStrategy
    DynamicShapesKernelSpecializationStrategy = DynamicShapesKernelSpecializationStrategy
    ILogger = ILogger

    def __init__(self, device: StandInDevice, *, rtx: bool = True, network: Network | None = None) -> None:
        self.device = device
        self.network = network
        self.events: list[str] = []
        self.refuse_execution: str | None = None
        """What the next execution is refused with, if anything."""
        self.library = Library("tensorrt_rtx" if rtx else "tensorrt", "0.0", self)

    def Runtime(self, logger: Any) -> Runtime:  # noqa: N802  # TensorRT's name
        return Runtime(self, logger)

    @staticmethod
    def nptype(trt_type: str) -> type[Any]:
        kind: type[Any] = np.dtype(trt_type).type
        return kind


class Runtime:
    """Loads engines."""

    def __init__(self, module: StandIn, logger: Any) -> None:
        self._module = module
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> CudaEngine | None:
        try:
            read: dict[str, Any] = json.loads(serialized_engine)
            plan = Plan(**read)
        except (ValueError, TypeError):
            self.logger.log(Severity.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1: not an engine")
            return None
        self._module.events.append("engine")
        return CudaEngine(self._module, self.logger, plan)


class CudaEngine:
    """An engine with an input ``in`` and an output ``out``."""

    num_io_tensors = 2

    def __init__(self, module: StandIn, logger: Any, plan: Plan) -> None:
        self.module = module
        self.logger = logger
        self.plan = plan

    def get_tensor_name(self, index: int) -> str:
        return ("in", "out")[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return {"in": TensorIOMode.INPUT, "out": TensorIOMode.OUTPUT}[name]

    def get_tensor_dtype(self, name: str) -> str:
        return self.plan.dtype

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(
        self,
        strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC,
        runtime_config: RuntimeConfig | None = None,
    ) -> ExecutionContext:
        if runtime_config is not None:
            strategy = runtime_config.strategy
        if strategy is not ExecutionContextAllocationStrategy.USER_MANAGED:
            raise RuleBroken("the context would allocate memory of its own")
        self.module.events.append("context")
        return ExecutionContext(self)


class RuntimeCache:
    """What was compiled: of use to the next run if it begins as this one's does."""

    PREFIX = b"compiled:"

    def __init__(self) -> None:
        self.loaded: bytes | None = None

    def deserialize(self, blob: bytes) -> bool:
        if not bytes(blob).startswith(self.PREFIX):
            return False
        self.loaded = bytes(blob)
        return True

    def serialize(self) -> bytes:
        return self.PREFIX + b"kernels"


class RuntimeConfig:
    """How RTX runs an engine."""

    cuda_graph_strategy = CudaGraphStrategy.DISABLED
    dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY

    def __init__(self) -> None:
        self.strategy = ExecutionContextAllocationStrategy.STATIC
        self._cache: RuntimeCache | None = None

    def set_execution_context_allocation_strategy(
        self, strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC
    ) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache | None = None) -> bool:
        self._cache = cache
        return True

    def get_runtime_cache(self) -> RuntimeCache | None:
        return self._cache


class ExecutionContext:
    """Runs an engine, one frame after another, in two steps: into the scratch, and from there into the output."""

    def __init__(self, engine: CudaEngine) -> None:
        self._engine = engine
        self._shape: tuple[int, ...] | None = None
        self._addresses: dict[str, int] = {}
        self._scratch: tuple[int, int] | None = None
        self._stream: int | None = None

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        plan = self._engine.plan
        fits = all(a <= n <= b for a, n, b in zip(plan.smallest, shape, plan.largest, strict=True))
        if name != "in" or not fits or shape[1] != plan.input_channels:
            return self._refuse(f"{name} cannot be {shape}")
        self._shape = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if self._shape is None:
            return (-1, -1, -1, -1)
        batch, channels, height, width = self._shape
        plan = self._engine.plan
        enlarged = (batch, plan.output_channels, height * plan.scale, width * plan.scale)
        return enlarged if name == "out" else (batch, channels, height, width)

    def update_device_memory_size_for_shapes(self) -> int:
        if self._shape is None:
            raise RuleBroken("the input's shape is not set")
        return self._nbytes("out")

    def set_device_memory(self, memory: int, size: int) -> None:
        if memory % ALIGNMENT:
            raise RuleBroken(f"scratch at {memory:#x} is not aligned")
        self._scratch = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if memory % ALIGNMENT:
            raise RuleBroken(f"{name} at {memory:#x} is not aligned")
        self._addresses[name] = memory
        return name in ("in", "out")

    def execute_async_v3(self, stream_handle: int) -> bool:
        module, device = self._engine.module, self._engine.module.device
        if module.refuse_execution is not None:
            message, module.refuse_execution = module.refuse_execution, None
            return self._refuse(message)
        if self._shape is None or self._addresses.keys() != {"in", "out"}:
            return self._refuse("a tensor has no shape or no address")
        if self._scratch is None or self._scratch[1] < self._nbytes("out"):
            raise RuleBroken("there is not enough scratch")
        if self._stream not in (None, stream_handle):
            raise RuleBroken("one context on two streams at once")
        stream = device.stream_of(stream_handle)
        self._stream = stream_handle
        source = self._seen(device, self._addresses["in"], self.get_tensor_shape("in"))
        target = self._seen(device, self._addresses["out"], self.get_tensor_shape("out"))
        scratch = self._seen(device, self._scratch[0], self.get_tensor_shape("out"))
        network = module.network or smoothed(self._engine.plan.scale)
        module.events.append("execute")
        stream.launch(_compute, network, source, scratch, source.memory, scratch.memory)
        stream.launch(_copy, scratch, target, scratch.memory, target.memory)
        return True

    def _seen(self, device: StandInDevice, address: int, shape: tuple[int, ...]) -> DeviceArray:
        nbytes = math.prod(shape) * np.dtype(self._engine.plan.dtype).itemsize
        memory = device.memory_of(address, nbytes)
        return DeviceArray(memory, shape, self._engine.plan.dtype, address - memory.pointer)

    def _nbytes(self, name: str) -> int:
        return math.prod(self.get_tensor_shape(name)) * np.dtype(self._engine.plan.dtype).itemsize

    def _refuse(self, message: str) -> bool:
        self._engine.logger.log(Severity.ERROR, f"IExecutionContext::enqueueV3: Error Code 3: {message}")
        return False


def _compute(network: Network, source: DeviceArray, scratch: DeviceArray, *memories: SimulatedMemory) -> None:
    """Compute into the scratch, all of which is written before the first sample of the input is read."""
    samples(scratch)[...] = np.nan
    samples(scratch)[...] = network(samples(source))


def tensorrt_backend(
    device: StandInDevice,
    pool: DevicePool,
    scratch: DevicePool,
    ledger: Ledger,
    geometry: Geometry,
    *,
    plan: Plan = Plan(),
    metadata: ModelMetadata | None = None,
    size: tuple[int, int] | None = None,
    streams: int = 2,
    batch: int = 1,
    standin: StandIn | None = None,
    settings: RuntimeSettings | None = None,
    compiled: bytes | None = None,
    keep_compiled: Callable[[bytes], object] | None = None,
    player: Player | None = None,
) -> TensorRtBackend:
    """A TensorRT backend on the stand-in.

    ``plan`` and ``metadata`` are of one model, whose arithmetic is :attr:`StandIn.network`.
    """
    standin, settings = standin or StandIn(device), settings or RuntimeSettings()
    metadata = metadata or ModelMetadata(
        name="stand-in",
        path=Path("stand-in.onnx"),
        sha256="",
        scale=plan.scale,
        input_name="in",
        output_name="out",
        input_channels=plan.input_channels,
        output_channels=plan.output_channels,
        height=None,
        width=None,
    )
    return TensorRtBackend(
        LoadedEngine(standin.library, plan.serialized(), model=metadata.name, settings=settings, compiled=compiled),
        metadata,
        geometry,
        streams=[device.stream() for _ in range(streams)],
        pool=pool,
        scratch=scratch,
        ledger=ledger,
        copy=copy,
        size=size,
        batch=batch,
        keep_compiled=keep_compiled,
        player=player,
    )
