"""What an installed copy has."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_models_and_their_licences_travel_in_the_wheel(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("catalogue.toml", "animevideo-x2.onnx", "animevideo-x3.onnx", "animevideo-x4.onnx"):
        assert f"rave_trio/models/{name}" in names
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert "rave_trio/py.typed" in names


def test_the_kernels_travel_in_the_wheel(wheel):
    folder = "rave_trio/color/cuda/kernels/"
    kernels = {name.removeprefix(folder) for name in zipfile.ZipFile(wheel).namelist() if name.startswith(folder)}
    assert kernels == {path.name for path in (ROOT / "src" / folder).iterdir()}
    assert "yuv_to_tensor.cu" in kernels


def test_the_schemas_and_the_reports_style_travel_in_the_wheel(wheel):
    schemas = {f"rave_trio/schemas/{path.name}" for path in (ROOT / "src" / "rave_trio" / "schemas").iterdir()}
    assert "rave_trio/schemas/command-upscale.json" in schemas
    assert {*schemas, "rave_trio/observe/page.css"} <= set(zipfile.ZipFile(wheel).namelist())


def test_an_installed_copy_finds_its_models(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from rave_trio.inference.catalogue import catalogue; "
        "assert all(str(m.path).startswith(sys.argv[1]) and m.path.exists() for m in catalogue().values())"
    )
    subprocess.run([sys.executable, "-I", "-c", script, str(tmp_path)], check=True, cwd=tmp_path)


def test_constraints_pin_every_direct_dependency_by_version_alone():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", line) for line in lines)
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {re.split(r"[>=<]", requirement)[0].lower() for requirement in direct} <= pinned
