"""Machines with GPUs that are not there: what NVML and the package metadata would say, and how fast they would be."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from rave_trio import choice, errors, tuning
from rave_trio.devices.libraries import Library
from rave_trio.devices.nvidia import DecoderFormat, EncoderFormat, Gpu, Nvidia, VideoEngines

ALL = ("openvino", *choice.NEEDED, "PyNvVideoCodec", "onnx", "onnxruntime-gpu", "tensorrt", "tensorrt_rtx")
DECODES = tuple(DecoderFormat(codec, "4:2:0", 8, 4096, 4096) for codec in ("h264", "hevc"))
ENCODES = tuple(EncoderFormat(codec, ("4:2:0",), (8, 10), 8192, 8192, max_b_frames=3) for codec in ("h264", "hevc"))
NO_NVENC = VideoEngines(DECODES, (), ("NVENC: this GPU has none",))
BOTH = VideoEngines(DECODES, ENCODES)


def gpu(ordinal: int, **how: object) -> Gpu:
    found: dict[str, Any] = {
        "compute_capability": (8, 9),
        "memory_total": 16 << 30,
        "memory_free": 15 << 30,
        "cuda_ordinal": ordinal,
    }
    return Gpu(ordinal, f"GPU number {ordinal}", **(found | how))


class Speeds:
    """Goes for a speedometer: ``rates`` has pictures a second, or an error, by (batch, streams)."""

    def __init__(self, rates: dict[tuple[int, int], float | Exception]) -> None:
        self.rates = rates
        self.asked: list[tuple[int, int]] = []
        self.shapes: set[tuple[int, int]] = set()

    @contextlib.contextmanager
    def opened(self, plan: Any, steps: Any, step: Any) -> Any:
        yield self

    def rate(self, geometry: Any, streams: int, batch: int, *, seconds: float, warm_up: float = 0.0) -> float:
        self.asked.append((batch, streams))
        self.shapes.add((geometry.tile_height, geometry.tile_width))
        found = self.rates[batch, streams]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Makes this machine one with these GPUs and libraries, on which speed cannot be measured or is as given."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(*gpus, libraries=ALL, problem=None, engines=NO_NVENC, speeds=None):
        known = tuple(Library(name, "1.0" if name in libraries else None, f"pip install {name}") for name in ALL)
        monkeypatch.setattr(choice, "installed", lambda: known)
        monkeypatch.setattr(choice, "probe_nvidia", lambda video: Nvidia("580.1", "13.0", gpus, problem))
        monkeypatch.setattr(choice, "remembered_engines", lambda *_: engines)
        monkeypatch.setattr(tuning, "driver_version", lambda: "580.1")
        made = speeds or Speeds({(1, 1): errors.DeviceUnknown("no such GPU")})
        monkeypatch.setattr(tuning, "speedometer", made.opened)
        return made

    return make
