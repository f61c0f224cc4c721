"""The flags by which an operator watches a run: refused before it begins, or whole when it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import urllib.request
from pathlib import Path

import pytest


def test_trace_and_report_are_made_beside_the_result(rave, clip, tmp_path, nearest_x2):
    made = tmp_path / "made"
    made.mkdir()
    flags = ("--trace", made / "t.json", "--report", made / "r.html")
    result = rave("upscale", clip(), made / "out.mkv", "-m", nearest_x2, *flags)
    assert (result.status, result.stderr) == (0, "")
    assert sorted(p.name for p in made.iterdir()) == ["out.mkv", "r.html", "t.json"]
    assert json.loads((made / "t.json").read_text())["traceEvents"]


def test_flags_may_stand_in_a_file_or_in_variables(rave, clip, tmp_path, nearest_x2, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rave-trio.toml").write_text('[upscale]\ntrace = "t.json"\nmetrics_port = 0\nlog_format = "json"\n')
    monkeypatch.setenv("RAVE_TRIO_REPORT", "r.json")
    result = rave("upscale", clip(), "out.mkv", "-m", nearest_x2, "-v")
    assert result.status == 0
    assert json.loads(Path("t.json").read_text())
    assert json.loads(Path("r.json").read_text())["frames"] == 8
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert any("serving metrics at http://127.0.0.1:" in line["message"] for line in lines)


@pytest.mark.parametrize("flag", ["--trace", "--report"])
@pytest.mark.parametrize("command", ["upscale", "plan"])
@pytest.mark.parametrize(
    ("place", "status", "said"),
    [
        ("nowhere/x.json", 21, "there is no folder"),
        ("folder.json", 22, "is a folder"),
        ("there.json", 20, "exists already"),
        ("in.json", 29, "names the input itself"),
        ("out.json", 2, "names the output itself"),
        ("x" * 300 + ".json", 22, "cannot be written"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_the_first_frame(
    rave, clip, tmp_path, nearest_x2, command, flag, place, status, said
):
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "there.json").write_text("precious")
    source, target = clip(), tmp_path / "out.mkv"
    if "itself" in said:
        (tmp_path / place).symlink_to(source if "input" in said else target)
    result = rave(command, source, target, "-m", nearest_x2, flag, tmp_path / place)
    assert result.status == status
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not target.exists()
    assert (tmp_path / "there.json").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_refused(rave, clip, tmp_path, nearest_x2):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    result = rave("upscale", clip(), tmp_path / "out.mkv", "-m", nearest_x2, "--trace", locked / "t.json")
    assert result.status == 22


def test_a_trace_where_no_file_can_be_made_is_refused_before_the_first_frame(rave, clip, tmp_path, nearest_x2):
    result = rave("upscale", clip(), tmp_path / "out.mkv", "-m", nearest_x2, "--trace", "/proc/t.json")
    assert result.status == 22
    assert "/proc" in result.stderr
    assert not (tmp_path / "out.mkv").exists()


def test_trace_and_report_must_be_two_files(rave, clip, tmp_path, nearest_x2):
    both = ("--trace", tmp_path / "x.json", "--report", tmp_path / "x.json")
    result = rave("upscale", clip(), tmp_path / "out.mkv", "-m", nearest_x2, *both)
    assert result.status == 2
    assert "names the trace itself" in result.stderr


def test_a_report_of_another_kind_is_a_usage_error(rave, clip, tmp_path, nearest_x2):
    result = rave("upscale", clip(), tmp_path / "out.mkv", "-m", nearest_x2, "--report", tmp_path / "r.pdf")
    assert result.status == 2
    assert ".html or .json" in result.stderr


def test_overwrite_replaces_trace_and_report_too(rave, clip, tmp_path, nearest_x2):
    flags = ("--trace", tmp_path / "t.json", "--report", tmp_path / "r.json", "-m", nearest_x2)
    source = clip()
    for frames in (8, 3):
        assert rave("upscale", source, tmp_path / "out.mkv", *flags, "-y").status == 0
        assert json.loads((tmp_path / "r.json").read_text())["frames"] == frames
        source = clip("short.mkv", frames=3)


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_no_port_is_a_usage_error(rave, clip, tmp_path, nearest_x2, port):
    result = rave("upscale", clip(), tmp_path / "out.mkv", "-m", nearest_x2, f"--metrics-port={port}")
    assert result.status == 2
    assert result.stderr.count("\n") == 1


def test_a_port_in_use_is_one_clear_error_with_its_own_status(rave, clip, tmp_path, nearest_x2):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = rave("upscale", clip(), tmp_path / "out.mkv", "-m", nearest_x2, "--metrics-port", port, "--json")
    assert result.status == 60
    assert result.json["error"]["kind"] == "metrics_port_unavailable"
    assert f"127.0.0.1:{port}" in result.json["error"]["message"]
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


def test_a_stopped_command_was_served_and_leaves_a_whole_trace(long_clip, tmp_path, start, wait_for_frames):
    log, trace = tmp_path / "log.txt", tmp_path / "t.json"
    running = start(
        long_clip,
        tmp_path / "out.mkv",
        "--metrics-port",
        0,
        "--trace",
        trace,
        "--log-file",
        log,
        "--report",
        tmp_path / "r.html",
    )
    wait_for_frames(running)
    url = re.search(r"http://127\.0\.0\.1:\d+/metrics", log.read_text())[0]
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert b'rave_trio_frames_total{stage="encode"}' in answer.read()
    assert not trace.exists()
    running.send_signal(signal.SIGINT)
    stdout, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "with --overwrite for the trace" in json.loads(stdout)["error"]["remedy"]
    assert json.loads(trace.read_text())["traceEvents"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.txt", "out.partial.mkv", "t.json"]
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=10)
