"""``rave-trio devices``: for people and as JSON."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rave_trio.devices import nvidia
from rave_trio.devices.nvidia import DecoderFormat, EncoderFormat, Gpu, Nvidia, VideoEngines

VIDEO = VideoEngines(
    decoders=(
        DecoderFormat("hevc", "4:2:0", 8, 8192, 8192, 144, 144, 7),
        DecoderFormat("hevc", "4:2:0", 10, 8192, 8192, 144, 144, 7),
        DecoderFormat("h264", "4:2:0", 8, 4096, 4096, 48, 16, 7),
    ),
    encoders=(EncoderFormat("hevc", ["4:2:0", "4:4:4"], [8, 10], 8192, 8192, 4, 1),),
    notes=("something is odd",),
)


@pytest.fixture
def finds(monkeypatch):
    def set_to(found):
        monkeypatch.setattr(nvidia, "probe_nvidia", lambda: found)

    return set_to


def test_without_a_gpu_there_are_the_cpu_and_one_line_that_says_why(rave, finds):
    finds(Nvidia(problem="no NVIDIA driver is installed"))
    result = rave("devices")
    assert result.status == 0
    assert "cores" in result.stdout
    assert result.stdout.count("no NVIDIA driver is installed") == 1
    assert "inference on the CPU: ready" in result.stdout
    assert result.stderr == ""


def test_a_gpu_is_shown_with_what_it_decodes_and_encodes(rave, finds):
    gpu = Gpu(0, "NVIDIA L4", "GPU-1", None, (8, 9), 24 * 10**9, 23 * 10**9, cuda_ordinal=1, video=VIDEO)
    finds(Nvidia("580.82", "13.0", (gpu,)))
    said = rave("devices").stdout
    for words in (
        "driver 580.82, CUDA 13.0",
        "NVIDIA L4, compute capability 8.9, 23.0 of 24.0 GB free, CUDA device 1, GPU-1",
        "hevc 4:2:0 8, 10 bit to 8192x8192; h264 4:2:0 8 bit to 4096x4096; 7 engines",
        "hevc 4:2:0 4:4:4 8, 10 bit to 8192x8192, up to 4 B-frames; 1 engine",
        "something is odd",
    ):
        assert words in said


def test_a_gpu_that_cannot_be_used_says_why_and_what_is_not_known_is_left_out(rave, finds):
    finds(Nvidia(None, None, (Gpu(3, "NVIDIA GPU", problem="it is lost"),), problem="no GPU can be used: it is lost"))
    said = rave("devices").stdout
    assert "driver unknown, CUDA unknown" in said
    assert "cannot be used: it is lost" in said
    assert "None" not in said


def test_as_json_it_is_one_object_with_the_same_facts(rave, finds):
    gpu = Gpu(0, "NVIDIA H200", "GPU-1", None, (9, 0), 2, 1, video=VIDEO)
    finds(Nvidia("580.82", "13.0", (gpu,)))
    document = rave("devices", "--json").json
    assert (document["schema_version"], document["command"], document["ok"]) == (1, "devices", True)
    found = document["devices"]
    assert found["cpu"]["cores"] >= 1
    assert found["nvidia"]["gpus"][0]["video"]["encoders"][0]["max_b_frames"] == 4
    assert {backend["name"]: backend["ready"] for backend in found["backends"]}["openvino"]
    assert {"name", "version", "install"} == set(found["libraries"][0])


def test_on_this_machine_it_answers_whatever_there_is(rave):
    document = rave("devices", "--json").json
    assert document["ok"]
    assert document["devices"]["nvidia"]["gpus"] or document["devices"]["nvidia"]["problem"]


def test_the_command_line_loads_none_of_nvidias_libraries():
    script = (
        "import sys, rave_trio.cli.app, rave_trio.devices.libraries; "
        "sys.exit(any(name.split('.')[0] in ('cuda', 'pynvml', 'PyNvVideoCodec') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
