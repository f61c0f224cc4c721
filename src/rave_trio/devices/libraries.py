"""Which libraries are installed, by their metadata: none is imported, since some are slow and some may crash."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import attrs

EXTRA = "pip install 'rave-trio[nvidia]'"


@attrs.frozen
class Library:
    """A library that the engine can use; ``version`` is None where it is not installed as a Python package."""

    name: str
    version: str | None
    install: str
    """The command that installs it."""


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


_DISTRIBUTIONS = {
    "openvino": (("openvino",), "pip install rave-trio"),
    "nvidia-ml-py": (("nvidia-ml-py",), EXTRA),
    "cuda-core": (("cuda-core",), EXTRA),
    "cuda-bindings": (("cuda-bindings",), EXTRA),
    "PyNvVideoCodec": (("pynvvideocodec",), EXTRA),
    "nvrtc": (("nvidia-cuda-nvrtc",), "pip install nvidia-cuda-nvrtc"),
    "onnxruntime-gpu": (("onnxruntime-gpu",), "pip install onnxruntime-gpu"),
    "tensorrt": (("tensorrt-cu13", "tensorrt"), "pip install tensorrt-cu13"),
    "tensorrt_rtx": (("tensorrt-rtx-cu13", "tensorrt-rtx"), "pip install tensorrt-rtx-cu13"),
}
"""By name: the distributions that bring it, of which one is enough, and what installs it."""

_BACKENDS = (
    ("openvino", "inference on the CPU", ("openvino",)),
    ("cuda", "memory and copies on the GPU", ("cuda-core", "cuda-bindings")),
    ("nvcodec", "decoding and encoding on the GPU", ("cuda-core", "cuda-bindings", "PyNvVideoCodec")),
    ("onnxruntime", "inference on the GPU", ("onnxruntime-gpu",)),
    ("tensorrt", "inference on the GPU", ("tensorrt",)),
    ("tensorrt-rtx", "inference on the GPU", ("tensorrt_rtx",)),
)
ON_CPU = "openvino"


def installed() -> tuple[Library, ...]:
    """All libraries of interest, installed or not."""
    return tuple(Library(name, _version(names), install) for name, (names, install) in _DISTRIBUTIONS.items())


def backends(libraries: tuple[Library, ...], capabilities: tuple[tuple[int, int] | None, ...]) -> tuple[Backend, ...]:
    """What can run with these libraries on GPUs of these compute capabilities, None being one that is not known."""
    known = {library.name: library for library in libraries}
    found = []
    for name, purpose, needs in _BACKENDS:
        missing = [known[need] for need in needs if known[need].version is None]
        why_not = None
        if name != ON_CPU and not capabilities:
            why_not = "needs an NVIDIA GPU"
        elif missing:
            installs = dict.fromkeys(library.install for library in missing)
            why_not = f"{', '.join(library.name for library in missing)} not installed: {'; '.join(installs)}"
        elif name == "tensorrt-rtx" and not any(map(_runs_rtx, capabilities)):
            why_not = "TensorRT-RTX runs on compute capability 7.5, 8.0, 8.6, 8.9 and 12.x only"
        found.append(Backend(name, purpose, why_not is None, why_not))
    return tuple(found)


def _runs_rtx(capability: tuple[int, int] | None) -> bool:
    return capability is None or capability in ((7, 5), (8, 0), (8, 6), (8, 9)) or capability[0] == 12


def _version(distributions: tuple[str, ...]) -> str | None:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
