"""The floor plan holds: lower floors never import higher ones, heavy libraries stay in their own modules."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "rave_trio"

FLOORS = {
    "errors": 0,
    "frames": 0,
    "options": 0,
    "caches": 0,
    "values": 0,
    "files": 0,
    "graph": 0,
    "intent": 0,
    "profiles": 0,
    "contract": 0,
    "memory": 1,
    "devices": 1,
    "media": 1,
    "color": 1,
    "inference": 1,
    "resizing": 1,
    "pipeline": 2,
    "steps": 3,
    "promises": 3,
    "fit": 3,
    "costs": 3,
    "choice": 3,
    "gpu": 3,
    "assembly": 3,
    "plan": 3,
    "encoding": 3,
    "plan_notes": 3,
    "output": 3,
    "tuning": 3,
    "speed": 3,
    "estimate": 3,
    "fingerprint": 3,
    "observe": 3,
    "report": 3,
    "progress": 3,
    "delivery": 3,
    "running": 3,
    "job": 3,
    "inference_pipeline": 3,
    "testing": 3,
    "audit": 3,
    "bench": 3,
    "validation": 3,
    "cli": 4,
    "__main__": 5,
}

HOMES = {
    "openvino": {"inference"},
    "onnx": {"inference"},
    "onnxruntime": {"inference"},
    "cuda": {"devices"},
    "prometheus_client": {"observe"},
    "pynvml": {"devices"},
    "cupti": {"devices"},
    "PyNvVideoCodec": {"devices", "media"},
    "tensorrt": {"inference"},
    "tensorrt_rtx": {"inference"},
    "av": {"media", "color", "inference_pipeline", "testing", "audit", "bench"},
    "cyclopts": {"cli"},
    "rich": {"cli"},
    "trio": {"pipeline", "delivery", "running", "job", "gpu", "cli", "bench"},
    "numpy": {
        "frames",
        "memory",
        "devices",
        "color",
        "inference",
        "resizing",
        "inference_pipeline",
        "speed",
        "assembly",
        "gpu",
        "testing",
        "audit",
        "bench",
    },
}

MODULES_FOR = {
    "openvino": {"openvino_backend.py", "openvino_model.py", "openvino_runtime.py", "resize.py"},
    "onnx": {"onnx_model.py", "onnx_precision.py", "onnxruntime_session.py", "reading.py"},
    "onnxruntime": {"onnxruntime_session.py"},
    "tensorrt": {"tensorrt_library.py"},
    "tensorrt_rtx": {"tensorrt_library.py"},
    "cuda": {
        "cuda.py",
        "cuda_memory.py",
        "driver.py",
        "copies.py",
        "_cuda_probe.py",
        "compiler.py",
        "launcher.py",
        "graphs.py",
        "tensor_map.py",
    },
    "prometheus_client": {"prometheus.py"},
    "pynvml": {"nvml.py"},
    "cupti": {"cupti.py"},
    "PyNvVideoCodec": {"_codec_probe.py", "nvdec.py", "nvenc_library.py"},
}

MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0].removesuffix(".py")


@functools.cache
def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms_used(path: Path) -> set[str]:
    used = {name.split(".")[1] for name in imports_of(path) if name.startswith("rave_trio.")}
    return {name for name in used if (SOURCE / name).is_dir() or (SOURCE / f"{name}.py").exists()}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_imports_from_a_higher_floor(path):
    if path == SOURCE / "__init__.py":
        return
    room = room_of(path)
    for used in rooms_used(path):
        assert FLOORS[used] <= FLOORS[room], f"{room} (floor {FLOORS[room]}) imports {used} (floor {FLOORS[used]})"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_heavy_libraries_are_imported_only_in_their_rooms(path):
    for library in {name.split(".")[0] for name in imports_of(path)} & HOMES.keys():
        assert room_of(path) in HOMES[library], f"{path} imports {library}"


@pytest.mark.parametrize("library", MODULES_FOR)
def test_a_library_that_is_not_always_wanted_is_imported_by_the_modules_that_exist_for_it(library):
    users = {path.name for path in MODULES if any(name.split(".")[0] == library for name in imports_of(path))}
    assert users == MODULES_FOR[library]


def test_onnx_and_onnxruntime_are_not_needed_for_a_run_on_openvino():
    script = "import sys, rave_trio.job, rave_trio.cli.upscale; print({'onnx', 'onnxruntime'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_the_pipeline_knows_no_library_but_trio():
    for path in (SOURCE / "pipeline").glob("*.py"):
        assert rooms_used(path) <= {"errors", "frames", "memory", "pipeline"}, path


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in MODULES} - {"__init__", "__pycache__"}
    assert rooms == set(FLOORS)
