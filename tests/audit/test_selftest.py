"""The self-test: on this machine's CPU for real, on a GPU with NVENC's stand-in, and where things go wrong."""

from __future__ import annotations

import functools
import gc

import pytest
from nvdec_standin import NvdecDevice
from nvdec_standin import StandIn as NvdecStandIn
from nvdec_standin import copy as device_copy
from simulated_copies import from_host, to_host

from rave_trio import choice
from rave_trio.audit import upscale_check
from rave_trio.audit.clip import drawn, psnr, read_clip, times, write_clip
from rave_trio.audit.decode_check import decode_and_compare
from rave_trio.audit.gpu_checks import encode_and_read_back, gpu_checks
from rave_trio.audit.selftest import FAIL, NOT_THERE, PASS, Check, NotThereError, selftest
from rave_trio.devices.libraries import Library
from rave_trio.devices.nvidia import DecoderFormat, EncoderFormat, Gpu, Nvidia, VideoEngines
from rave_trio.testing.nvenc import NvencDevice, NvencStandIn

NO_LIBRARIES = "cuda:0 cannot be used without nvrtc"

HEVC = EncoderFormat("hevc", ("4:2:0",), (8, 10), 8192, 8192, 4, 1)


def outcomes(checks):
    return {result.name: (result.outcome, result.detail) for result in selftest(checks).results}


def test_the_cpu_passes_on_this_machine(monkeypatch):
    monkeypatch.setattr(upscale_check, "FRAMES", 8)
    (result,) = selftest([Check("cpu", functools.partial(upscale_check.upscale_on, "cpu"))]).results
    assert result.outcome == PASS, result.detail
    assert "8 frames at their times, 256x192" in result.detail


def test_what_a_check_says_raises_or_lacks_becomes_its_outcome():
    def fails(_folder):
        raise RuntimeError("it\nbroke")

    def lacks(_folder):
        raise NotThereError("no such engine")

    found = outcomes([Check("good", lambda folder: "fine"), Check("bad", fails), Check("none", lacks)])
    assert found == {
        "good": (PASS, "fine"),
        "bad": (FAIL, "RuntimeError: it broke"),
        "none": (NOT_THERE, "no such engine"),
    }


def test_only_a_failure_keeps_it_from_passing():
    def lacks(_folder):
        raise NotThereError("no such engine")

    assert selftest([Check("none", lacks)]).passed
    assert not selftest([Check("bad", lambda folder: 1 / 0)]).passed


def test_each_check_has_a_folder_of_its_own_that_goes(tmp_path):
    seen = []
    selftest([Check(str(n), lambda folder: seen.append(folder) or str(folder.is_dir())) for n in range(2)])
    assert seen[0] != seen[1]
    assert not any(folder.exists() for folder in seen)


def rewritten(tmp_path, monkeypatch, **changed):
    """A clip at twice the size, with something about it changed, as the check finds it."""
    frames, width, height = upscale_check.FRAMES, 2 * upscale_check.WIDTH, 2 * upscale_check.HEIGHT
    for name, value in changed.items():
        monkeypatch.setattr(f"rave_trio.audit.clip.{name}", value)
    write_clip(tmp_path / "out.mkv", changed.get("FRAMES", frames), width, height)
    monkeypatch.undo()
    return upscale_check.described(tmp_path / "out.mkv", 2)


def test_a_perfect_result_is_accepted(tmp_path, monkeypatch):
    assert "24 frames" in rewritten(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"times": lambda frames: [at + 1 for at in times(frames)]}, "24 frames have other times"),
        ({"drawn": lambda index, *size: drawn(index + 1, *size)}, "dB from what it should show"),
        ({"drawn": lambda index, *size: drawn(index, *size) // 16 * 15}, "dB from what it should show"),
    ],
    ids=["times", "the next frame's picture", "darker"],
)
def test_a_result_that_is_wrong_is_told(tmp_path, monkeypatch, changed, words):
    with pytest.raises(AssertionError, match=words):
        rewritten(tmp_path, monkeypatch, **changed)


def test_a_frame_that_is_missing_is_told(tmp_path):
    write_clip(tmp_path / "out.mkv", upscale_check.FRAMES - 1, 256, 192)
    with pytest.raises(AssertionError, match="23 of 24 frames"):
        upscale_check.described(tmp_path / "out.mkv", 2)


def test_a_clip_is_read_back_as_it_was_drawn(tmp_path):
    write_clip(tmp_path / "in.mkv", 5, 64, 48)
    found = read_clip(tmp_path / "in.mkv")
    assert [float(at) for at, _ in found] == [at / 1000 for at in times(5)]
    assert all(psnr(picture, drawn(index, 64, 48)) > 45 for index, (_, picture) in enumerate(found))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Nvidia(problem="no NVIDIA driver is installed"), {"gpu": "no NVIDIA driver is installed"}),
        (Nvidia(), {"gpu": "there is no GPU"}),
        (Nvidia(gpus=(Gpu(0, "A", problem="it is lost"),)), {"gpu 0": "it is lost"}),
        (Nvidia(gpus=(Gpu(1, "A"),)), {"gpu 1": "CUDA's count of it is not known: cuda-bindings is not installed"}),
        (
            Nvidia(gpus=(Gpu(0, "A", cuda_ordinal=0, video=VideoEngines(notes=("NVDEC: x", "NVENC: error 2"))),)),
            {"gpu 0 upscale": NO_LIBRARIES, "gpu 0 encode": "NVENC: error 2"},
        ),
    ],
)
def test_what_is_not_there_is_said_with_its_reason(found, expected, monkeypatch):
    monkeypatch.setattr(choice, "installed", lambda: (Library("nvrtc", None, "pip install"),))
    assert outcomes(gpu_checks(found)) == {name: (NOT_THERE, why) for name, why in expected.items()}


def test_there_is_a_check_for_each_codec_and_depth_of_each_gpu():
    gpu = Gpu(2, "A", cuda_ordinal=0, video=VideoEngines(encoders=(HEVC,)))
    names = [check.name for check in gpu_checks(Nvidia(gpus=(gpu,)))]
    assert names == ["gpu 2 upscale", "gpu 2 encode hevc 8 bit", "gpu 2 encode hevc 10 bit"]


def test_what_the_chip_decodes_and_can_be_tried_is_tried():
    decoders = [
        ("h264", "4:2:0", 8),
        ("hevc", "4:2:0", 10),
        ("hevc", "4:4:4", 8),
        ("vp9", "4:2:0", 10),
        ("vc1", "4:2:0", 8),
    ]
    formats = tuple(DecoderFormat(*each, 4096, 4096) for each in decoders)
    gpu = Gpu(0, "A", cuda_ordinal=0, video=VideoEngines(decoders=formats))
    names = [check.name for check in gpu_checks(Nvidia(gpus=(gpu,)))]
    assert names[:2] == ["gpu 0 decode h264 8 bit", "gpu 0 decode hevc 10 bit"]
    assert names[2:] == ["gpu 0 upscale", "gpu 0 encode"]


@pytest.fixture
def device():
    device = NvencDevice(1 << 26)
    yield device
    device.close()
    gc.collect()
    assert device.used == 0


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
@pytest.mark.parametrize("depth", [8, 10])
def test_encoding_passes_where_nvenc_does_what_it_should(tmp_path, device, codec, depth):
    library = NvencStandIn(device).library
    encoder = EncoderFormat(codec, ("4:2:0",), (8, 10), 8192, 8192, 4, 1)
    said = encode_and_read_back(device, encoder, depth, tmp_path, from_host, library)
    assert said.startswith("40 frames of 640x368 in their order")


def test_encoding_fails_where_nvenc_fails(tmp_path, device):
    module = NvencStandIn(device)
    module.failing["Encode"] = RuntimeError("Invalid shape")
    with pytest.raises(Exception, match="Invalid shape"):
        encode_and_read_back(device, HEVC, 8, tmp_path, from_host, module.library)


def test_encoding_fails_where_the_picture_is_another(tmp_path, device):
    def dark(stream, host, target):
        from_host(stream, host // 2, target)

    with pytest.raises(AssertionError, match="dB from what went in"):
        encode_and_read_back(device, HEVC, 8, tmp_path, dark, NvencStandIn(device).library)


def test_a_size_that_the_chip_does_not_take_is_not_there_rather_than_failed(tmp_path, device):
    small = EncoderFormat("hevc", ("4:2:0",), (8,), 320, 240)
    with pytest.raises(NotThereError, match="up to 320x240"):
        encode_and_read_back(device, small, 8, tmp_path, from_host, NvencStandIn(device).library)


@pytest.fixture
def decoding():
    device = NvdecDevice(latency=1e-3)
    yield {"device": device, "copy": to_host, "module": NvdecStandIn(device)}
    device.close()
    gc.collect()
    assert device.used == 0


@pytest.mark.parametrize(("codec", "depth"), [("h264", 8), ("hevc", 8), ("hevc", 10), ("vp8", 8), ("vp9", 8)])
def test_decoding_passes_where_nvdec_does_what_it_should(tmp_path, decoding, codec, depth):
    said = decode(codec, depth, tmp_path, **decoding)
    assert said == "40 frames of 322x182, the same as the CPU's to the bit"


def test_decoding_fails_where_a_picture_is_another(tmp_path, decoding):
    def wrong(stream, source, host):
        to_host(stream, source, host)
        stream.synchronize()
        host[-1, -1] ^= 1

    with pytest.raises(AssertionError, match="frame 0 is not what the CPU decodes"):
        decode("h264", 8, tmp_path, **decoding | {"copy": wrong})


def test_decoding_fails_where_a_frame_is_missing(tmp_path, decoding):
    decoding["module"].lose = (39,)
    with pytest.raises(AssertionError):
        decode("h264", 8, tmp_path, **decoding)


def decode(codec, depth, folder, *, device, copy, module):
    return decode_and_compare(device, codec, depth, folder, copy, how={"module": module, "copy": device_copy})
