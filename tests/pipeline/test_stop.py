"""A first request drains and flushes, within a grace period; a second one ends the run at once."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import trio
import trio.testing

from rave_trio.errors import RaveError
from rave_trio.pipeline import PipelineConfig, Stop, run_stoppable

HOLDS = [
    ("decoder", "read 3"),
    ("to_tensor", "convert 3"),
    ("backend", "submit 3"),
    ("backend", "collect 3"),
    ("to_surface", "convert 3"),
    ("encoder", "write 3"),
]


def frames_read(rig):
    """Frames that the decoder has given out."""
    return min(rig.decoder.calls["read"], rig.decoder.total)


def calls_but_close(rig):
    return sum((part.calls for part in rig.parts), Counter()).total() - rig.backend.calls["close"]


@pytest.mark.parametrize(("part", "call"), HOLDS)
@pytest.mark.parametrize("depth", [1, 3])
async def test_one_request_ends_reading_and_encodes_every_frame_that_was_read(rig, depth, part, call):
    rig.decoder.total = 1000
    rig.backend.depth = depth
    stop = Stop()
    gate = getattr(rig, part).hold(call)

    async with rig.running(stop=stop) as run:
        await gate.reached()
        await rig.settled()
        read = frames_read(rig)
        stop.request()
        gate.open()

    assert stop.requested
    assert run.error is None
    assert rig.encoder.finished
    assert rig.encoder.indices == list(range(frames_read(rig)))
    assert frames_read(rig) == read
    assert run.result.frames_decoded == run.result.frames_encoded == read
    run.result.validate()


@pytest.mark.parametrize(("part", "call"), HOLDS)
async def test_two_requests_end_the_run_when_the_call_under_way_returns(rig, part, call):
    stop = Stop()
    gate = getattr(rig, part).hold(call)

    async with rig.running(stop=stop) as run:
        await gate.reached()
        await rig.settled()
        stop.request()
        await rig.settled()
        stop.request()
        await rig.settled()
        assert not run.ended
        calls = calls_but_close(rig)
        gate.open()

    assert (run.result, run.error) == (None, None)
    assert not rig.encoder.finished
    assert calls_but_close(rig) == calls + (call == "collect 3")  # collecting and converting are one step


async def test_more_than_two_requests_are_as_good_as_two(rig):
    stop = Stop()
    gate = rig.encoder.hold("write 0")

    async with rig.running(stop=stop) as run:
        await gate.reached()
        for _ in range(5):
            stop.request()
        gate.open()

    assert (run.result, run.error) == (None, None)


async def test_a_second_request_while_the_encoder_finishes_lets_it_finish(rig):
    """The call cannot be interrupted, and when it is over so is the run: nothing is left to cancel."""
    stop = Stop()
    gate = rig.encoder.hold("finish")

    async with rig.running(stop=stop) as run:
        await gate.reached()
        stop.request()
        stop.request()
        gate.open()

    assert run.error is None
    assert rig.encoder.finished
    assert run.result.frames_encoded == 8


async def test_the_grace_period_turns_a_gentle_stop_into_a_hard_one(rig, mock_clock):
    rig.patience = math.inf
    stop = Stop(grace=30)
    gate = rig.encoder.hold("write 2")

    async with rig.running(stop=stop) as run:
        await gate.reached()
        stop.request()
        mock_clock.jump(29.9)
        await rig.settled()
        assert not stop._scope.cancel_called
        mock_clock.jump(0.2)
        await rig.settled()
        assert not run.ended
        gate.open()

    assert (run.result, run.error) == (None, None)
    assert not rig.encoder.finished


async def test_a_drain_within_the_grace_period_is_whole(rig, mock_clock):
    rig.patience = math.inf
    stop = Stop(grace=30)
    gate = rig.encoder.hold("write 2")

    async with rig.running(stop=stop) as run:
        await gate.reached()
        await rig.settled()
        stop.request()
        mock_clock.jump(29.9)
        await rig.settled()
        gate.open()

    assert rig.encoder.finished
    assert run.result.frames_encoded == len(rig.encoder.indices) == frames_read(rig)


async def test_the_grace_period_starts_with_the_first_request(rig, mock_clock):
    rig.patience = math.inf
    stop = Stop(grace=30)
    gate = rig.encoder.hold("write 2")

    async with rig.running(stop=stop) as run:
        await gate.reached()
        mock_clock.jump(1000)
        await rig.settled()
        assert not stop.requested
        gate.open()

    assert run.result.frames_encoded == 8


async def test_a_request_before_the_start_reads_nothing_and_finishes(rig):
    stop = Stop()
    stop.request()

    async with rig.running(stop=stop) as run:
        pass

    assert rig.decoder.calls["read"] == 0
    assert rig.encoder.finished
    assert run.result.frames_decoded == run.result.frames_encoded == 0


async def test_two_requests_before_the_start_begin_nothing(rig):
    stop = Stop()
    stop.request()
    stop.request()

    async with rig.running(stop=stop) as run:
        pass

    assert (run.result, run.error) == (None, None)
    assert rig.decoder.calls["read"] == 0
    assert not rig.encoder.finished


async def test_requests_after_the_end_change_nothing(rig):
    stop = Stop()

    async with rig.running(stop=stop) as run:
        pass
    stop.request()
    stop.request()

    assert run.result.frames_encoded == 8
    assert run.error is None


async def test_an_error_in_the_drain_is_what_the_run_ends_with(rig):
    stop = Stop()
    gate = rig.encoder.hold("write 2")
    rig.encoder.fail("write 3", RaveError("boom"))
    rig.config = PipelineConfig(2, 2, 2)

    async with rig.running(stop=stop) as run:
        await gate.reached()
        await rig.settled()
        stop.request()
        gate.open()

    assert str(run.error) == "boom"
    assert not rig.encoder.finished


async def test_a_drained_run_has_time_for_the_rest(mock_clock):
    stop = Stop(grace=30)
    ended = []

    async def work():
        stop.drained()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:

        async def task():
            ended.append(await run_stoppable(work, stop))

        nursery.start_soon(task)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1000)
        await trio.testing.wait_all_tasks_blocked()
        assert not ended
        nursery.cancel_scope.deadline = trio.current_time() + 1e6
        stop.request()
        mock_clock.jump(1000)
        await trio.testing.wait_all_tasks_blocked()
        assert not ended
        stop.request()

    assert ended == [None]


async def test_draining_lifts_the_deadline_of_an_earlier_request(mock_clock):
    stop = Stop(grace=30)
    drained = trio.Event()
    ended = []

    async def work():
        await drained.wait()
        stop.drained()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:

        async def task():
            ended.append(await run_stoppable(work, stop))

        nursery.start_soon(task)
        await trio.testing.wait_all_tasks_blocked()
        stop.request()
        mock_clock.jump(20)
        drained.set()
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1000)
        await trio.testing.wait_all_tasks_blocked()
        assert not ended
        stop.request()

    assert ended == [None]


async def test_errors_of_stoppable_work_come_out_bare():
    async def work():
        raise ValueError("boom")

    stop = Stop()
    with pytest.raises(ValueError, match="boom"):
        await run_stoppable(work, stop)
    assert not stop.requested


async def test_stoppable_work_returns_its_result_without_asking_for_a_stop():
    async def work():
        return 42

    stop = Stop()
    assert await run_stoppable(work, stop) == 42
    assert not stop.requested
