"""What there is of NVIDIA: driver, GPUs and their video engines.  Looking never raises and never ends the process.

NVML is asked first, in this process.  Only where it finds a GPU are CUDA and PyNvVideoCodec asked, each in a child
process with a time limit.  Whatever does not answer becomes one line in a record.
"""

from __future__ import annotations

import os
from typing import Any

import attrs

from rave_trio.devices.child import ask
from rave_trio.devices.libraries import EXTRA, installed
from rave_trio.devices.nvml import NvmlUnavailable, asked, bare, nvml

NEEDED_DRIVER = 580
"""The first driver branch that runs CUDA 13."""
CUDA_SECONDS = 20.0
CODEC_SECONDS = 60.0
VISIBLE = "CUDA_VISIBLE_DEVICES"


@attrs.frozen
class DecoderFormat:
    """Something that NVDEC decodes; sizes in pixels.  None where the library does not say."""

    codec: str
    """libav's name."""
    chroma: str
    bit_depth: int
    max_width: int
    max_height: int
    min_width: int | None = None
    min_height: int | None = None
    engines: int | None = None


@attrs.frozen
class EncoderFormat:
    """A codec that NVENC encodes; sizes in pixels.  None where the library does not say."""

    codec: str
    """libav's name."""
    chroma: tuple[str, ...] = attrs.field(converter=tuple)
    bit_depths: tuple[int, ...] = attrs.field(converter=tuple)
    max_width: int
    max_height: int
    max_b_frames: int | None = None
    """How many in a row; 0 where the encoder makes none."""
    engines: int | None = None


@attrs.frozen
class VideoEngines:
    """NVDEC and NVENC of one GPU; ``notes`` say in one line each why something is not known or not there."""

    decoders: tuple[DecoderFormat, ...] = ()
    encoders: tuple[EncoderFormat, ...] = ()
    notes: tuple[str, ...] = ()


@attrs.frozen
class Gpu:
    """One GPU, or one instance of a GPU that is split (MIG).  What NVML does not say is None; sizes are in bytes."""

    index: int
    """NVML's count of physical GPUs, which is not CUDA's."""
    name: str
    uuid: str | None = None
    """With its prefix ``GPU-`` or ``MIG-``."""
    pci_bus_id: str | None = None
    compute_capability: tuple[int, int] | None = None
    memory_total: int | None = None
    memory_free: int | None = None
    mig_instance: bool = False
    cuda_ordinal: int | None = None
    """CUDA's count in this process's environment: what CudaDevice takes.  None if it is hidden or not known."""
    problem: str | None = None
    """Why it cannot be used, in one line."""
    video: VideoEngines | None = None
    """None if it was not asked for."""


@attrs.frozen
class Nvidia:
    """All that was found; ``problem`` says in one line why no GPU can be used, if none can."""

    driver_version: str | None = None
    cuda_version: str | None = None
    """The newest CUDA that the driver runs."""
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None

    @property
    def usable(self) -> tuple[Gpu, ...]:
        """The GPUs without a problem; none if the driver has one."""
        return () if self.problem else tuple(gpu for gpu in self.gpus if gpu.problem is None)

    def as_dict(self) -> dict[str, Any]:
        return attrs.asdict(self)


def probe_nvidia(*, video: bool = True) -> Nvidia:
    """Look at everything, the video engines only if ``video``.  Blocks, a second or more where there is a GPU."""
    try:
        with nvml() as module:
            found = _by_nvml(module)
    except NvmlUnavailable as none:
        return Nvidia(problem=str(none))
    if found.problem is None and found.usable:
        found = _with_cuda_ordinals(found, _is_installed("cuda-bindings"))
    if found.problem is None and video:
        known = _is_installed("PyNvVideoCodec")
        gpus = (
            attrs.evolve(gpu, video=video_engines(gpu, known)) if gpu.problem is None else gpu for gpu in found.gpus
        )
        found = attrs.evolve(found, gpus=tuple(gpus))
    return found


def video_engines(gpu: Gpu, is_installed: bool, *, seconds: float = CODEC_SECONDS) -> VideoEngines:
    """What PyNvVideoCodec says of one GPU, from a child process to which CUDA shows no other."""
    if not is_installed:
        return VideoEngines(notes=(f"PyNvVideoCodec is not installed: {EXTRA}",))
    if gpu.uuid is None:
        return VideoEngines(notes=("the video engines cannot be asked, since NVML does not say the GPU's UUID",))
    answers, died = ask("rave_trio.devices._codec_probe", environment={VISIBLE: gpu.uuid}, seconds=seconds)
    decoders, encoders, notes = [], [], []
    refused: dict[str, str] = {}
    for answer in answers:
        match answer:
            case {"decoder": dict(found)}:
                decoders.append(DecoderFormat(**found))
            case {"encoder": dict(found)}:
                encoders.append(EncoderFormat(**found))
            case {"refused": {"engine": str(engine), "message": str(message)}}:
                refused.setdefault(engine, message)
            case {"error": str(message)}:
                notes.append(_cannot_load(message))
    if died is not None:
        notes.append(f"PyNvVideoCodec: {died}")
    elif not notes:
        notes += [
            f"{engine}: {refused.get(engine, 'this GPU has none')}"
            for engine, some in (("NVDEC", decoders), ("NVENC", encoders))
            if not some
        ]
    return VideoEngines(tuple(decoders), tuple(encoders), tuple(notes))


def _cannot_load(message: str) -> str:
    if "libnvidia-encode" in message or "libnvcuvid" in message:
        message += " (in a container, NVIDIA_DRIVER_CAPABILITIES must include video)"
    return f"PyNvVideoCodec cannot be loaded: {message}"


def _is_installed(name: str) -> bool:
    return any(library.name == name and library.version is not None for library in installed())


def _by_nvml(module: Any) -> Nvidia:
    driver = _text(asked(module, module.nvmlSystemGetDriverVersion))
    cuda = asked(module, module.nvmlSystemGetCudaDriverVersion)
    count = asked(module, module.nvmlDeviceGetCount)
    gpus = tuple(gpu for index in range(count or 0) for gpu in _read(module, index))
    problem = None
    branch = (driver or "").partition(".")[0]
    if not gpus:
        problem = f"there is an NVIDIA driver ({driver or 'of unknown version'}) but no NVIDIA GPU"
    elif branch.isdigit() and int(branch) < NEEDED_DRIVER:
        problem = f"the NVIDIA driver {driver} is too old for CUDA 13: install version {NEEDED_DRIVER} or newer"
    elif all(gpu.problem for gpu in gpus):
        problem = f"no GPU can be used: {gpus[0].problem}"
    return Nvidia(driver, f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None, gpus, problem)


def _read(module: Any, index: int) -> list[Gpu]:
    """The GPU that NVML counts as ``index``, or its instances if it is split."""
    try:
        handle = module.nvmlDeviceGetHandleByIndex(index)
    except module.NVMLError as error:
        return [Gpu(index, "NVIDIA GPU", problem=f"it cannot be read: {error}")]
    pci = asked(module, module.nvmlDeviceGetPciInfo, handle)
    whole = Gpu(
        index,
        _text(asked(module, module.nvmlDeviceGetName, handle)) or "NVIDIA GPU",
        uuid=_text(asked(module, module.nvmlDeviceGetUUID, handle)),
        pci_bus_id=_text(getattr(pci, "busId", None)),
        compute_capability=asked(module, module.nvmlDeviceGetCudaComputeCapability, handle),
        problem=_occupied(module, handle),
    )
    mode = asked(module, module.nvmlDeviceGetMigMode, handle)
    if mode is None or not mode[0]:
        return [_with_memory(module, whole, handle)]
    parts = []
    for at in range(asked(module, module.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        part = asked(module, module.nvmlDeviceGetMigDeviceHandleByIndex, handle, at)
        if part is not None:
            described = attrs.evolve(
                whole,
                name=_text(asked(module, module.nvmlDeviceGetName, part)) or f"{whole.name} (MIG)",
                uuid=_text(asked(module, module.nvmlDeviceGetUUID, part)),
                mig_instance=True,
            )
            parts.append(_with_memory(module, described, part))
    if parts:
        return parts
    return [attrs.evolve(whole, problem="it is split (MIG) into no instance: create one with nvidia-smi mig")]


def _with_memory(module: Any, gpu: Gpu, handle: Any) -> Gpu:
    memory = asked(module, module.nvmlDeviceGetMemoryInfo, handle)
    if memory is None:
        return gpu
    return attrs.evolve(gpu, memory_total=int(memory.total), memory_free=int(memory.free))


def _occupied(module: Any, handle: Any) -> str | None:
    """Why CUDA would give out no context, as far as NVML knows."""
    mode = asked(module, module.nvmlDeviceGetComputeMode, handle)
    if mode == module.NVML_COMPUTEMODE_PROHIBITED:
        return "its compute mode is Prohibited: change it with nvidia-smi --compute-mode=DEFAULT"
    if mode == module.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS:
        others = asked(module, module.nvmlDeviceGetComputeRunningProcesses, handle) or []
        if any(process.pid != os.getpid() for process in others):
            return "another process has it (its compute mode is Exclusive Process)"
    return None


def _with_cuda_ordinals(found: Nvidia, is_installed: bool) -> Nvidia:
    """Which GPU CUDA counts as which, by UUID.  What CUDA does not show has a problem."""
    if not is_installed:
        return found
    answers, died = ask("rave_trio.devices._cuda_probe", environment={}, seconds=CUDA_SECONDS)
    uuids = next((answer["uuids"] for answer in answers if "uuids" in answer), None)
    hidden = os.environ.get(VISIBLE)
    if uuids is None:
        hint = "" if hidden is None else f" ({VISIBLE} is {hidden!r})"
        return attrs.evolve(found, problem=f"CUDA cannot be used: {died}{hint}")
    ordinals = {uuid: ordinal for ordinal, uuid in enumerate(uuids)}
    gpus = []
    for gpu in found.gpus:
        ordinal = None if gpu.uuid is None else ordinals.get(bare(gpu.uuid))
        problem = gpu.problem
        if ordinal is None and gpu.uuid is not None and problem is None:
            problem = (
                f"CUDA does not show it: {VISIBLE} is {hidden!r}" if hidden is not None else "CUDA does not show it"
            )
        gpus.append(attrs.evolve(gpu, cuda_ordinal=ordinal, problem=problem))
    if all(gpu.problem for gpu in gpus):
        return attrs.evolve(found, gpus=tuple(gpus), problem=f"no GPU can be used: {gpus[0].problem}")
    return attrs.evolve(found, gpus=tuple(gpus))


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
