"""How a run is doing, at any moment of it and after."""

from __future__ import annotations

import json
import time

import pytest
import trio

import rave_trio
from rave_trio.observe import watch as module


async def snapshots(
    source, target, model, **options
) -> tuple[list[rave_trio.HealthSnapshot], rave_trio.PipelineReport]:
    found: list[rave_trio.HealthSnapshot] = []
    report = await rave_trio.upscale(
        source, target, model=str(model), on_progress=lambda progress: found.append(progress.health()), **options
    )
    return found, report


async def test_health_grows_with_the_run_and_ends_with_its_report(bunny, tmp_path, nearest_x2):
    found, report = await snapshots(bunny, tmp_path / "out.mkv", nearest_x2, vram_limit="1GiB")
    first, last = found[0], found[-1]
    assert (first.phase, first.frames, first.total, first.steady_state) == ("upscale", 0, 96, False)
    assert (last.phase, last.frames) == ("publish", 96)
    assert [snapshot.frames for snapshot in found] == sorted(snapshot.frames for snapshot in found)
    assert last.fps == pytest.approx(report.fps, rel=0.01)
    assert (last.vram_peak, last.vram_limit) == (report.ledger.peak, 1 << 30)
    assert max(snapshot.vram_current for snapshot in found) <= last.vram_peak
    assert sum(last.vram_by_owner.values()) == last.vram_current
    assert last.pool.hits + last.pool.misses > 96
    assert last.queue_depths == {"decoded": 0, "preprocessed": 0, "upscaled": 0}
    assert last.host_memory is not None
    assert last.host_memory > 50_000_000, "OpenVINO and libav alone take more"
    assert last.gpu is None


async def test_a_handle_answers_at_any_later_moment_from_any_thread(long_clip, tmp_path, nearest_x2):
    stop = rave_trio.Stop()
    asked: list[rave_trio.HealthSnapshot] = []

    def watch(progress: rave_trio.Progress) -> None:
        if progress.done and not asked:
            asked.append(progress.health())
            nursery.start_soon(ask_again, progress)

    async def ask_again(progress: rave_trio.Progress) -> None:
        while (later := await trio.to_thread.run_sync(progress.health)).frames <= asked[0].frames:
            await trio.lowlevel.checkpoint()
        asked.append(later)
        stop.request()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            with pytest.raises(rave_trio.Stopped):
                await rave_trio.upscale(
                    long_clip, tmp_path / "out.mkv", model=str(nearest_x2), on_progress=watch, stop=stop
                )
    before, after = asked
    assert before.elapsed < after.elapsed
    assert all(stage.busy > 0 for stage in after.metrics.stages)


async def test_health_turns_into_json(clip, tmp_path, nearest_x2):
    found, _ = await snapshots(clip(), tmp_path / "out.mkv", nearest_x2)
    described = json.loads(json.dumps(found[-1].as_dict()))
    assert described["frames"] == 8
    assert set(described["stages"]) == {"decode", "preprocess", "inference", "encode"}
    assert set(described["queue_depths"]) == {"decoded", "preprocessed", "upscaled"}
    assert 0 <= described["pool"]["hit_rate"] <= 1


async def test_the_state_is_steady_once_the_pool_allocates_nothing_for_a_while(
    long_clip, tmp_path, nearest_x2, monkeypatch
):
    monkeypatch.setattr(module, "STEADY_SECONDS", 0.3)
    stop = rave_trio.Stop()
    seen: list[bool] = []
    deadline = time.monotonic() + 60

    def watch(progress: rave_trio.Progress) -> None:
        seen.append(progress.health().steady_state)
        if seen[-1] or time.monotonic() > deadline:
            stop.request()

    with pytest.raises(rave_trio.Stopped):
        await rave_trio.upscale(long_clip, tmp_path / "out.mkv", model=str(nearest_x2), on_progress=watch, stop=stop)
    assert seen[0] is False
    assert any(seen)


async def test_the_series_of_a_report_fit_its_totals(bunny, tmp_path, nearest_x2):
    report = await rave_trio.upscale(bunny, tmp_path / "out.mkv", model=str(nearest_x2))
    series = report.series
    assert len({len(column) for column in series.values()}) == 1
    assert series["frames_encode"][-1] == 96
    assert series["seconds"] == sorted(series["seconds"])
    for stage in report.metrics.stages:
        assert series[f"busy_{stage.name}"][-1] == pytest.approx(stage.busy, abs=1e-3)
    for channel in report.metrics.channels:
        assert max(series[f"queue_{channel.name}"]) <= channel.peak
    assert max(series["vram"]) <= report.ledger.peak
    assert "gpu_memory" not in series
