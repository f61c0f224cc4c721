"""What the probe says of a GPU that is there."""

from __future__ import annotations

import importlib.util

import pytest

from rave_trio.devices.nvidia import probe_nvidia, video_engines
from rave_trio.devices.nvml import bare


@pytest.fixture
def gpu(cuda):
    """What the probe says of the GPU that CUDA has opened."""
    pytest.importorskip("pynvml")
    found = probe_nvidia(video=False)
    assert found.problem is None
    (gpu,) = (gpu for gpu in found.usable if bare(gpu.uuid) == bare(cuda.uuid))
    return gpu


def test_nvml_and_cuda_mean_the_same_gpu(cuda, gpu):
    assert gpu.cuda_ordinal == cuda.ordinal
    assert gpu.name == cuda.name
    assert gpu.compute_capability == cuda.compute_capability
    assert gpu.memory_total == pytest.approx(cuda.capacity, rel=0.05)
    assert 0 < gpu.memory_free < gpu.memory_total


def test_the_video_engines_answer(gpu):
    """Every GPU of the last ten years decodes H.264 and HEVC; some (data-centre Hopper) encode nothing, and say so."""
    if importlib.util.find_spec("PyNvVideoCodec") is None:
        pytest.skip("PyNvVideoCodec is not installed")
    video = video_engines(gpu, True)
    assert {"h264", "hevc"} <= {each.codec for each in video.decoders}, video.notes
    assert all(each.max_width >= 4096 and each.max_height >= 2304 for each in video.decoders if each.codec == "hevc")
    assert video.encoders or any("NVENC" in note for note in video.notes)


def test_the_command_says_it_to_people(rave, gpu):
    result = rave("devices")
    assert result.status == 0
    assert gpu.name in result.stdout
    assert "CUDA device 0" in result.stdout
