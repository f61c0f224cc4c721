"""Which device computes a job, and with which library.

A GPU is looked for only where the libraries for one are installed.  ``auto`` takes the first GPU that has all that a
run needs, and the CPU otherwise, with a note that says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs

from rave_trio import errors
from rave_trio.devices import CpuDevice, detect_cpu
from rave_trio.devices.backends import ON_CPU, Backend, backends
from rave_trio.devices.engines_cache import remembered_engines
from rave_trio.devices.libraries import EXTRA, Library, installed
from rave_trio.devices.nvidia import Gpu, Nvidia, probe_nvidia

BY_ITSELF = ("compact", "onnxruntime")
"""What auto takes on a GPU, the first that can do the job.  TensorRT has to be asked for: it was never run here."""

NEEDED = ("nvidia-ml-py", "cuda-core", "cuda-bindings", "nvrtc")
"""Libraries without which no GPU is used."""


@attrs.frozen
class Choice:
    """What computes.  ``gpu`` is None on the CPU."""

    host: CpuDevice
    gpu: Gpu | None
    backend: str
    notes: tuple[str, ...] = ()


def choose(
    device: str,
    backend: str,
    obstacle: Callable[[], str | None] = lambda: None,
    unsuited: Callable[[str, Gpu], str | None] = lambda backend, gpu: None,
) -> Choice:
    """The device and backend for ``--device`` and ``--backend``, which may both be auto.  Blocks; see probe_nvidia.

    ``obstacle`` says why this job cannot be done on any GPU, if it cannot, and ``unsuited`` why not by a backend that
    is there.  Raises DeviceUnknown for what is not there, and UsageError for what does not go together.
    """
    found = re.fullmatch(r"auto|cpu|cuda(?::([0-9]+))?", device)
    if found is None:
        raise errors.DeviceUnknown(f"there is no device {device!r}", remedy="use --device auto, cpu, cuda or cuda:1")
    host = detect_cpu()
    if device == "cpu" or (device == "auto" and backend == ON_CPU):
        if backend not in ("auto", ON_CPU):
            raise errors.UsageError(f"{backend} does not run on the CPU", remedy="use --backend auto or --device cuda")
        return Choice(host, None, ON_CPU)
    if backend == ON_CPU:
        raise errors.UsageError("openvino runs on the CPU here", remedy="use --backend auto or --device cpu")
    wanted = device != "auto" or backend != "auto"
    libraries = installed()
    if missing := _missing(libraries):
        if wanted:
            raise errors.DeviceUnknown(
                f"{device if device != 'auto' else backend} cannot be used without {missing}",
                remedy=f"{EXTRA}, or use --device cpu",
            )
        return Choice(host, None, ON_CPU)
    nvidia = probe_nvidia(video=False)
    try:
        gpu = chosen = _gpu(nvidia, None if found[1] is None else int(found[1]))
        name, notes = _backend(backend, backends(libraries, (gpu,)), obstacle(), lambda name: unsuited(name, chosen))
        library = next(each.version for each in libraries if each.name == "PyNvVideoCodec")
        gpu = attrs.evolve(gpu, video=remembered_engines(gpu, nvidia.driver_version, library))
        return Choice(host, gpu, name, notes)
    except errors.DeviceUnknown as error:
        if wanted:
            raise
        notes = (f"{nvidia.gpus[0].name} is not used: {error}",) if nvidia.gpus else ()
        return Choice(host, None, ON_CPU, notes)


def _missing(libraries: tuple[Library, ...]) -> str:
    """The names of what every use of a GPU needs and is not installed."""
    return ", ".join(each.name for each in libraries if each.name in NEEDED and each.version is None)


def _gpu(nvidia: Nvidia, ordinal: int | None) -> Gpu:
    """The GPU that CUDA counts so, or its first."""
    usable = {gpu.cuda_ordinal: gpu for gpu in nvidia.usable if gpu.cuda_ordinal is not None}
    if not usable:
        problems = [gpu.problem for gpu in nvidia.gpus if gpu.problem]
        raise errors.DeviceUnknown(nvidia.problem or (problems or ["CUDA sees no GPU"])[0])
    if ordinal is None:
        return usable[min(usable)]
    if ordinal not in usable:
        there = ", ".join(f"cuda:{number} ({usable[number].name})" for number in sorted(usable))
        raise errors.DeviceUnknown(f"there is no GPU cuda:{ordinal}", remedy=f"there are {there}")
    return usable[ordinal]


def _backend(
    asked: str, found: tuple[Backend, ...], obstacle: str | None, unsuited: Callable[[str], str | None]
) -> tuple[str, tuple[str, ...]]:
    """The first backend that can do the job, and why not those before it."""
    if obstacle is not None:
        raise errors.DeviceUnknown(obstacle, remedy="use --device cpu")
    notes: list[str] = []
    for name in BY_ITSELF if asked == "auto" else (asked,):
        wanted = next(each for each in found if each.name == name)
        try:
            why_not = unsuited(name) if wanted.ready else wanted.why_not
        except errors.PrecisionUnsupported as error:
            raise errors.PrecisionUnsupported("; ".join([str(error), *notes]), remedy=error.remedy) from error
        if why_not is None:
            return name, tuple(notes)
        notes.append(f"{name}: {why_not}")
    raise errors.DeviceUnknown(
        f"the model cannot be run on the GPU: {'; '.join(notes)}",
        remedy="use --device cpu" if asked == "auto" else "use --backend auto",
    )
