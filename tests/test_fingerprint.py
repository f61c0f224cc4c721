"""A fingerprint is the same for the same and different for the different, and says nothing about anybody."""

from __future__ import annotations

import getpass
import json
import platform
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import rave_trio
from rave_trio import fingerprint as module
from rave_trio.devices.nvidia import Gpu, Nvidia
from rave_trio.fingerprint import fingerprint_of, plan_hash
from rave_trio.options import UpscaleOptions


def planned(source: Path, target: Path, **options):
    return rave_trio.make_plan(UpscaleOptions(source, target, **options))[0]


def test_it_names_the_versions_that_are_there(rave):
    found = rave("fingerprint", "--json").json["fingerprint"]
    assert found["rave_trio"] == rave_trio.__version__
    assert found["python"].endswith(platform.python_version())
    assert {"trio", "av", "numpy", "openvino"} <= found["libraries"].keys()
    assert found["ffmpeg"]["libavcodec"]
    assert found["cpu"]["cores"] >= 1
    assert (found["model_sha256"], found["plan_hash"]) == (None, None)


def test_people_are_told_the_same(rave):
    text, found = rave("fingerprint").stdout, rave("fingerprint", "--json").json["fingerprint"]
    for word in (found["platform"], found["cpu"]["name"], found["libraries"]["openvino"], found["ffmpeg"]["libavutil"]):
        assert word in text


def test_nothing_personal_is_in_it(clip, tmp_path, nearest_x2, monkeypatch):
    monkeypatch.setenv("LOGNAME", "wilhelmina")
    monkeypatch.setenv("USER", "wilhelmina")
    home = tmp_path / "home-of-wilhelmina"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    model = home / "secret-model.onnx"
    shutil.copy(nearest_x2, model)
    source = clip("home-of-wilhelmina/birthday.mkv", title="Our birthday", audio=True)
    report = rave_trio.upscale_sync(source, home / "result.mkv", model=str(model))
    assert "birthday" in json.dumps(report.as_dict(), default=str), "the report itself names the files"
    gpu = Gpu(0, "NVIDIA H200", uuid="GPU-00000000-1111", pci_bus_id="0000:18:00.0", memory_total=1 << 37)
    with_gpu = attrs.evolve(report.plan, gpu=gpu)
    for found in (report.fingerprint, fingerprint_of(with_gpu)):
        text = json.dumps(found.as_dict())
        for personal in (
            "wilhelmina",
            "birthday",
            "secret",
            "result",
            "Commentary",
            str(tmp_path),
            socket.gethostname(),
        ):
            assert personal.lower() not in text.lower()
        assert "0000" not in text.replace(found.model_sha256, "").replace(found.plan_hash, ""), "no GPU's number"
        assert not re.search(r'"[^"]*/[^"]*"', text), "no path"
    assert getpass.getuser() == "wilhelmina"


def test_every_gpu_that_can_be_used_is_named(monkeypatch):
    gpus = (Gpu(0, "NVIDIA A", memory_total=1 << 34, compute_capability=(9, 0)), Gpu(1, "NVIDIA B", problem="lost"))
    monkeypatch.setattr(module, "probe_nvidia", lambda video: Nvidia("580.82.07", "13.0", gpus))
    found = module.fingerprint()
    assert [gpu.name for gpu in found.gpus] == ["NVIDIA A"]
    assert (found.driver, found.cuda) == ("580.82.07", "13.0")


def test_the_same_plan_has_the_same_hash_wherever_its_files_lie(bunny, tmp_path):
    elsewhere = tmp_path / "other.mkv"
    shutil.copy(bunny, elsewhere)
    first = planned(bunny, tmp_path / "a.mkv")
    second = planned(
        elsewhere, tmp_path / "b.mkv", trace=tmp_path / "t.json", report=tmp_path / "r.html", overwrite=True
    )
    assert plan_hash(first) == plan_hash(second)
    assert re.fullmatch("[0-9a-f]{64}", plan_hash(first))


def test_the_hash_is_the_same_in_another_process(bunny, tmp_path):
    script = (
        "import sys; from pathlib import Path; from rave_trio import make_plan, UpscaleOptions; "
        "from rave_trio.fingerprint import plan_hash; "
        "print(plan_hash(make_plan(UpscaleOptions(sys.argv[1], sys.argv[2]))[0]))"
    )
    command = [sys.executable, "-c", script, str(bunny), str(tmp_path / "out.mkv")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert told == plan_hash(planned(bunny, tmp_path / "out.mkv"))


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 3},
        {"crf": 20},
        {"precision": "fp32"},
        {"tile": 128},
        {"codec": "ffv1"},
        {"strict": True},
        {"dither": True},
    ],
    ids=str,
)
def test_another_plan_has_another_hash(bunny, tmp_path, options):
    base = {} if "precision" not in options else {"precision": "bf16"}
    assert plan_hash(planned(bunny, tmp_path / "a.mkv", **base)) != plan_hash(
        planned(bunny, tmp_path / "a.mkv", **options)
    )
