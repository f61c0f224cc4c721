"""What makes one run like another: versions, hardware, model and plan, and nothing that tells whose it was."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from typing import TYPE_CHECKING, Any

import attrs

from rave_trio import __version__
from rave_trio.devices import CpuDevice, detect_cpu
from rave_trio.devices.libraries import versions
from rave_trio.devices.nvidia import Gpu, probe_nvidia
from rave_trio.devices.nvml import cuda_version, driver_version
from rave_trio.media._libav import library_versions

if TYPE_CHECKING:
    from rave_trio.plan import EnginePlan

TENSORRT = ("tensorrt", "tensorrt_rtx")


@attrs.frozen
class GpuModel:
    """A kind of GPU; memory in bytes."""

    name: str
    compute_capability: tuple[int, int] | None
    memory_total: int | None

    @classmethod
    def of(cls, gpu: Gpu) -> GpuModel:
        return cls(gpu.name, gpu.compute_capability, gpu.memory_total)


@attrs.frozen
class EngineFingerprint:
    """For reproducing a run and for reports of faults.  It holds no path and no name of a user, host or file.

    Two runs with the same fingerprint did the same to like inputs.  None stands for what is not there or not known.
    A frozen value, for any thread; memory in bytes.

    >>> from rave_trio.fingerprint import fingerprint
    >>> sorted(fingerprint().as_dict())[:4]
    ['cpu', 'cuda', 'driver', 'ffmpeg']
    """

    rave_trio: str
    """The program's version."""
    python: str
    platform: str
    """Operating system and processor architecture."""
    libraries: dict[str, str]
    """Installed versions by name."""
    ffmpeg: dict[str, str]
    """The libraries of FFmpeg that PyAV came with."""
    cpu: CpuDevice
    gpus: tuple[GpuModel, ...]
    """Of a plan the one that computes, otherwise all that can be used."""
    driver: str | None
    """NVIDIA's."""
    cuda: str | None
    """The newest that the driver runs."""
    tensorrt: str | None
    model_sha256: str | None = None
    """Of the ONNX file; those of several, in the order of their work, are joined by ``+``."""
    plan_hash: str | None = None
    """SHA-256 of the plan without paths, names and tags; see :func:`plan_hash`."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return attrs.asdict(self)


def fingerprint() -> EngineFingerprint:
    """This machine's.  Blocking, a second or more where there is a GPU."""
    found = probe_nvidia(video=False)
    gpus = tuple(GpuModel.of(gpu) for gpu in found.usable)
    return _fingerprint(detect_cpu(), gpus, found.driver_version, found.cuda_version)


def fingerprint_of(plan: EnginePlan) -> EngineFingerprint:
    """A run's.  Blocking, some milliseconds."""
    gpus = () if plan.gpu is None else (GpuModel.of(plan.gpu),)
    driver, cuda = (driver_version(), cuda_version()) if plan.gpu else (None, None)
    found = _fingerprint(plan.host, gpus, driver, cuda)
    return attrs.evolve(
        found, model_sha256="+".join(model.sha256 for model in plan.models) or None, plan_hash=plan_hash(plan)
    )


def plan_hash(plan: EnginePlan) -> str:
    """The same for plans that do the same to every frame, wherever their files lie and whatever they are called."""
    media, encoder = plan.media, plan.encoder
    decisive = {
        "video": [media.video.codec, attrs.asdict(media.video.surface), str(media.video.rate), media.video.time_base],
        "container": plan.container.muxer,
        "carriage": [[c.stream.kind, c.stream.codec, c.fate.value, c.codec] for c in plan.carriage],
        "background": plan.background,
        "deinterlace": plan.graph.deinterlace,
        "strict": bool(plan.graph.decode.strict),
        "dither": plan.dither,
        "stages": [[each.kind, each.width, each.height, each.model and each.model.sha256] for each in plan.stages],
        "device": plan.device.name,
        "backend": plan.backend,
        "precision": plan.precision,
        "decoder": plan.decoder,
        "surface": attrs.asdict(plan.surface),
        "fit": attrs.asdict(plan.fit),
        "encoder": [encoder.encoder, encoder.options, attrs.asdict(encoder.surface)],
    }
    text = json.dumps(decisive, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(cpu: CpuDevice, gpus: tuple[GpuModel, ...], driver: str | None, cuda: str | None) -> EngineFingerprint:
    libraries = _libraries()
    return EngineFingerprint(
        rave_trio=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{platform.system()} {platform.machine()}",
        libraries=libraries,
        ffmpeg=library_versions(),
        cpu=cpu,
        gpus=gpus,
        driver=driver,
        cuda=cuda,
        tensorrt=next((libraries[name] for name in TENSORRT if name in libraries), None),
    )


@functools.cache
def _libraries() -> dict[str, str]:
    return versions()
