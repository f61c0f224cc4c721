"""Stdout and stderr may be closed, broken or full; a run is worth more than its words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RAVE = f"{sys.executable} -m rave_trio"


def shell(script: str, **names: object) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which $RAVE is the command; its status is that of the command, not of what reads it."""
    found = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    return subprocess.run(
        ["bash", "-c", script.replace("$RAVE", RAVE)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **found, **{k: str(v) for k, v in names.items()}},
        check=False,
    )


@pytest.mark.parametrize("flags", ["", "--json"])
def test_a_reader_that_goes_away_costs_nothing(bunny, flags):
    done = shell(f'$RAVE probe "$IN" {flags} | true; exit ${{PIPESTATUS[0]}}', IN=bunny)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("flags", ["", "--json"])
def test_a_full_disk_behind_stdout_is_said_in_one_line(bunny, flags):
    done = shell(f'$RAVE probe "$IN" {flags} > /dev/full', IN=bunny)
    assert done.returncode == 22
    assert done.stderr.count("\n") <= 1
    assert "Traceback" not in done.stderr


def test_a_name_that_stdout_cannot_write_is_shown_with_backslashes(clip, tmp_path):
    source = clip(os.fsdecode(b"\xff.mkv"), frames=1)
    done = shell('$RAVE probe "$FOLDER"/*.mkv', FOLDER=source.parent, PYTHONIOENCODING="utf-8:strict")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\udcff.mkv" in done.stdout


def test_a_closed_stderr_leaves_stdout_alone(clip, tmp_path, nearest_x2):
    done = shell(
        '$RAVE upscale "$IN" "$OUT" -m "$MODEL" --json --progress jsonl 2>&-',
        IN=clip(frames=3),
        OUT=tmp_path / "out.mkv",
        MODEL=nearest_x2,
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["ok"] is True


def test_a_closed_stdout_does_not_stop_a_run(clip, tmp_path, nearest_x2):
    done = shell(
        '$RAVE upscale "$IN" "$OUT" -m "$MODEL" >&-', IN=clip(frames=3), OUT=tmp_path / "out.mkv", MODEL=nearest_x2
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.mkv").exists()


def test_a_progress_that_nobody_reads_does_not_stop_a_run(clip, tmp_path, nearest_x2):
    done = shell(
        '$RAVE upscale "$IN" "$OUT" -m "$MODEL" --progress jsonl 2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}',
        IN=clip(frames=30),
        OUT=tmp_path / "out.mkv",
        MODEL=nearest_x2,
    )
    assert done.returncode == 0
    assert (tmp_path / "out.mkv").exists()


def test_a_log_that_cannot_be_written_does_not_stop_a_run(clip, tmp_path, nearest_x2):
    done = shell(
        '$RAVE upscale "$IN" "$OUT" -m "$MODEL" --log-file /dev/full',
        IN=clip(frames=3),
        OUT=tmp_path / "out.mkv",
        MODEL=nearest_x2,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_last_progress_event_says_that_all_is_done(rave, clip, tmp_path, nearest_x2):
    result = rave("upscale", clip(frames=5), tmp_path / "out.mkv", "-m", nearest_x2, "--progress", "jsonl")
    last = json.loads(result.stderr.splitlines()[-1])
    assert (last["event"], last["done"]) == ("progress", 5)


def test_a_configuration_for_upscale_serves_plan_too(rave, clip, tmp_path, nearest_x2):
    config = tmp_path / "mine.toml"
    config.write_text('[upscale]\nprogress = "off"\ncrf = 21\n')
    result = rave("plan", clip(frames=1), tmp_path / "out.mkv", "-m", nearest_x2, "--config", config, "--json")
    assert result.json["plan"]["output"]["encoder_options"]["crf"] == "21"


def test_an_option_outside_the_table_is_refused(rave, bunny, tmp_path):
    config = tmp_path / "mine.toml"
    config.write_text("crf = 21\n")
    result = rave("upscale", bunny, tmp_path / "out.mkv", "--config", config)
    assert result.status == 2
    assert "crf at its top level" in result.stderr
    assert not Path(tmp_path / "out.mkv").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("upscale = 3\n", "upscale is no table"),
        ("[[upscale]]\ncrf = 3\n", "upscale is no table"),
        ("[upscale.graph]\ncrf = 3\n", "graph is a table"),
        ('[upscale]\nprofile = ["fast"]\n', "there is no profile"),
    ],
)
def test_a_file_of_another_shape_is_a_usage_error(rave, bunny, tmp_path, text, said):
    config = tmp_path / "mine.toml"
    config.write_text(text)
    result = rave("upscale", bunny, tmp_path / "out.mkv", "--config", config)
    assert result.status == 2
    assert said in result.stderr
    assert not Path(tmp_path / "out.mkv").exists()
