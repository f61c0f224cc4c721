"""Which libraries are installed, and what can run with them."""

from __future__ import annotations

import pytest

from rave_trio.devices.libraries import Library, backends, installed

ALL = ("openvino", "cuda-core", "cuda-bindings", "PyNvVideoCodec", "onnxruntime-gpu", "tensorrt", "tensorrt_rtx")


def with_only(*names):
    return tuple(Library(one.name, "1.0" if one.name in names else None, one.install) for one in installed())


def ready(libraries, *capabilities):
    return {backend.name for backend in backends(libraries, capabilities) if backend.ready}


def test_what_this_project_needs_is_installed_and_is_found_by_its_metadata():
    versions = {library.name: library.version for library in installed()}
    assert versions["openvino"]
    assert set(ALL) <= set(versions)


def test_a_library_is_found_by_any_of_its_distributions(tmp_path, monkeypatch):
    folder = tmp_path / "tensorrt_rtx-9.8.7.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorrt-rtx\nVersion: 9.8.7\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert {library.name: library.version for library in installed()}["tensorrt_rtx"]


def test_with_everything_there_everything_runs():
    assert ready(with_only(*ALL), (8, 9)) == {"openvino", "cuda", "nvcodec", "onnxruntime", "tensorrt", "tensorrt-rtx"}


def test_without_a_gpu_only_the_cpu_runs():
    assert ready(with_only(*ALL)) == {"openvino"}
    assert {each.why_not for each in backends(with_only(*ALL), ())} == {None, "needs an NVIDIA GPU"}


def test_what_is_missing_is_named_with_the_command_that_installs_it():
    reasons = {each.name: each.why_not for each in backends(with_only("openvino", "cuda-core"), ((9, 0),))}
    assert reasons["nvcodec"] == "cuda-bindings, PyNvVideoCodec not installed: pip install 'rave-trio[nvidia]'"
    assert reasons["onnxruntime"] == "onnxruntime-gpu not installed: pip install onnxruntime-gpu"
    assert reasons["openvino"] is None


@pytest.mark.parametrize(
    ("capability", "runs"), [((7, 5), True), ((8, 9), True), ((9, 0), False), ((10, 0), False), ((12, 0), True)]
)
def test_tensorrt_rtx_runs_where_it_runs(capability, runs):
    assert ("tensorrt-rtx" in ready(with_only(*ALL), capability)) == runs


def test_a_gpu_that_does_not_say_its_compute_capability_is_given_the_benefit_of_the_doubt():
    assert "tensorrt-rtx" in ready(with_only(*ALL), None)
