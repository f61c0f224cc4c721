"""ONNX bytes into a serialized TensorRT engine."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import attrs

from rave_trio import errors
from rave_trio.inference.engine_cache import EngineKey
from rave_trio.inference.model import CONTRACT
from rave_trio.inference.tensorrt_library import Library, is_out_of_memory, listening, reason, spelled

NOWHERE = f"{os.devnull}/model.onnx"
"""Where the parser looks for weights outside the model: they would not be part of the engine's key."""

PLUGIN = "Plugin not found"
"""What the parser says of an operator that is not one of ONNX's own."""

OnProgress = Callable[[str, int, int], object]
"""Called with the name of a phase, how many of its steps are done, and how many there are.  Phases nest."""


@attrs.frozen
class Shapes:
    """What an engine's input may be, each N x C x H x W: from ``min`` to ``max``, at its best for ``opt``."""

    min: tuple[int, int, int, int]
    opt: tuple[int, int, int, int]
    max: tuple[int, int, int, int]

    def __attrs_post_init__(self) -> None:
        for least, best, most in zip(self.min, self.opt, self.max, strict=True):
            if not 0 < least <= best <= most:
                raise ValueError(f"{self.min} to {self.max} with {self.opt} is not a range")

    @classmethod
    def fixed(cls, batch: int, channels: int, height: int, width: int) -> Shapes:
        """One shape and no other."""
        shape = (batch, channels, height, width)
        return cls(shape, shape, shape)


@attrs.frozen
class BuilderOptions:
    """What the builder may be told; None leaves it to the library."""

    optimization_level: int | None = None
    """0 to 5: how long the builder looks for faster kernels."""
    workspace: int | None = None
    """Bytes of GPU memory that a kernel may use as scratch at most."""

    def as_items(self) -> tuple[tuple[str, str], ...]:
        """Name and value of what is set, as they go into an :class:`EngineKey`."""
        return tuple((name, str(value)) for name, value in attrs.asdict(self).items() if value is not None)


def engine_key(
    library: Library,
    onnx_bytes: bytes,
    shapes: Shapes,
    *,
    precision: str,
    gpu: str,
    driver: str,
    capabilities: Sequence[tuple[int, int]] = (),
    options: BuilderOptions = BuilderOptions(),
) -> EngineKey:
    """The key under which the engine that :func:`build_engine` makes of the same arguments is kept."""
    return EngineKey(
        library=library.name,
        version=library.version,
        gpu=gpu,
        compute_capabilities=tuple(spelled(each) for each in capabilities),
        driver=driver,
        model_sha256=hashlib.sha256(onnx_bytes).hexdigest(),
        shapes=(shapes.min, shapes.opt, shapes.max),
        precision=precision,
        options=options.as_items(),
    )


def build_engine(
    library: Library,
    onnx_bytes: bytes,
    shapes: Shapes,
    *,
    model: str,
    capabilities: Sequence[tuple[int, int]] = (),
    options: BuilderOptions = BuilderOptions(),
    on_progress: OnProgress | None = None,
    tick: Callable[[], object] | None = None,
) -> bytes:
    """Build an engine of a network with one input and one output, computed in the types that the ONNX file states.

    ``model`` is its name in messages.  ``capabilities`` are the compute capabilities to build for, without a GPU of
    them if need be, for RTX only; none means the GPU that is current in the calling thread.

    Blocks for up to minutes.  ``on_progress`` and ``tick`` are called in the calling thread, after each step; what one
    of them raises ends the build at that step and goes on.  Steps that TensorRT reports from threads of its own end
    the build likewise once that has happened, but are not told of.

    Raises ModelBroken for bytes that are not ONNX, ModelUnsupported with TensorRT's reason for a network that it cannot
    build, weights outside the file included, DeviceUnknown for a compute capability that the library does not run on,
    and OutOfMemory.
    """
    for capability in capabilities:
        if refused := library.refusal(capability):
            raise errors.DeviceUnknown(refused, remedy="use --device cpu, or TensorRT in full")
    monitor = _monitor_class(library.module)(on_progress, tick)
    with listening() as heard:
        try:
            engine = _build(library, onnx_bytes, shapes, model, capabilities, options, monitor)
        except MemoryError as error:
            raise errors.OutOfMemory(f"{library.name} found no memory to build {model}") from error
        stopped, monitor.error = monitor.error, None
        try:
            if stopped is not None:
                raise stopped
        finally:
            del stopped  # or its traceback and this frame would keep each other alive
        if engine is None:
            raise _failure(library, model, heard)
        return bytes(engine)


def _build(
    library: Library,
    onnx_bytes: bytes,
    shapes: Shapes,
    model: str,
    capabilities: Sequence[tuple[int, int]],
    options: BuilderOptions,
    monitor: Any,
) -> Any:
    trt = library.module
    builder = trt.Builder(library.logger)
    # TensorRT 10 must be asked to take the types from the file; later ones do nothing else and ignore the flag.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, library.logger)
    parsed = parser.parse(onnx_bytes, NOWHERE)
    if not parsed:
        raise _parser_failure(library, model, [parser.get_error(at) for at in range(parser.num_errors)])
    if not network.num_inputs:
        raise errors.ModelBroken(f"{model} cannot be read as ONNX: there is no network in it")
    if (network.num_inputs, network.num_outputs) != (1, 1):
        raise errors.ModelUnsupported(
            f"{model} is not a model that fits: expected {CONTRACT}; "
            f"found {network.num_inputs} inputs and {network.num_outputs} outputs"
        )
    config = builder.create_builder_config()
    config.progress_monitor = monitor
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for at, (major, minor) in enumerate(capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{major}{minor}"), at)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if "REQUIRE_USER_ALLOCATION" in trt.BuilderFlag.__members__:
        # All that running it needs comes out of the scratch that we lend, and so is in the ledger.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    profile = builder.create_optimization_profile()
    profile.set_shape(network.get_input(0).name, shapes.min, shapes.opt, shapes.max)
    config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config)


def _parser_failure(library: Library, model: str, found: list[Any]) -> errors.RaveError:
    codes = {error.code().name for error in found}
    if "MEM_ALLOC_FAILED" in codes:
        return errors.OutOfMemory(f"{library.name} found no memory to read {model}")
    if "MODEL_DESERIALIZE_FAILED" in codes:
        return errors.ModelBroken(f"{model} cannot be read as ONNX")
    unsupported = [each for each in found if each.code().name.startswith("UNSUPPORTED_NODE") or PLUGIN in each.desc()]
    if operators := sorted({each.node_operator() for each in unsupported} - {""}):
        return errors.ModelUnsupported(
            f"{library.name} cannot run {model}: it does not support {' and '.join(operators)} as used there"
        )
    lines = [line for error in found for line in error.desc().splitlines()]
    return errors.ModelUnsupported(f"{library.name} cannot run {model}: {reason(lines)}")


def _failure(library: Library, model: str, heard: list[str]) -> errors.RaveError:
    if is_out_of_memory(heard):
        return errors.OutOfMemory(f"{library.name} found no memory to build {model}: {reason(heard)}")
    return errors.ModelUnsupported(f"{library.name} cannot build {model}: {reason(heard)}")


@cache
def _monitor_class(trt: Any) -> type[Any]:
    base: type[Any] = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]  # the library has no types
        """Passes steps on, in the thread that made it.  Keeps what they raise, as TensorRT would only print it."""

        def __init__(self, on_progress: OnProgress | None, tick: Callable[[], object] | None) -> None:
            base.__init__(self)
            self.error: BaseException | None = None
            self._on_progress = on_progress
            self._tick = tick
            self._caller = threading.get_ident()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return self.error is None

        def phase_finish(self, phase_name: str) -> None:
            pass

        def _tell(self, phase: str, done: int) -> None:
            if self.error is not None or threading.get_ident() != self._caller:
                return
            try:
                if self._tick is not None:
                    self._tick()
                if self._on_progress is not None:
                    self._on_progress(phase, done, self._steps.get(phase, done))
            except BaseException as error:
                self.error = error

    return Monitor
