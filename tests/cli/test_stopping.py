"""Ctrl+C once keeps what is done; twice ends at once; a cancelled scope does what one Ctrl+C does."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys

import av
import pytest
import trio

import rave_trio
from rave_trio import delivery


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_leaves_a_playable_partial_file(long_clip, tmp_path, name, start, wait_for_frames):
    running = start(long_clip, tmp_path / "out.mkv")
    wait_for_frames(running)
    running.send_signal(name)
    stdout, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    error = json.loads(stdout)["error"]
    assert error["kind"] == "stopped"
    assert "out.partial.mkv" in error["message"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.partial.mkv"]
    with av.open(tmp_path / "out.partial.mkv") as partial:
        pictures = list(partial.decode(video=0))
        assert 0 < len(pictures) < 3000
        assert [f.pts for f in pictures] == [40 * i for i in range(len(pictures))]
        assert f"the first {len(pictures)} frames" in error["message"]
    with av.open(tmp_path / "out.partial.mkv") as partial:
        end = max(p.pts for p in partial.demux(audio=0) if p.pts is not None)
        assert abs(end - 40 * len(pictures)) <= 43, "the sound ends where the picture does"


def test_a_run_under_nohup_outlives_its_terminal(bunny, tmp_path, nearest_x2, start, wait_for_frames):
    ignoring = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    running = start(bunny, tmp_path / "out.mkv", "-m", nearest_x2, before=ignoring)
    wait_for_frames(running, "plan")
    running.send_signal(signal.SIGHUP)
    stdout, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert json.loads(stdout)["report"]["frames"] == 96


@pytest.mark.parametrize("interruptible", [True, False])
def test_a_command_that_is_told_to_end_takes_its_own_folder_away(tmp_path, nearest_x2, interruptible):
    """Also where it was started in the background of a script, which has Ctrl+C ignored."""
    rounds = ["--frames", "2", "--input-size", "32x32", "--repeat", "1000000"]
    running = subprocess.Popen(
        [sys.executable, "-m", "rave_trio", "benchmark", *rounds, "-m", nearest_x2, "-v", "--skip-encode"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        preexec_fn=None if interruptible else functools.partial(signal.signal, signal.SIGINT, signal.SIG_IGN),
    )
    assert any("round 1:" in line for line in running.stderr)
    assert [p.name.startswith("rave-trio-") for p in tmp_path.iterdir()] == [True]
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=60)
    assert (running.returncode, said.splitlines()[-1].partition(" (")[0]) == (130, "rave-trio: stopped")
    assert list(tmp_path.iterdir()) == []


def test_a_second_signal_ends_at_once_and_leaves_nothing(bunny, tmp_path, start, wait_for_frames):
    running = start(bunny, tmp_path / "out.mkv", "--preset", "placebo", "--scale", "4")
    wait_for_frames(running, "plan")
    running.send_signal(signal.SIGINT)
    wait_for_frames(running, "stopping")
    running.send_signal(signal.SIGINT)
    stdout, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert json.loads(stdout)["ok"] is False
    assert not (tmp_path / "out.mkv").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".parts")] == []


def test_a_partial_file_takes_the_containers_own_extension(long_clip, tmp_path, start, wait_for_frames):
    running = start(long_clip, tmp_path / "out.mp4")
    wait_for_frames(running)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    with av.open(tmp_path / "out.partial.mp4") as partial:
        assert partial.streams.video[0].frames > 0


async def test_cancelling_the_scope_around_it_keeps_what_is_done(long_clip, tmp_path):
    with trio.CancelScope() as scope:

        def watch(progress: rave_trio.Progress) -> None:
            if progress.done:
                scope.cancel()

        await rave_trio.upscale(long_clip, tmp_path / "out.mkv", on_progress=watch)
    assert scope.cancelled_caught
    assert not (tmp_path / "out.mkv").exists()
    with av.open(tmp_path / "out.partial.mkv") as partial:
        assert sum(1 for _ in partial.decode(video=0)) > 0


async def test_a_stop_requested_by_the_program_raises_stopped(long_clip, tmp_path):
    stop = rave_trio.Stop()

    def watch(progress: rave_trio.Progress) -> None:
        if progress.done and not stop.requested:
            stop.request()

    with pytest.raises(rave_trio.Stopped, match=r"out\.partial\.mkv"):
        await rave_trio.upscale(long_clip, tmp_path / "out.mkv", on_progress=watch, stop=stop)


async def test_a_stop_before_the_first_frame_leaves_nothing(clip, tmp_path):
    stop = rave_trio.Stop()
    stop.request()
    with pytest.raises(rave_trio.Stopped, match="nothing was finished"):
        await rave_trio.upscale(clip(), tmp_path / "out.mkv", stop=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


async def test_two_requests_end_at_once_and_leave_nothing(long_clip, tmp_path):
    stop = rave_trio.Stop()

    def watch(progress: rave_trio.Progress) -> None:
        if progress.done:
            stop.request()
            stop.request()

    with pytest.raises(rave_trio.Stopped, match="at once"):
        await rave_trio.upscale(long_clip, tmp_path / "out.mkv", on_progress=watch, stop=stop)
    assert list(tmp_path.iterdir()) == []


async def test_a_stop_after_the_last_frame_was_read_loses_nothing(clip, tmp_path, nearest_x2, monkeypatch):
    """All frames are done, so the result is complete and is published as such."""
    stop = rave_trio.Stop()
    genuine = delivery.publish

    def publish(*arguments, **options):
        trio.from_thread.run_sync(stop.request)
        return genuine(*arguments, **options)

    monkeypatch.setattr(delivery, "publish", publish)
    report = await rave_trio.upscale(clip(frames=6), tmp_path / "out.mkv", model=str(nearest_x2), stop=stop)
    assert stop.requested
    assert report.frames == 6
    assert (tmp_path / "out.mkv").exists()


async def test_two_stops_while_publishing_leave_nothing(clip, tmp_path, nearest_x2, monkeypatch):
    stop = rave_trio.Stop()
    genuine = delivery.publish

    def publish(*arguments, **options):
        trio.from_thread.run_sync(stop.request)
        trio.from_thread.run_sync(stop.request)
        return genuine(*arguments, **options)

    monkeypatch.setattr(delivery, "publish", publish)
    with pytest.raises(rave_trio.Stopped, match="at once"):
        await rave_trio.upscale(clip(frames=6), tmp_path / "out.mkv", model=str(nearest_x2), stop=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


async def test_the_grace_period_begins_anew_with_every_frame(mock_clock):
    """However slow the machine, a stop is gentle while frames still come."""
    stop = rave_trio.Stop(grace=10)
    with stop._scope as scope:
        stop.request()
        for _ in range(5):
            mock_clock.jump(9)
            await trio.lowlevel.checkpoint()
            stop.progressed()
        assert not scope.cancel_called
        mock_clock.jump(11)
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught


def test_a_command_that_leaves_a_thread_behind_ends_with_its_status_and_without_the_interpreters_end(bunny, tmp_path):
    program = "import atexit, sys; from rave_trio import cli; atexit.register(print, 'the end'); sys.exit(cli.main())"
    command = [sys.executable, "-c", program, "upscale", str(bunny), str(tmp_path / "out.mkv"), "--json"]
    found = subprocess.run(
        [*command, "--stall-timeout", "0.001", "-d", "cpu"], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 52
    assert json.loads(found.stdout)["error"]["kind"] == "stalled"
    assert list(tmp_path.iterdir()) == []
