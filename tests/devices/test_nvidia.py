"""What is said of NVIDIA's driver, GPUs and video engines, with stand-ins for the libraries: no GPU is needed."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import attrs
import pytest
from nvml_standin import GIB, UUIDS, Board, FakeNvml

from rave_trio.devices import nvidia, nvml
from rave_trio.devices.nvidia import Gpu, probe_nvidia, video_engines
from rave_trio.devices.nvml import (
    GpuGauge,
    GpuLoad,
    NvmlUnavailable,
    cuda_version,
    memory_in_use,
    memory_of_this_process,
)

MIG_UUID = "MIG-12345678-1234-1234-1234-123456789abc"


@pytest.fixture
def host(monkeypatch):
    """A maker of hosts: ``host(Board(), installed=[...])``; it has no library unless that is said."""

    def make(*boards, installed=(), **how):
        module = FakeNvml(*boards, **how)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        monkeypatch.setattr(nvidia, "_is_installed", lambda name: name in installed)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        return module

    return make


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A maker of libraries that a child process finds before the real ones: ``library("cuda/x.py", source)``."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))

    def make(name, source):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)

    return make


# The driver


def test_without_the_management_library_there_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = probe_nvidia()
    assert found.gpus == ()
    assert "nvidia-ml-py is not installed: pip install 'rave-trio[nvidia]'" in found.problem


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (12, "no NVIDIA driver is installed"),
        (9, "not loaded"),
        (18, "restart the host"),
        (4, "may not be used by this user"),
        (999, "does not answer: NVML Error with code 999"),
    ],
)
def test_a_driver_that_is_not_there_or_does_not_answer_is_one_line(host, code, says):
    host(init=code)
    found = probe_nvidia()
    assert says in found.problem
    assert "\n" not in found.problem
    assert found.usable == ()


def test_a_driver_without_a_gpu_says_so(host):
    module = host()
    assert probe_nvidia().problem == "there is an NVIDIA driver (580.82.07) but no NVIDIA GPU"
    assert module.open == 0


@pytest.mark.parametrize("driver", ["550.54.15", "579.99"])
def test_a_driver_too_old_for_cuda_13_says_which_one_is_needed(host, driver):
    host(Board(), driver=driver, cuda=12040)
    found = probe_nvidia()
    assert found.problem == f"the NVIDIA driver {driver} is too old for CUDA 13: install version 580 or newer"
    assert found.cuda_version == "12.4"
    assert found.usable == ()


# GPUs


def test_a_gpu_is_described_as_nvml_has_it(host):
    module = host(Board())
    found = probe_nvidia(video=False)
    assert (found.driver_version, found.cuda_version, found.problem) == ("580.82.07", "13.0", None)
    assert found.usable == (
        Gpu(
            index=0,
            name="NVIDIA H200",
            uuid=UUIDS[0],
            pci_bus_id="00000000:01:00.0",
            compute_capability=(9, 0),
            memory_total=140 * GIB,
            memory_free=139 * GIB,
        ),
    )
    assert module.open == 0
    assert json.loads(json.dumps(found.as_dict()))["gpus"][0]["memory_free"] == 139 * GIB


def test_what_a_gpu_does_not_say_is_left_open(host):
    host(Board(uuid=3, name=3, memory=3, capability=3))
    (gpu,) = probe_nvidia().usable
    assert (gpu.uuid, gpu.memory_total, gpu.compute_capability, gpu.name) == (None, None, None, "NVIDIA GPU")


def test_a_gpu_that_cannot_be_read_does_not_hide_the_others(host):
    host(Board(opens=15), Board(uuid=UUIDS[1]))
    found = probe_nvidia(video=False)
    assert [gpu.problem for gpu in found.gpus] == ["it cannot be read: GPU is lost", None]
    assert [gpu.uuid for gpu in found.usable] == [UUIDS[1]]
    assert found.problem is None


@pytest.mark.parametrize(
    ("board", "says"),
    [
        (Board(compute_mode=2), "its compute mode is Prohibited"),
        (Board(compute_mode=3, pids=(1,)), "another process has it"),
        (Board(opens=4), "it cannot be read: Insufficient Permissions"),
        (Board(mig=1), "split (MIG) into no instance"),
    ],
)
def test_a_gpu_that_gives_out_no_context_says_why(host, board, says):
    host(board)
    found = probe_nvidia()
    assert says in found.gpus[0].problem
    assert says in found.problem


def test_a_gpu_for_one_process_is_this_ones_if_no_other_has_it(host):
    host(Board(compute_mode=3, pids=(os.getpid(),)))
    assert probe_nvidia(video=False).usable


def test_the_instances_of_a_split_gpu_are_gpus(host):
    part = Board(uuid=MIG_UUID, name="NVIDIA H200 MIG 1g.18gb", memory=(16 * GIB, 16 * GIB), capability=3)
    host(Board(mig=1, parts=(part,)))
    (gpu,) = probe_nvidia(video=False).usable
    assert (gpu.uuid, gpu.mig_instance, gpu.memory_total) == (MIG_UUID, True, 16 * GIB)
    assert gpu.compute_capability == (9, 0)


def test_memory_in_use_is_found_by_a_uuid_in_cudas_writing(host):
    module = host(Board(), Board(uuid=UUIDS[1], memory=(10 * GIB, 7 * GIB)))
    assert memory_in_use(UUIDS[1].removeprefix("GPU-").upper()) == 3 * GIB
    with pytest.raises(NvmlUnavailable, match="does not say"):
        memory_in_use("00000000-0000-0000-0000-000000000000")
    assert module.open == 0


def test_the_memory_of_this_process_is_told_apart_from_that_of_others(host):
    host(Board(pids=(1, os.getpid()), held={1: 9 * GIB, os.getpid(): 2 * GIB}))
    assert memory_of_this_process(UUIDS[0]) == 2 * GIB


@pytest.mark.parametrize("pids", [(), (1,), (os.getpid(),)], ids=["nobody", "another", "without a figure"])
def test_where_nvml_does_not_know_this_process_it_says_nothing_of_it(host, pids):
    host(Board(pids=pids, held={1: 9 * GIB}))
    assert memory_of_this_process(UUIDS[0]) is None


def test_a_gauge_reads_one_gpu_again_and_again(host):
    board = Board(uuid=UUIDS[1], memory=(10 * GIB, 7 * GIB), load=(97, 40, 0))
    module = host(Board(), board)
    gauge = GpuGauge(UUIDS[1])
    assert gauge.read() == GpuLoad(3 * GIB, 0.97, 0.4, 0.0)
    board.memory, board.load = (10 * GIB, 1 * GIB), (12, 0, 55)
    assert gauge.read() == GpuLoad(9 * GIB, 0.12, 0.0, 0.55)
    assert module.open == 1
    gauge.close()
    gauge.close()
    assert module.open == 0


def test_what_a_mig_instance_does_not_say_is_not_known(host):
    host(Board(uuid=MIG_UUID, load=3, memory=(8, 2)))
    gauge = GpuGauge(MIG_UUID)
    assert gauge.read() == GpuLoad(6, None, None, None)
    gauge.close()


def test_a_gpu_that_is_lost_while_it_is_read_is_not_known(host):
    board = Board()
    host(board)
    gauge = GpuGauge(UUIDS[0])
    board.memory = board.load = 15
    assert gauge.read() == GpuLoad()
    gauge.close()


def test_there_is_no_gauge_of_a_gpu_that_is_not_there(host):
    module = host(Board())
    with pytest.raises(NvmlUnavailable, match="does not know"):
        GpuGauge("GPU-ffffffff-0000-0000-0000-000000000000")
    assert module.open == 0


def test_the_newest_cuda_of_the_driver_is_said(host):
    host(Board())
    assert cuda_version() == "13.0"


# CUDA's count


FAKE_DRIVER = """
import enum, types

class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_NO_DEVICE = 100

UUIDS = {uuids!r}

def cuInit(flags):
    return (CUresult.CUDA_SUCCESS if UUIDS else CUresult.CUDA_ERROR_NO_DEVICE,)

def cuDeviceGetCount():
    return CUresult.CUDA_SUCCESS, len(UUIDS)

def cuDeviceGet(ordinal):
    return CUresult.CUDA_SUCCESS, ordinal

def cuDeviceGetUuid(dev):
    return CUresult.CUDA_SUCCESS, types.SimpleNamespace(bytes=bytes.fromhex(UUIDS[dev]))
"""


@pytest.fixture
def cuda_shows(library):
    def shows(*uuids):
        library("cuda/bindings/__init__.py", "")
        hexadecimal = [uuid.partition("-")[2].replace("-", "") for uuid in uuids]
        library("cuda/bindings/driver.py", FAKE_DRIVER.format(uuids=hexadecimal))

    return shows


def test_cudas_count_of_the_gpus_is_matched_by_uuid(host, cuda_shows):
    host(Board(), Board(uuid=UUIDS[1]), installed=["cuda-bindings"])
    cuda_shows(*reversed(UUIDS))
    assert [gpu.cuda_ordinal for gpu in probe_nvidia(video=False).usable] == [1, 0]


def test_a_gpu_that_cuda_visible_devices_hides_says_so(host, cuda_shows, monkeypatch):
    host(Board(), Board(uuid=UUIDS[1]), installed=["cuda-bindings"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    cuda_shows(UUIDS[1])
    found = probe_nvidia(video=False)
    assert [gpu.cuda_ordinal for gpu in found.gpus] == [None, 0]
    assert found.gpus[0].problem == "CUDA does not show it: CUDA_VISIBLE_DEVICES is '1'"


def test_cuda_that_shows_nothing_is_one_line(host, cuda_shows, monkeypatch):
    host(Board(), installed=["cuda-bindings"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cuda_shows()
    found = probe_nvidia()
    assert found.problem == "CUDA cannot be used: CUDA: CUDA_ERROR_NO_DEVICE (CUDA_VISIBLE_DEVICES is '')"


# Video engines

GPU = Gpu(0, "NVIDIA H200", UUIDS[0])

ANSWERS = """
import enum, os, sys

class cudaVideoCodec(enum.IntEnum):
    MPEG1, MPEG2, MPEG4, VC1, H264, JPEG, HEVC, VP8, VP9, AV1 = 0, 1, 2, 3, 4, 5, 8, 9, 10, 11

cudaVideoChromaFormat = enum.IntEnum("cudaVideoChromaFormat", {"Monochrome": 0, "420": 1, "422": 2, "444": 3})
print("garbage before the answers")
assert os.environ["CUDA_VISIBLE_DEVICES"].startswith("GPU-")

def GetDecoderCaps(gpuid=0, codec=cudaVideoCodec.H264, chromaformat=cudaVideoChromaFormat["420"], bitdepth=8):
    assert gpuid == 0
    deepest = {"H264": 8, "HEVC": 10}.get(codec.name, 0)
    if chromaformat != 1 or bitdepth > deepest:
        return {"width_max": 0, "height_max": 0}
    return {"codec_id": int(codec), "num_decoder_engines": 7, "width_max": 4096, "height_max": 4096,
            "mb_num_max": 65536, "width_min": 48, "height_min": 16}

def GetEncoderCaps(gpuid=0, codec="h264"):
    if codec == "av1":
        raise RuntimeError("not on this GPU")
    return {"num_max_bframes": 4, "width_max": 8192, "height_max": 8192, "support_10bit_encode": int(codec == "hevc"),
            "support_yuv444_encode": 1, "support_yuv422_encode": 0, "num_encoder_engines": 3}
"""


def test_the_video_engines_are_listed_with_their_limits(library):
    library("PyNvVideoCodec.py", ANSWERS)
    video = video_engines(GPU, True)
    assert [(each.codec, each.chroma, each.bit_depth) for each in video.decoders] == [
        ("h264", "4:2:0", 8),
        ("hevc", "4:2:0", 8),
        ("hevc", "4:2:0", 10),
    ]
    assert attrs.astuple(video.decoders[0])[3:] == (4096, 4096, 48, 16, 7)
    assert [(each.codec, each.bit_depths, each.max_b_frames) for each in video.encoders] == [
        ("h264", (8,), 4),
        ("hevc", (8, 10), 4),
    ]
    assert video.encoders[0].chroma == ("4:2:0", "4:4:4")
    assert video.notes == ()


def test_a_gpu_without_an_encoder_keeps_its_decoders_and_says_what_the_library_said(library):
    library(
        "PyNvVideoCodec.py", ANSWERS + "\ndef GetEncoderCaps(gpuid=0, codec=''): raise RuntimeError('error 2\\nat x')"
    )
    video = video_engines(GPU, True)
    assert video.decoders
    assert video.notes == ("NVENC: error 2",)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import sys; print('[FATAL] CUDA driver API error'); sys.exit(1)", "[FATAL] CUDA driver API error"),
        ("import os; os._exit(0)", "ended with status 0 without an answer"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
        ("raise RuntimeError('libnvidia-encode.so.1: cannot open\\n\\n=== STEPS ===')", "must include video"),
        ("raise ImportError", "cannot be loaded: ImportError"),
        ("print('gar{bage\\n[1, 2')", "has no attribute"),
        ("def GetDecoderCaps(**_): return 'x'\ndef GetEncoderCaps(**_): return {'width_max': 'y'}", "no attribute"),
    ],
    ids=["fatal", "gone", "killed", "no-encode-library", "no-import", "garbage", "odd"],
)
def test_a_library_that_dies_or_talks_nonsense_is_one_line(library, source, says):
    library("PyNvVideoCodec.py", source)
    video = video_engines(GPU, True)
    assert (video.decoders, video.encoders) == ((), ())
    assert any(says in note for note in video.notes), video.notes
    assert not any("\n" in note for note in video.notes)


def test_a_library_that_dies_on_the_way_leaves_what_it_said_before(library):
    dying = "\ndef GetEncoderCaps(gpuid=0, codec=''): print('[FATAL] no session', flush=True); sys.exit(1)"
    library("PyNvVideoCodec.py", ANSWERS + dying)
    video = video_engines(GPU, True)
    assert len(video.decoders) == 3
    assert video.notes == ("PyNvVideoCodec: [FATAL] no session",)


def test_a_library_that_hangs_is_ended(library):
    library("PyNvVideoCodec.py", "import threading; threading.Event().wait()")
    assert video_engines(GPU, True, seconds=0.5).notes == ("PyNvVideoCodec: no answer within 0.5 s",)


def test_a_library_that_is_not_installed_is_not_asked_for():
    assert video_engines(GPU, False).notes == ("PyNvVideoCodec is not installed: pip install 'rave-trio[nvidia]'",)


def test_nothing_is_taken_from_the_folder_where_the_user_is(library, tmp_path, monkeypatch):
    library("PyNvVideoCodec.py", ANSWERS)
    elsewhere = tmp_path / "films"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise SystemExit('taken')")
    monkeypatch.chdir(elsewhere)
    assert video_engines(GPU, True).decoders


def test_the_probes_import_no_library_into_this_process(host, library):
    host(Board(), installed=["PyNvVideoCodec"])
    library("PyNvVideoCodec.py", ANSWERS)
    assert probe_nvidia().usable[0].video.decoders
    assert Path(str(getattr(sys.modules.get("PyNvVideoCodec"), "__file__", ""))) == Path()


def test_a_driver_that_does_not_answer_keeps_no_gauge_from_closing(host, monkeypatch):
    module = host(Board())
    asked, answered = threading.Event(), threading.Event()

    def hang(_handle):
        asked.set()
        answered.wait()
        raise module.NVMLError(999)

    gauge = GpuGauge(UUIDS[0])
    monkeypatch.setattr(module, "nvmlDeviceGetUtilizationRates", hang)
    monkeypatch.setattr(nvml, "CLOSE_PATIENCE", 0.01)
    reader = threading.Thread(target=gauge.read)
    reader.start()
    asked.wait()
    gauge.close()
    assert module.open == 1, "NVML is not closed under a call that is in it"
    answered.set()
    reader.join()
    assert module.open == 0, "the call that came back has closed it"
