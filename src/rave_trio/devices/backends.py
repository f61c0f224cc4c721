"""What can run on the GPUs that there are, with the libraries that are installed."""

from __future__ import annotations

from typing import Any

import attrs

from rave_trio.devices.libraries import Library, installed
from rave_trio.devices.nvidia import Gpu


@attrs.frozen
class Backend:
    """Something that can run a model, or do what goes around it; ``ready`` says whether all it needs is there."""

    name: str
    purpose: str
    ready: bool
    why_not: str | None
    """One line: what is missing, and what to do about it."""

    def as_dict(self) -> dict[str, Any]:
        return attrs.asdict(self)


ON_CPU = "openvino"

_BACKENDS = (
    (ON_CPU, "inference on the CPU", ("openvino",)),
    ("cuda", "memory and copies on the GPU", ("cuda-core", "cuda-bindings")),
    ("nvcodec", "decoding and encoding on the GPU", ("cuda-core", "cuda-bindings", "PyNvVideoCodec")),
    ("compact", "inference of Compact networks on the GPU", ("cuda-core", "cuda-bindings", "nvrtc", "onnx")),
    ("onnxruntime", "inference on the GPU", ("onnxruntime-gpu",)),
    ("tensorrt", "inference on the GPU", ("tensorrt",)),
    ("tensorrt-rtx", "inference on the GPU", ("tensorrt_rtx",)),
)
"""Name, purpose, and the libraries that each needs."""


def backends(libraries: tuple[Library, ...], gpus: tuple[Gpu, ...]) -> tuple[Backend, ...]:
    """What can run, and why the rest cannot.  ``gpus`` are the usable ones; what is not known of them is not held
    against them."""
    known = {library.name: library for library in libraries}
    found = []
    for name, purpose, needs in _BACKENDS:
        missing = [known[need] for need in needs if known[need].version is None]
        why_not = None
        if name != ON_CPU and not gpus:
            why_not = "needs an NVIDIA GPU"
        elif missing:
            installs = dict.fromkeys(library.install for library in missing)
            why_not = f"{', '.join(library.name for library in missing)} not installed: {'; '.join(installs)}"
        elif name == "tensorrt-rtx" and not any(map(_runs_rtx, gpus)):
            why_not = "TensorRT-RTX runs on compute capability 7.5, 8.0, 8.6, 8.9 and 12.x only"
        elif name == "compact" and not any(map(_runs_compact, gpus)):
            why_not = "its kernels need compute capability 8.0 or higher"
        elif name == "nvcodec":
            why_not = _no_video(gpus)
        found.append(Backend(name, purpose, why_not is None, why_not))
    return tuple(found)


def library_version(backend: str) -> str | None:
    """The version of what a backend computes with; None where that is not known."""
    needs = next((needs for name, _, needs in _BACKENDS if name == backend), ())
    return next((library.version for library in installed() if library.name in needs), None)


def _runs_compact(gpu: Gpu) -> bool:
    return gpu.compute_capability is None or gpu.compute_capability >= (8, 0)


def _runs_rtx(gpu: Gpu) -> bool:
    capability = gpu.compute_capability
    return capability is None or capability in ((7, 5), (8, 0), (8, 6), (8, 9)) or capability[0] == 12


def _no_video(gpus: tuple[Gpu, ...]) -> str | None:
    notes: list[str] = []
    for gpu in gpus:
        if gpu.video is None or gpu.video.decoders or gpu.video.encoders:
            return None
        notes += gpu.video.notes
    return notes[0] if notes else "no GPU has a video engine"
