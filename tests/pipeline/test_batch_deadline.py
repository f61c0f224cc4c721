"""With a deadline the first frame of a batch waits for others, so long and no longer; the clock is the test's own."""

from __future__ import annotations

import math

import pytest
import trio

from rave_trio.errors import InferenceError
from rave_trio.pipeline import PipelineConfig, Stop
from rave_trio.pipeline.gathering import Gathering

DEADLINE = 5.0


@pytest.fixture
async def slow_input(rig, mock_clock):
    """Batches of 4, a decoder that is held before each frame but the first, and time that stands still."""
    rig.patience = math.inf
    rig.config = PipelineConfig(stall_timeout=math.inf, batch_deadline=DEADLINE, batch_frames=4)
    rig.compute_in_batches(4, 9, slow=False)
    rig.decoder.total = 8
    return [rig.decoder.hold(f"read {index}") for index in range(1, 9)]


async def test_a_batch_is_waited_for_until_it_is_full(rig, slow_input):
    async with rig.running() as run:
        for gate in slow_input[:3]:
            await rig.settled()
            assert (rig.backend.launched, rig.encoder.indices) == ([], [])
            gate.open()
        await rig.settled()
        assert (rig.backend.launched, rig.encoder.indices) == ([4], [0, 1, 2, 3])
        for gate in slow_input[3:]:
            gate.open()
    assert run.error is None
    assert rig.backend.launched == [4, 4]


async def test_what_is_there_is_started_when_the_first_has_waited_long_enough(rig, slow_input, mock_clock):
    async with rig.running() as run:
        await rig.settled()
        mock_clock.jump(DEADLINE - 1)
        slow_input[0].open()
        await rig.settled()
        assert rig.backend.launched == []
        mock_clock.jump(1.1)
        await rig.settled()
        assert (rig.backend.launched, rig.encoder.indices) == ([2], [0, 1])
        for gate in slow_input[1:]:
            gate.open()
    assert run.error is None
    assert sum(rig.backend.launched) == len(rig.encoder.indices) == 8


async def test_the_next_batch_has_its_own_time(rig, slow_input, mock_clock):
    async with rig.running():
        await rig.settled()
        mock_clock.jump(DEADLINE + 1)
        await rig.settled()
        assert rig.backend.launched == [1]
        mock_clock.jump(100)
        slow_input[0].open()
        await rig.settled()
        mock_clock.jump(DEADLINE - 1)
        await rig.settled()
        assert rig.backend.launched == [1]
        mock_clock.jump(1.1)
        await rig.settled()
        assert rig.backend.launched == [1, 1]
        for gate in slow_input[1:]:
            gate.open()


async def test_nothing_is_waited_for_after_the_last_frame(rig, slow_input):
    """The clock never moves: a run that waited would not end."""
    rig.decoder.total = 6
    for gate in slow_input:
        gate.open()
    async with rig.running() as run:
        pass
    assert run.error is None
    assert rig.backend.launched == [4, 2]
    assert rig.encoder.indices == list(range(6))


async def test_a_stop_ends_the_waiting_and_keeps_the_frames_that_were_read(rig, slow_input):
    stop = Stop()
    async with rig.running(stop=stop) as run:
        slow_input[0].open()
        await rig.settled()
        stop.request()
        slow_input[1].open()
    assert run.error is None
    assert rig.encoder.finished
    assert rig.encoder.indices == [0, 1, 2]
    assert rig.backend.launched == [3]


async def test_a_cancelled_scope_drains_what_waits_for_a_batch(rig, slow_input):
    async with rig.running() as run:
        await rig.settled()
        run.scope.cancel()
        slow_input[0].open()
    assert run.scope.cancelled_caught
    assert rig.encoder.finished
    assert rig.encoder.indices == [0, 1]


async def test_a_hard_cancellation_ends_the_waiting_and_leaves_nothing_open(rig, slow_input):
    async with rig.running(stop=Stop(), stoppable=False) as run:
        await rig.settled()
        run.scope.cancel()
        slow_input[0].open()
    assert run.scope.cancelled_caught
    assert rig.backend.launched == []
    assert rig.alive == 0


@pytest.mark.parametrize(("part", "call"), [("decoder", "read 2"), ("to_tensor", "convert 1"), ("backend", "submit 1")])
async def test_a_fault_elsewhere_ends_the_waiting(rig, slow_input, part, call):
    getattr(rig, part).fail(call, InferenceError("boom"))
    for gate in slow_input:
        gate.open()
    async with rig.running() as run:
        pass
    assert str(run.error) == "boom"
    assert not rig.encoder.finished


async def test_a_frame_that_comes_as_the_time_ends_is_not_lost(rig, slow_input, mock_clock):
    async with rig.running() as run:
        for gate in slow_input:
            await rig.settled()
            gate.open()
            mock_clock.jump(DEADLINE + 1)
    assert run.error is None
    assert rig.encoder.indices == list(range(8))
    assert sum(rig.backend.launched) == 8


async def test_a_backend_that_has_made_way_for_a_smaller_one_is_not_waited_for(rig, slow_input):
    async with rig.running() as run:
        slow_input[0].open()
        await rig.settled()
        assert rig.encoder.indices == []
        rig.backend.depth = 3
        slow_input[1].open()
        await rig.settled()
        assert rig.encoder.indices == [0, 1, 2]
        slow_input[2].open()
        await rig.settled()
        assert rig.encoder.indices == [0, 1, 2, 3]
        for gate in slow_input:
            gate.open()
    assert run.error is None


async def test_the_waiting_counts_as_waiting_for_input(rig, slow_input):
    async with rig.running() as run:
        await rig.settled()
        stage = run.pipeline.metrics.stage("inference")
        assert stage.activity == "waiting_for_input"
        for gate in slow_input:
            gate.open()


class TestGathering:
    @staticmethod
    async def after(submitted, collected_with=None, *, frames=4, patience=1.0):
        gathering = Gathering(frames, patience)
        for _ in range(submitted):
            gathering.submitted()
        if collected_with is not None:
            gathering.collecting(collected_with)
        return gathering

    @pytest.mark.parametrize(("submitted", "waits"), [(0, False), (1, True), (3, True), (4, False)])
    async def test_waits_while_all_that_is_under_way_is_no_full_batch(self, mock_clock, submitted, waits):
        assert (await self.after(submitted)).waits(submitted) is waits

    async def test_does_not_wait_where_a_full_batch_is_to_be_collected_first(self, mock_clock):
        gathering = await self.after(6)
        assert not gathering.waits(6)
        assert gathering.waits(2)

    async def test_does_not_wait_for_what_a_collected_frame_has_started(self, mock_clock):
        gathering = await self.after(3, collected_with=3)
        assert not gathering.waits(2)
        gathering.submitted()
        assert not gathering.waits(3)
        assert gathering.waits(1)

    @pytest.mark.parametrize("how", [{"frames": 1}, {"patience": 0.0}])
    async def test_does_not_wait_without_batches_or_deadline(self, mock_clock, how):
        assert not (await self.after(1, **how)).waits(1)

    async def test_does_not_wait_past_its_deadline(self, mock_clock):
        gathering = await self.after(1)
        mock_clock.jump(1.0)
        assert not gathering.waits(1)
        assert gathering.deadline == trio.current_time()
