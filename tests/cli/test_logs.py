"""One log: how much, in which form, where to; and silence where nobody asked."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys

import pytest

import rave_trio
from rave_trio.cli.logs import start_logging, stop_logging


def levels_of(text: str) -> set[str]:
    return set(re.findall(r"^time=\S+ level=(\w+) ", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("flags", "levels"),
    [
        ([], set()),
        (["-v"], {"info"}),
        (["-vv"], {"info", "debug"}),
        (["--debug"], {"info", "debug"}),
        (["-v", "--debug"], {"info", "debug"}),
        (["-vvv"], {"info", "debug", "trace"}),
        (["--trace-log"], {"info", "debug", "trace"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(len(value)),
)
def test_flags_say_how_much_is_logged(rave, clip, tmp_path, nearest_x2, flags, levels):
    result = rave("upscale", clip(), tmp_path / "out.mkv", "-m", nearest_x2, *flags)
    assert result.status == 0
    found = levels_of(result.stderr)
    assert levels - {"debug"} <= found <= levels, "there is not always something to say at debug"


def test_a_log_file_has_information_and_stderr_nothing(rave, clip, tmp_path, nearest_x2):
    log = tmp_path / "log.txt"
    result = rave("upscale", clip(), tmp_path / "out.mkv", "-m", nearest_x2, "--log-file", log)
    assert result.stderr == ""
    assert levels_of(log.read_text()) == {"info"}


def test_every_call_is_a_line_of_the_finest_log(rave, clip, tmp_path, nearest_x2):
    log = tmp_path / "log.jsonl"
    flags = ("--trace-log", "--log-format", "json", "--log-file", log)
    assert rave("upscale", clip(), tmp_path / "out.mkv", "-m", nearest_x2, *flags).status == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    calls = [line for line in lines if line["logger"] == "rave_trio.calls"]
    assert [line["frame"] for line in calls if line["message"] == "preprocess"] == list(range(8))
    assert all(line["seconds"] >= 0 for line in calls)


def test_the_figures_of_a_run_are_logged_at_its_end(rave, clip, tmp_path, nearest_x2):
    flags = ("-v", "--log-format", "json")
    result = rave("upscale", clip(), tmp_path / "out.mkv", "-m", nearest_x2, *flags)
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    (ended,) = [line for line in lines if line["message"] == "the run has ended"]
    assert (ended["frames"], ended["logger"]) == (8, "rave_trio.observe")
    assert ended["vram_peak"] > 0
    assert ended["fps"] > 0


def test_trace_and_the_finest_log_go_together(rave, clip, tmp_path, nearest_x2):
    flags = ("--trace-log", "--trace", tmp_path / "t.json")
    result = rave("upscale", clip(), tmp_path / "out.mkv", "-m", nearest_x2, *flags)
    calls = len(re.findall("logger=rave_trio.calls", result.stderr))
    spans = [
        event for event in json.loads((tmp_path / "t.json").read_text())["traceEvents"] if event.get("cat") == "busy"
    ]
    assert calls == len(spans) - 1, "publishing is no call"


@pytest.fixture
def logged(capsys):
    """What one record looks like: ``logged("json", "words", key=value)``."""

    def log(form, message, *arguments, error=None, **extra) -> str:
        start_logging(1, form, None)
        try:
            logging.getLogger("rave_trio.test").info(message, *arguments, extra=extra, exc_info=error)
        finally:
            stop_logging()
        return capsys.readouterr().err

    return log


def test_text_is_key_and_value_that_can_be_read_back(logged):
    line = logged("text", 'a "quoted" %s', "word", frame=3, path="/a b", empty="", plain="x/y:z")
    assert re.match(r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info logger=rave_trio\.test message=", line)
    values = dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line))
    assert json.loads(values["message"]) == 'a "quoted" word'
    assert (values["frame"], json.loads(values["path"]), values["empty"], values["plain"]) == (
        "3",
        "/a b",
        '""',
        "x/y:z",
    )


def test_a_line_of_text_stays_one_line(logged):
    assert logged("text", "one\ntwo\x1b[31m").count("\n") == 1
    assert "\x1b" not in logged("text", "one\ntwo\x1b[31m")


def test_json_has_the_same_fields_with_their_types(logged):
    line = json.loads(logged("json", "words", frame=3, seconds=0.5))
    assert (line["message"], line["frame"], line["seconds"], line["level"]) == ("words", 3, 0.5, "info")


def test_a_traceback_is_kept_in_either_form(logged):
    error = ValueError("odd")
    assert "ValueError: odd" in json.loads(logged("json", "failed", error=error))["traceback"]
    assert logged("text", "failed", error=error).endswith("ValueError: odd\n")


def test_a_log_that_cannot_be_written_is_a_usage_error(rave, tmp_path):
    result = rave("models", "--log-file", tmp_path / "nowhere" / "log.txt")
    assert result.status == 2
    assert "nowhere" in result.stderr


def test_a_form_that_is_not_there_is_a_usage_error(rave):
    assert rave("models", "--log-format", "xml").status == 2


def test_an_embedding_program_hears_nothing_unless_it_asks(clip, tmp_path, nearest_x2):
    script = (
        "import sys, logging, rave_trio; log = logging.getLogger('rave_trio.x'); log.warning('loud'); "
        "rave_trio.upscale_sync(sys.argv[1], sys.argv[2], model=sys.argv[3]); "
        "print('asked'); logging.basicConfig(stream=sys.stdout, format='%(message)s'); log.warning('heard')"
    )
    command = [sys.executable, "-c", script, str(clip()), str(tmp_path / "out.mkv"), str(nearest_x2)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("asked\nheard\n", "")


def test_a_command_in_a_process_leaves_the_logger_as_it_was(rave):
    logger = logging.getLogger("rave_trio")
    before = logger.handlers[:], logger.propagate, logger.level
    assert any(isinstance(handler, logging.NullHandler) for handler in logger.handlers)
    rave("models", "-vv")
    assert (logger.handlers, logger.propagate, logger.level) == before
    assert rave_trio.__version__
