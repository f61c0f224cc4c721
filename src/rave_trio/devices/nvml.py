"""NVIDIA's management library: which driver and GPUs there are, without touching CUDA.

NVML counts GPUs by PCI bus and shows all of them.  CUDA counts those that ``CUDA_VISIBLE_DEVICES`` leaves, in that
variable's order, else the fastest first unless ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.  So ordinals of the two must not be
mixed: a GPU is the same where its UUID is.

Threads: any; each call opens the library and closes it again, but for a :class:`GpuGauge`, which keeps it open.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs

from rave_trio.devices.libraries import EXTRA

T = TypeVar("T")

CLOSE_PATIENCE = 1.0
"""Seconds that closing a gauge waits for a driver that does not answer; a reading takes a millisecond."""

log = logging.getLogger("rave_trio.devices")


class NvmlUnavailable(RuntimeError):
    """There is nothing to ask; the message is one line that says why."""


@contextlib.contextmanager
def nvml() -> Iterator[Any]:
    """The module ``pynvml``, initialised for as long as the block runs.

    Raises NvmlUnavailable where it is not installed, where there is no driver, or one that does not answer.
    """
    try:
        import pynvml
    except ImportError as error:
        raise NvmlUnavailable(f"GPUs were not looked for, since nvidia-ml-py is not installed: {EXTRA}") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NvmlUnavailable(_why(pynvml, error)) from error
    try:
        yield pynvml
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def asked(module: Any, call: Callable[..., T], *args: Any) -> T | None:
    """What ``call(*args)`` says, or None where this driver or GPU does not say (MIG, vGPU, permissions, a lost GPU)."""
    try:
        return call(*args)
    except module.NVMLError:
        return None


def bare(uuid: str) -> str:
    """A UUID's hexadecimal digits alone: NVML writes a prefix ``GPU-`` or ``MIG-`` and dashes, CUDA neither."""
    return uuid.lower().removeprefix("gpu-").removeprefix("mig-").replace("-", "")


def driver_version() -> str | None:
    """The driver's version, such as ``580.65.06``; None where NVML does not say."""
    try:
        with nvml() as module:
            found = asked(module, module.nvmlSystemGetDriverVersion)
    except NvmlUnavailable:
        return None
    return found.decode() if isinstance(found, bytes) else found


def cuda_version() -> str | None:
    """The newest CUDA that the driver runs, such as ``13.0``; None where NVML does not say."""
    try:
        with nvml() as module:
            found = asked(module, module.nvmlSystemGetCudaDriverVersion)
    except NvmlUnavailable:
        return None
    return f"{found // 1000}.{found % 1000 // 10}" if found else None


def memory_in_use(uuid: str) -> int:
    """Bytes of the memory of the GPU, or MIG instance, with this UUID that are taken, by whomever.

    Raises NvmlUnavailable where NVML cannot tell.
    """
    with nvml() as module:
        for handle in _handles(module, uuid):
            if (memory := asked(module, module.nvmlDeviceGetMemoryInfo, handle)) is not None:
                return int(memory.used)
    raise NvmlUnavailable(f"NVML does not say how much memory of {uuid} is in use")


def memory_of_this_process(uuid: str) -> int | None:
    """Bytes that this process holds of the memory of the GPU with this UUID, its context included.

    None where NVML does not list it: before it has a context, or in a container, whose numbers of processes are not the
    host's.  Raises NvmlUnavailable where there is nothing to ask.
    """
    with nvml() as module:
        for handle in _handles(module, uuid):
            for process in asked(module, module.nvmlDeviceGetComputeRunningProcesses, handle) or ():
                if process.pid == os.getpid() and process.usedGpuMemory is not None:
                    return int(process.usedGpuMemory)
    return None


@attrs.frozen
class GpuLoad:
    """A moment of a GPU, whoever uses it.  None where NVML does not say, as of the shares of a MIG instance."""

    memory_used: int | None = None
    """Bytes."""
    busy: float | None = None
    """Share of the driver's last sampling period (up to a second) in which a kernel ran; 0 to 1."""
    decoder: float | None = None
    """The same of NVDEC."""
    encoder: float | None = None
    """The same of NVENC."""


class GpuGauge:
    """Reads one GPU again and again, NVML held open.  Any thread; one reading at a time."""

    def __init__(self, uuid: str) -> None:
        """Raises NvmlUnavailable where there is nothing to read."""
        self._reading = threading.Lock()
        self._closing = False
        with contextlib.ExitStack() as held:
            self._module = held.enter_context(nvml())
            self._handle = next(_handles(self._module, uuid), None)
            if self._handle is None:
                raise NvmlUnavailable(f"NVML does not know the GPU {uuid}")
            self._held = held.pop_all()

    def read(self) -> GpuLoad:
        """How things are now; nothing is known once it is closed.  Blocks for as long as the driver takes."""
        with self._reading:
            found = GpuLoad() if self._closing else self._read()
        if self._closing:
            self._let_go()
        return found

    def close(self) -> None:
        """Let go of NVML; if a reading does not return, that lets go when it does.  Idempotent."""
        self._closing = True
        if not self._let_go(CLOSE_PATIENCE):
            log.warning("the NVIDIA driver does not answer; its management library is left open")

    def _let_go(self, patience: float = -1) -> bool:
        """Close NVML unless a call is still in it after so many seconds; whether that was done."""
        if not self._reading.acquire(timeout=patience):
            return False
        try:
            self._held.close()
        finally:
            self._reading.release()
        return True

    def _read(self) -> GpuLoad:
        module, handle = self._module, self._handle
        memory = asked(module, module.nvmlDeviceGetMemoryInfo, handle)
        rates = asked(module, module.nvmlDeviceGetUtilizationRates, handle)
        decoder = asked(module, module.nvmlDeviceGetDecoderUtilization, handle)
        encoder = asked(module, module.nvmlDeviceGetEncoderUtilization, handle)
        return GpuLoad(
            None if memory is None else int(memory.used),
            None if rates is None else rates.gpu / 100,
            None if decoder is None else decoder[0] / 100,
            None if encoder is None else encoder[0] / 100,
        )


def _handles(module: Any, uuid: str) -> Iterator[Any]:
    """The GPU of that UUID, however it is written."""
    digits = bare(uuid)
    canonical = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    for prefix in ("GPU-", "MIG-"):
        handle = asked(module, module.nvmlDeviceGetHandleByUUID, prefix + canonical)
        if handle is not None:
            yield handle


def _why(module: Any, error: Exception) -> str:
    known = {
        module.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver is installed (libnvidia-ml is not there)",
        module.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed but not loaded",
        module.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver was updated and not yet loaded: restart the host",
        module.NVML_ERROR_NO_PERMISSION: "the NVIDIA driver may not be used by this user",
        module.NVML_ERROR_GPU_NOT_FOUND: "there is an NVIDIA driver but no NVIDIA GPU",
    }
    return known.get(getattr(error, "value", None), f"the NVIDIA driver does not answer: {error}")
