"""Traces are whole however a run ends, small in memory, and cost a run nothing but the trace."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

import rave_trio
from rave_trio.observe import trace as module
from rave_trio.observe.trace import ROWS, TraceFile

STAGES = ("decode", "preprocess", "inference", "encode")


def events_of(path: Path) -> list[dict]:
    """The events, checked for what viewers need."""
    events = json.loads(path.read_text())["traceEvents"]
    for event in events:
        assert {"M": {"tid", "args"}, "X": {"tid", "ts", "dur"}, "C": {"ts", "args"}}[event["ph"]] <= event.keys()
        assert event["pid"] == 1
    return events


async def test_a_trace_has_a_row_a_stage_and_counters(bunny, tmp_path, nearest_x2):
    path = tmp_path / "trace.json"
    report = await rave_trio.upscale(bunny, tmp_path / "out.mkv", model=str(nearest_x2), trace=path)

    events = events_of(path)
    rows = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert tuple(rows.values()) == ROWS
    spans = [event for event in events if event["ph"] == "X" and event["cat"] == "busy"]
    frames = {
        stage: {span["args"]["frame"] for span in spans if span["name"] == stage and "args" in span} for stage in STAGES
    }
    assert frames["encode"] == frames["preprocess"] == set(range(96))
    for stage in report.metrics.stages:
        busy = sum(span["dur"] for span in spans if rows[span["tid"]] == stage.name)
        assert busy == pytest.approx(1e6 * stage.busy, rel=1e-3)
    assert [span["name"] for span in spans if span["name"] == "publish"] == ["publish"]
    counted = Counter(event["name"] for event in events if event["ph"] == "C")
    assert {"queue decoded", "queue preprocessed", "queue upscaled", "memory of frames and network"} <= counted.keys()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mkv", "trace.json"]


async def test_spans_of_a_stage_follow_one_another(clip, tmp_path, nearest_x2):
    path = tmp_path / "trace.json"
    await rave_trio.upscale(clip(), tmp_path / "out.mkv", model=str(nearest_x2), trace=path)
    for row, _ in enumerate(STAGES, 1):
        spans = [event for event in events_of(path) if event["ph"] == "X" and event["tid"] == row]
        assert spans
        for before, after in itertools.pairwise(spans):
            assert before["ts"] + before["dur"] <= after["ts"] + 0.2, "tenths of a microsecond are rounded"


@pytest.mark.parametrize("requests", [1, 2])
async def test_a_stopped_run_leaves_a_whole_trace(long_clip, tmp_path, requests):
    stop = rave_trio.Stop()

    def watch(progress: rave_trio.Progress) -> None:
        if progress.done and not stop.requested:
            for _ in range(requests):
                stop.request()

    with pytest.raises(rave_trio.Stopped):
        await rave_trio.upscale(
            long_clip, tmp_path / "out.mkv", on_progress=watch, stop=stop, trace=tmp_path / "trace.json"
        )
    assert any(event["name"] == "encode" for event in events_of(tmp_path / "trace.json"))
    assert not any(path.suffix == ".tmp" for path in tmp_path.iterdir())


async def test_a_failed_run_leaves_a_whole_trace(clip, tmp_path, nearest_x2):
    whole = clip(frames=60, options={"g": "5"}).read_bytes()
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(whole[: 2 * len(whole) // 3])
    with pytest.raises(rave_trio.RaveError):
        await rave_trio.upscale(broken, tmp_path / "out.mkv", model=str(nearest_x2), trace=tmp_path / "trace.json")
    assert any(event["name"] == "decode" for event in events_of(tmp_path / "trace.json"))


def test_nothing_is_there_before_the_trace_is_whole(tmp_path):
    trace = TraceFile(tmp_path / "trace.json")
    trace.span("decode", "busy", 0.0, 1.0, 0)
    trace.flush()
    assert not (tmp_path / "trace.json").exists()
    trace.close()
    trace.close()
    assert [p.name for p in tmp_path.iterdir()] == ["trace.json"]


def test_a_discarded_trace_leaves_nothing(tmp_path):
    trace = TraceFile(tmp_path / "trace.json")
    trace.discard()
    trace.close()
    assert not list(tmp_path.iterdir())


def test_short_waits_and_unchanged_depths_are_left_out(tmp_path):
    trace = TraceFile(tmp_path / "trace.json")
    trace.span("decode", "waiting_for_output", 0.0, 1e-6, 0)
    trace.span("decode", "waiting_for_output", 0.0, 1e-3, 0)
    for depth in (1, 1, 1, 2):
        trace.depth("decoded", depth)
    trace.close()
    seen = Counter(event["name"] for event in events_of(tmp_path / "trace.json") if event["ph"] != "M")
    assert seen == {"waiting for output": 1, "queue decoded": 2}


def test_what_a_slow_disk_does_not_take_is_counted_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 10)
    trace = TraceFile(tmp_path / "trace.json")
    for frame in range(25):
        trace.span("decode", "busy", frame, frame + 1, frame)
    trace.close()
    assert sum(event["ph"] == "X" for event in events_of(tmp_path / "trace.json")) == 10
    assert trace.notes == ["the trace leaves out 15 events, which the disk was too slow for"]


def test_a_full_disk_ends_the_trace_and_is_told_once(tmp_path):
    trace = TraceFile(tmp_path / "trace.json")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        assert trace._new is not None
        trace._new.file.close()
        trace._new.file = full
        trace.span("decode", "busy", 0.0, 1.0, 0)
        trace.flush()
        trace.span("decode", "busy", 1.0, 2.0, 1)
        trace.flush()
        trace.close()
    (note,) = trace.notes
    assert "trace.json could not be written: No space left on device" in note
    assert not list(tmp_path.iterdir())


async def test_a_trace_that_cannot_get_its_name_costs_the_run_nothing(clip, tmp_path, nearest_x2):
    (tmp_path / "traces").mkdir()

    def watch(progress: rave_trio.Progress) -> None:
        if progress.phase == "publish" and (tmp_path / "traces").exists():
            for path in (tmp_path / "traces").iterdir():
                path.unlink()
            (tmp_path / "traces").rmdir()

    report = await rave_trio.upscale(
        clip(), tmp_path / "out.mkv", model=str(nearest_x2), trace=tmp_path / "traces" / "t.json", on_progress=watch
    )
    assert any("t.json could not be written" in note for note in report.notes)
    assert (tmp_path / "out.mkv").exists()
