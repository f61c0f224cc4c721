"""Which libraries are installed, by their metadata: none is imported, since some are slow and some may crash."""

from __future__ import annotations

import importlib.metadata

import attrs

EXTRA = "pip install 'rave-trio[nvidia]'"


@attrs.frozen
class Library:
    """A library that the engine can use; ``version`` is None where it is not installed as a Python package."""

    name: str
    version: str | None
    install: str
    """The command that installs it."""


_DISTRIBUTIONS = {
    "openvino": (("openvino",), "pip install rave-trio"),
    "nvidia-ml-py": (("nvidia-ml-py",), EXTRA),
    "cuda-core": (("cuda-core",), EXTRA),
    "cuda-bindings": (("cuda-bindings",), EXTRA),
    "PyNvVideoCodec": (("pynvvideocodec",), EXTRA),
    "nvrtc": (("nvidia-cuda-nvrtc",), "pip install nvidia-cuda-nvrtc"),
    "onnx": (("onnx",), EXTRA),
    "onnxruntime-gpu": (("onnxruntime-gpu",), "pip install onnxruntime-gpu"),
    "cupti-python": (("cupti-python",), "pip install cupti-python"),
    "tensorrt": (("tensorrt-cu13", "tensorrt"), "pip install tensorrt-cu13"),
    "tensorrt_rtx": (("tensorrt-rtx-cu13", "tensorrt-rtx"), "pip install tensorrt-rtx-cu13"),
}
"""By name: the distributions that bring it, of which one is enough, and what installs it."""


ALWAYS_USED = ("trio", "attrs", "av", "numpy")
SOMETIMES_USED = ("onnx", "onnxruntime")


def installed() -> tuple[Library, ...]:
    """All libraries of interest, installed or not."""
    return tuple(Library(name, _version(names), install) for name, (names, install) in _DISTRIBUTIONS.items())


def versions() -> dict[str, str]:
    """The installed versions of all libraries that decide what a run does, by name.  Blocking, some milliseconds."""
    known = {name: _version((name,)) for name in ALWAYS_USED + SOMETIMES_USED}
    known |= {library.name: library.version for library in installed()}
    return {name: version for name, version in sorted(known.items()) if version is not None}


def _version(distributions: tuple[str, ...]) -> str | None:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
