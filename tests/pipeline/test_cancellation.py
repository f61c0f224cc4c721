"""A cancelled surrounding scope drains the run and then goes on its way; a hard one leaves nothing open."""

from __future__ import annotations

import math

import pytest
import trio

from rave_trio.errors import EncodeError
from rave_trio.pipeline import PipelineConfig, Stop

CALLS = [
    ("decoder", "read 0"),
    ("decoder", "read 5"),
    ("to_tensor", "convert 0"),
    ("to_tensor", "convert 5"),
    ("backend", "submit 0"),
    ("backend", "submit 5"),
    ("backend", "collect 0"),
    ("backend", "collect 5"),
    ("to_surface", "convert 5"),
    ("encoder", "write 0"),
    ("encoder", "write 5"),
]
ENDS = [("decoder", "read 8"), ("encoder", "write 7"), ("encoder", "finish"), ("backend", "close")]


@pytest.mark.parametrize("capacity", [1, 3])
@pytest.mark.parametrize(("part", "call"), CALLS + ENDS)
async def test_a_cancelled_scope_drains_flushes_and_then_is_cancelled(rig, part, call, capacity):
    """Held in one stage's call, the stages before it wait for room and those after it for frames."""
    rig.config = PipelineConfig(capacity, capacity, capacity)
    gate = getattr(rig, part).hold(call)

    async with rig.running() as run:
        await gate.reached()
        await rig.settled()
        read = min(rig.decoder.calls["read"], rig.decoder.total)
        run.scope.cancel()
        await rig.settled()
        assert not run.ended
        gate.open()

    assert run.scope.cancelled_caught
    assert (run.result, run.error) == (None, None)
    assert rig.encoder.finished
    assert rig.encoder.indices == list(range(read))
    run.pipeline.metrics.validate()


@pytest.mark.parametrize("capacity", [1, 3])
@pytest.mark.parametrize(("part", "call"), CALLS)
async def test_a_hard_cancellation_leaves_nothing_open_wherever_the_stages_wait(rig, part, call, capacity):
    rig.config = PipelineConfig(capacity, capacity, capacity)
    gate = getattr(rig, part).hold(call)

    async with rig.running(stop=Stop(), stoppable=False) as run:
        await gate.reached()
        await rig.settled()
        run.scope.cancel()
        await rig.settled()
        assert not run.ended
        gate.open()

    assert run.scope.cancelled_caught
    assert (run.result, run.error) == (None, None)
    assert not rig.encoder.finished
    assert rig.alive == 0


@pytest.mark.parametrize("stoppable", [True, False])
async def test_a_scope_that_is_cancelled_already_is_felt(rig, stoppable):
    rig.decoder.total = 1000
    stop = None if stoppable else Stop()

    with trio.CancelScope() as scope:
        scope.cancel()
        await rig.run(stop=stop)

    assert scope.cancelled_caught
    assert rig.encoder.finished is stoppable
    assert rig.decoder.calls["read"] <= 1


async def test_an_error_in_the_drain_is_raised_in_place_of_the_cancellation(rig):
    gate = rig.encoder.hold("write 0")
    rig.encoder.fail("write 1", EncodeError("boom"))

    async with rig.running() as run:
        await rig.settled()
        run.scope.cancel()
        await rig.settled()
        gate.open()

    assert isinstance(run.error, EncodeError)
    assert (run.error.stage, run.error.frame) == ("encode", 1)


async def test_an_error_in_a_call_that_a_hard_cancellation_waits_for_is_not_lost(rig):
    gate = rig.encoder.hold("write 0")
    rig.encoder.fail("write 0", EncodeError("boom"))

    async with rig.running(stop=Stop(), stoppable=False) as run:
        await rig.settled()
        run.scope.cancel()
        await rig.settled()
        gate.open()

    assert isinstance(run.error, EncodeError)


async def test_a_cancelled_run_that_does_not_drain_in_time_is_cancelled_hard(rig, mock_clock):
    rig.patience = math.inf
    gate = rig.encoder.hold("write 0")

    async with rig.running() as run:
        await rig.settled()
        run.scope.cancel()
        await rig.settled()
        mock_clock.jump(1000)
        await rig.settled()
        gate.open()

    assert run.scope.cancelled_caught
    assert run.error is None
    assert not rig.encoder.finished
    assert rig.encoder.indices == [0]


async def test_a_deadline_drains_like_a_cancellation(rig, mock_clock):
    rig.patience = math.inf
    gate = rig.encoder.hold("write 0")

    async with rig.running() as run:
        run.scope.deadline = trio.current_time() + 5
        await rig.settled()
        mock_clock.jump(6)
        await rig.settled()
        gate.open()

    assert run.scope.cancelled_caught
    assert rig.encoder.finished
    assert rig.encoder.indices == list(range(min(rig.decoder.calls["read"], 8)))


async def test_a_cancellation_after_a_requested_stop_ends_the_run_at_once(rig):
    stop = Stop()
    gate = rig.encoder.hold("write 0")

    async with rig.running(stop=stop) as run:
        await rig.settled()
        stop.request()
        await rig.settled()
        run.scope.cancel()
        await rig.settled()
        gate.open()

    assert run.scope.cancelled_caught
    assert run.error is None
    assert not rig.encoder.finished


async def test_a_sibling_s_failure_drains_the_run(rig):
    """A run in a nursery of a larger program, where another task fails."""
    gate = rig.encoder.hold("write 0")

    async def failing():
        await rig.settled()
        gate.open()
        raise ValueError("elsewhere")

    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.run)
            nursery.start_soon(failing)

    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert rig.encoder.finished
    assert rig.encoder.indices == list(range(min(rig.decoder.calls["read"], 8)))
