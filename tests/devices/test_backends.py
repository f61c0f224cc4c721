"""What can run with which libraries on which GPUs."""

from __future__ import annotations

import pytest

from rave_trio.devices.backends import backends
from rave_trio.devices.libraries import Library, installed
from rave_trio.devices.nvidia import DecoderFormat, Gpu, VideoEngines

ALL = (
    "openvino",
    "cuda-core",
    "cuda-bindings",
    "nvrtc",
    "PyNvVideoCodec",
    "onnx",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt_rtx",
)


def with_only(*names):
    return tuple(Library(one.name, "1.0" if one.name in names else None, one.install) for one in installed())


def ready(libraries, *capabilities):
    gpus = tuple(Gpu(0, "GPU", compute_capability=capability) for capability in capabilities)
    return {backend.name for backend in backends(libraries, gpus) if backend.ready}


def test_with_everything_there_everything_runs():
    names = {"openvino", "cuda", "nvcodec", "compact", "onnxruntime", "tensorrt", "tensorrt-rtx"}
    assert ready(with_only(*ALL), (8, 9)) == names


def test_without_a_gpu_only_the_cpu_runs():
    assert ready(with_only(*ALL)) == {"openvino"}
    assert {each.why_not for each in backends(with_only(*ALL), ())} == {None, "needs an NVIDIA GPU"}


def test_what_is_missing_is_named_with_the_command_that_installs_it():
    reasons = {each.name: each.why_not for each in backends(with_only("openvino", "cuda-core"), (Gpu(0, "GPU"),))}
    assert reasons["nvcodec"] == "cuda-bindings, PyNvVideoCodec not installed: pip install 'rave-trio[nvidia]'"
    assert reasons["onnxruntime"] == "onnxruntime-gpu not installed: pip install onnxruntime-gpu"
    assert reasons["openvino"] is None


@pytest.mark.parametrize(
    ("capability", "runs"), [((7, 5), True), ((8, 9), True), ((9, 0), False), ((10, 0), False), ((12, 0), True)]
)
def test_tensorrt_rtx_runs_where_it_runs(capability, runs):
    assert ("tensorrt-rtx" in ready(with_only(*ALL), capability)) == runs


@pytest.mark.parametrize(("capability", "runs"), [((7, 5), False), ((8, 0), True), ((9, 0), True), ((12, 0), True)])
def test_our_own_kernels_run_from_8_0_on(capability, runs):
    assert ("compact" in ready(with_only(*ALL), capability)) == runs


def test_a_gpu_that_does_not_say_its_compute_capability_is_given_the_benefit_of_the_doubt():
    assert "tensorrt-rtx" in ready(with_only(*ALL), None)


def test_video_engines_that_do_not_answer_are_not_ready_and_say_why():
    silent = Gpu(0, "GPU", video=VideoEngines(notes=("PyNvVideoCodec cannot be loaded: no library",)))
    able = Gpu(1, "GPU", video=VideoEngines(decoders=(DecoderFormat("h264", "4:2:0", 8, 4096, 4096),)))
    reasons = [
        {each.name: each.why_not for each in backends(with_only(*ALL), gpus)}["nvcodec"]
        for gpus in ((silent,), (silent, able))
    ]
    assert reasons == ["PyNvVideoCodec cannot be loaded: no library", None]
