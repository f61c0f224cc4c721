"""The commands' contract: stdout, stderr, JSON, progress, configuration."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import pytest

from rave_trio.inference import catalogue as catalogues
from rave_trio.inference.catalogue import catalogue


def test_upscale_prints_one_summary_line(rave, clip, tmp_path, nearest_x2):
    result = rave("upscale", clip(frames=4), tmp_path / "out.mkv", "-m", nearest_x2)
    assert result.status == 0
    assert result.stdout.count("\n") == 1
    assert "out.mkv: 4 frames, 128x96 libx264" in result.stdout
    assert result.stderr == ""


def test_upscale_takes_input_and_output_as_flags_too(rave, clip, tmp_path, nearest_x2):
    result = rave("upscale", "-o", tmp_path / "out.mkv", "-i", clip(frames=1), "-m", nearest_x2)
    assert result.status == 0
    assert (tmp_path / "out.mkv").exists()


def test_upscale_prints_exactly_one_json_object(rave, clip, tmp_path, nearest_x2):
    result = rave("upscale", clip(frames=4), tmp_path / "out.mkv", "-m", nearest_x2, "--json", "--progress", "jsonl")
    document = result.json
    assert (document["schema_version"], document["command"], document["ok"]) == (1, "upscale", True)
    assert document["report"]["frames"] == 4
    assert [stage["name"] for stage in document["report"]["metrics"]["stages"]] == [
        "decode",
        "preprocess",
        "inference",
        "encode",
    ]


def test_jsonl_progress_is_a_line_an_event_on_stderr(rave, clip, tmp_path, nearest_x2):
    result = rave("upscale", clip(frames=4), tmp_path / "out.mkv", "-m", nearest_x2, "--progress", "jsonl")
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert events[0]["event"] == "plan"
    assert events[0]["plan"]["stages"][0]["model"]["name"] == "nearest-x2"
    progress = [event for event in events if event["event"] == "progress"]
    assert progress
    assert set(progress[0]["queues"]) == {"decoded", "preprocessed", "upscaled"}


def test_the_bar_is_drawn_when_asked_for(rave, clip, tmp_path, nearest_x2):
    result = rave("upscale", clip(frames=4), tmp_path / "out.mkv", "-m", nearest_x2, "--progress", "bar")
    assert result.status == 0
    assert "fps" in result.stderr


def test_plan_says_what_would_run_and_writes_nothing(rave, bunny, tmp_path):
    result = rave("plan", bunny, tmp_path / "out.mp4", "--codec", "libx265")
    assert result.status == 0
    for said in ("320x180", "640x360", "animevideo-x2", "libx265 crf 19 preset medium", "whole frames", "fps", "MB"):
        assert said in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_plan_as_json_has_the_same_facts(rave, bunny, tmp_path):
    document = rave("plan", bunny, tmp_path / "out.mkv", "--json", "--tile", "128").json
    plan = document["plan"]
    (stage,) = plan["stages"]
    assert stage["tiles"]["tiles"] > 1
    assert stage["tiles"]["overlap"] >= 18
    assert plan["memory_bytes"] > 0
    assert plan["input"]["video"]["frames"] == 96
    assert document["estimate"]["seconds"] > 0


def test_probe_lists_the_streams(rave, bunny):
    result = rave("probe", bunny)
    assert "h264 320x180 yuv420p at 25.000 fps, about 96 frames" in result.stdout
    assert "audio aac 48000 Hz stereo eng" in result.stdout
    media = rave("probe", bunny, "--json").json["media"]
    assert [stream["codec"] for stream in media["streams"]] == ["h264", "aac"]
    assert media["cut_short"] is False


def test_models_lists_what_is_shipped_with_its_licence(rave):
    told = rave("models").stdout
    assert "animevideo-x3" in told
    assert told.count("own kernels") == len(catalogue())
    models = rave("models", "--json").json["models"]
    assert {model["licence"] for model in models} == {"BSD-3-Clause"}
    assert all(Path(model["path"]).exists() for model in models)


def test_models_says_which_our_own_kernels_compute_where_that_can_be_known(rave, monkeypatch, nearest_x2):
    shipped = catalogue()
    other = attrs.evolve(shipped["animevideo-x2"], name="nearest", path=nearest_x2)
    monkeypatch.setattr(catalogues, "catalogue", lambda: {**shipped, "nearest": other})
    found = {model["name"]: model["compact"] for model in rave("models", "--json").json["models"]}
    assert found == {**dict.fromkeys(shipped, True), "nearest": False}
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else find_spec(name))
    assert {model["compact"] for model in rave("models", "--json").json["models"]} == {None}


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """No configuration but what the test writes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def plan(rave, clip, nearest_x2, settled):
    """What ``rave-trio plan`` prints with some flags; it measures, so the network is one that takes no time."""
    how = (clip(frames=1), "out.mkv", "-m", nearest_x2, "--device", "cpu")
    return lambda *flags: rave("plan", *how, *flags)


@pytest.fixture
def crf(plan):
    return lambda *flags: plan("--json", *flags).json["plan"]["output"]["encoder_options"]["crf"]


def test_a_flag_beats_a_variable_beats_a_file_beats_the_default(crf, settled, monkeypatch):
    assert crf() == "17"
    (settled / "rave-trio.toml").write_text("[upscale]\ncrf = 20\n")
    assert crf() == "20"
    monkeypatch.setenv("RAVE_TRIO_CRF", "21")
    assert crf() == "21"
    assert crf("--crf", "22") == "22"


def test_streams_may_be_set_in_a_file_and_by_a_variable(plan, settled, monkeypatch):
    def streams(*flags):
        return plan("--json", *flags).json["plan"]["streams"]

    by_itself = streams()
    (settled / "rave-trio.toml").write_text("[upscale]\nstreams = 1\nbatch = 1\n")
    assert streams() == 1
    monkeypatch.setenv("RAVE_TRIO_STREAMS", "auto")
    assert streams() == by_itself
    assert streams("--streams", "1") == 1


def test_the_users_own_file_and_a_named_file_are_read(crf, settled, monkeypatch):
    own = settled / "config" / "rave-trio" / "config.toml"
    own.parent.mkdir(parents=True)
    own.write_text("[upscale]\ncrf = 23\n")
    assert crf() == "23"
    (settled / "mine.toml").write_text("[upscale]\ncrf = 24\n")
    assert crf("--config", "mine.toml") == "24"
    monkeypatch.setenv("RAVE_TRIO_CONFIG", "mine.toml")
    assert crf() == "24"


def test_dither_is_a_flag_a_variable_or_an_entry_and_the_plan_shows_it(plan, settled, monkeypatch):
    def planned(*flags):
        return plan("--json", *flags).json["plan"]["output"]["dither"]

    assert planned() is False
    assert planned("--dither") is True
    assert "yuv420p, dithered" in plan("--dither").stdout
    (settled / "rave-trio.toml").write_text("[upscale]\ndither = true\n")
    assert planned() is True
    monkeypatch.setenv("RAVE_TRIO_DITHER", "false")
    assert planned() is False


@pytest.mark.parametrize("text", ["[upscale]\nqualty = 3\n", "[upscale\n", "[upscale]\ncrf = 'low'\n"])
def test_a_wrong_configuration_is_a_usage_error_that_names_it(rave, bunny, settled, text):
    (settled / "rave-trio.toml").write_text(text)
    result = rave("upscale", bunny, "out.mkv")
    assert result.status == 2
    assert result.stderr.count("\n") == 1
    assert "rave-trio.toml" in result.stderr or "qualty" in result.stderr or "low" in result.stderr
    assert not (settled / "out.mkv").exists()


def test_json_can_be_asked_for_by_variable(rave, settled, monkeypatch):
    monkeypatch.setenv("RAVE_TRIO_JSON", "1")
    assert rave("graph", "show").json["ok"] is True
    assert rave("probe", "nothing.mkv").json["error"]["kind"] == "input_not_found"


def test_logs_go_to_stderr_or_to_a_file(rave, clip, tmp_path, nearest_x2):
    source = clip(frames=1)
    loud = rave("upscale", source, tmp_path / "a.mkv", "-m", nearest_x2, "-v")
    assert "rave_trio" in loud.stderr
    rave("upscale", source, tmp_path / "b.mkv", "-m", nearest_x2, "--log-file", tmp_path / "log.txt")
    assert "nearest-x2" in (tmp_path / "log.txt").read_text()


def test_help_lists_commands_and_exit_statuses(rave):
    result = rave("--help")
    assert result.status == 0
    for word in ("upscale", "plan", "probe", "models", "130", "RAVE_TRIO_CRF"):
        assert word in result.stdout


def test_version_is_the_packages(rave):
    import rave_trio

    assert rave_trio.__version__ in rave("--version").stdout


def test_help_and_usage_errors_load_no_heavy_library():
    script = (
        "import sys; from rave_trio.cli import main; main(['--help']); main(['upscale', '--help']); main(['upscal']); "
        "heavy = {'openvino', 'av', 'numpy', 'trio', 'cupy', 'torch', 'tensorrt'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_declares_the_base_dependencies_and_no_more():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    names = {requirement.split(">")[0] for requirement in project["dependencies"]}
    assert names == {"trio", "attrs", "cyclopts", "av", "numpy", "openvino", "rich"}
