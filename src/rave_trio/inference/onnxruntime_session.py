"""An onnxruntime session that works on our memory and our stream: the only module that imports onnxruntime.

``onnxruntime`` (CPU) and ``onnxruntime-gpu`` (CPU and CUDA) are two distributions of the same module, of which only one
may be installed.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import attrs
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

from rave_trio import errors
from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import Stream

FATAL = 4
"""Log level: what fails is told by an exception, and nothing is written to stderr."""

ort.set_default_logger_severity(FATAL)

FAILURES: tuple[type[Exception], ...] = (
    *(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    MemoryError,
    RuntimeError,
    ValueError,
)
"""What onnxruntime raises; its own classes have no base in common."""

OUT_OF_MEMORY = re.compile(
    r"bad_alloc|out of memory|Failed to allocate memory|Available memory of|ALLOC_FAILED|CUDA failure 2\b",
    re.IGNORECASE,
)

NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : "
    r"|Non-zero status code returned while running "
    r"|Status Message: "
    r"|\S*/\S+\.(cc|h|cu|cuh|hpp):\d+ \S.*?\)( const)? (?=\S)"
    r"|Please fix either the inputs/outputs or the model\."
)
"""What its messages contain and a user cannot use."""

LONGEST_REASON = 300
"""Characters of onnxruntime's own words in a message."""

CUDA_ALIGNMENT = 256
"""Bytes; what onnxruntime gives its own tensors, and what its kernels and cuDNN's may count on."""


@attrs.frozen
class Cpu:
    """The CPU provider, over memory that the host can read, ``threads`` threads for each run."""

    threads: int = 1


@attrs.frozen
class Cuda:
    """The CUDA provider on one CUDA stream.

    ``stream`` is the address of the CUDA stream (a ``cudaStream_t``) that the engine's stream stands for, of device
    ``device``'s primary context.

    ``memory_limit`` bounds, in bytes, the arena in which onnxruntime keeps weights, tensors between layers and
    convolutions' workspaces; it grows to what was needed once, and is given back when the session is closed.  Outside
    it lie what the CUDA context, cuDNN and their kernels' code take.  None leaves it unbounded.

    ``channels_last`` computes convolutions in NHWC, which tensor cores want; None means in fp16.

    ``search`` is how cuDNN's convolutions are chosen.  HEURISTIC asks cuDNN, which gives the same choice every time.
    EXHAUSTIVE times all when the first frame runs, and may choose otherwise in another process; what it chose on an
    H200 took 1.2 to 6 times as long (``scripts/bench_onnxruntime.py`` measures both).
    """

    stream: int
    device: int = 0
    memory_limit: int | None = None
    channels_last: bool | None = None
    search: str = "HEURISTIC"


class OnnxRuntimeSession:
    """One model of one shape, ready to run.  One caller at a time, from any thread."""

    def __init__(self, model: bytes, name: str, dtype: np.dtype[Any], provider: Cpu | Cuda) -> None:
        """``model`` is an ONNX file of fixed shapes whose input and output are of ``dtype``.

        Raises ModelUnsupported if the provider cannot run all of it, DeviceUnknown if there is no such provider,
        OutOfMemory.
        """
        self.dtype = dtype
        self.alignment = CUDA_ALIGNMENT if isinstance(provider, Cuda) else dtype.itemsize
        self._provider = provider
        self._kind, self._device = ("cuda", provider.device) if isinstance(provider, Cuda) else ("cpu", 0)
        self._session: Any = _session(model, name, dtype, provider)
        self._input, self._output = self._session.get_inputs()[0].name, self._session.get_outputs()[0].name
        self._options = ort.RunOptions()
        if isinstance(provider, Cuda):
            self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def launch(
        self, stream: Stream, source: DeviceArray, target: DeviceArray, failed: Callable[[Exception], None], *held: Any
    ) -> None:
        """Run on ``source`` into ``target`` in ``stream``'s order, and return at once.

        Both are dense, N x C x h x w of the session's ``dtype``, and begin at a multiple of ``alignment`` bytes.  A
        failure of the model is given to ``failed``, at once or when the work's turn comes, and leaves the stream
        usable.  ``held`` is what must stay open until then.
        """
        call = (source.pointer, source.shape, target.pointer, target.shape, failed)
        if isinstance(self._provider, Cuda):
            self._run(*call)  # onnxruntime itself puts the work on the stream
        else:
            stream.launch(self._run, *call, *held)

    def describe(self, error: Exception) -> tuple[bool, str]:
        """Whether a failure is for want of memory, and its reason in one line."""
        return is_out_of_memory(error), reason(error)

    def close(self) -> None:
        """Let go of the session and its memory.  Idempotent; nothing may be under way."""
        self._session = None

    def _run(
        self,
        source: int,
        source_shape: tuple[int, ...],
        target: int,
        target_shape: tuple[int, ...],
        failed: Callable[[Exception], None],
        *_held: Any,
    ) -> None:
        try:
            binding = self._session.io_binding()
            place = self._kind, self._device, self.dtype.type
            binding.bind_input(self._input, *place, source_shape, source)
            binding.bind_output(self._output, *place, target_shape, target)
            self._session.run_with_iobinding(binding, self._options)
        except FAILURES as error:
            failed(error)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of onnxruntime's says that an allocation failed: it has no type of its own for that."""
    return isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)) is not None


def reason(error: Exception) -> str:
    """The part of onnxruntime's messages that says something, on one line."""
    return " ".join(NOISE.sub("", str(error)).split())[:LONGEST_REASON] or type(error).__name__


def _session(model: bytes, name: str, dtype: np.dtype[Any], provider: Cpu | Cuda) -> Any:
    wanted = "CUDAExecutionProvider" if isinstance(provider, Cuda) else "CPUExecutionProvider"
    if wanted not in ort.get_available_providers():
        raise _no_provider(wanted, "it was built without")
    providers = [(wanted, _settings(provider, dtype))]
    try:
        session = ort.InferenceSession(model, _options(provider), providers=providers, enable_fallback=0)
    except FAILURES as error:
        if is_out_of_memory(error):
            raise errors.OutOfMemory(f"onnxruntime found no memory for model {name}: {reason(error)}") from error
        if isinstance(provider, Cuda) and not _cuda_works():
            raise _no_provider(wanted, "its libraries, or CUDA's and cuDNN's, do not load") from error
        raise errors.ModelUnsupported(f"onnxruntime cannot run model {name}: {reason(error)}") from error
    return session


def _options(provider: Cpu | Cuda) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = provider.threads if isinstance(provider, Cpu) else 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if isinstance(provider, Cuda):
        # A model of which a part would run on the CPU is refused, rather than run with copies to the host and back.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


@cache
def _cuda_works() -> bool:
    """Whether the CUDA provider comes into a session: where its libraries do not load, onnxruntime leaves it out."""
    node = helper.make_node("Identity", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1,)) for name in ("x", "y")]
    graph = helper.make_graph([node], "nothing", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CUDAExecutionProvider"])
    except FAILURES:
        return False
    return "CUDAExecutionProvider" in session.get_providers()


def _settings(provider: Cpu | Cuda, dtype: np.dtype[Any]) -> dict[str, str]:
    if isinstance(provider, Cpu):
        return {}
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()  # where CUDA's and cuDNN's libraries were installed as Python packages
    half = dtype == np.float16
    channels_last = half if provider.channels_last is None else provider.channels_last
    settings = {
        "device_id": str(provider.device),
        "user_compute_stream": str(provider.stream),
        "do_copy_in_default_stream": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": provider.search,
        "prefer_nhwc": "1" if channels_last else "0",
        "use_tf32": "0",  # its 10 bits of mantissa are fp16's
    }
    if provider.memory_limit is not None:
        settings["gpu_mem_limit"] = str(provider.memory_limit)
    return settings


def _no_provider(wanted: str, why: str) -> errors.DeviceUnknown:
    return errors.DeviceUnknown(
        f"onnxruntime {ort.__version__} has no {wanted}: {why}",
        remedy="install the nvidia extra, whose onnxruntime-gpu replaces onnxruntime, or use --device cpu",
    )
