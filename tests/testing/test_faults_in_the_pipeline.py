"""Whatever goes wrong, wherever and whenever: the run ends, says what it was, and leaves nothing behind.

The fixture ``simulate`` checks what is left: no byte, lease, thread, file or process.
"""

from __future__ import annotations

import pytest
import trio
import trio.from_thread
import trio.to_thread
from faults_told import INTERRUPTS, RAISED, WRONG_SIZE

from rave_trio import errors
from rave_trio.pipeline import alongside
from rave_trio.testing import Fault, Planted, every_fault

FIRST, MIDDLE, LAST = 0, 3, 7
FRAMES = 8
STAGES = ("decode", "preprocess", "inference", "encode")
ALL = list(every_fault((FIRST, MIDDLE, LAST), STAGES))


def of(*kinds: str) -> list[Fault]:
    return [fault for fault in ALL if fault.kind in kinds]


@pytest.fixture
def simulation(simulate, limit):
    return simulate(limit)


@pytest.mark.parametrize("fault", of("exception"), ids=str)
async def test_what_nobody_foresaw_is_a_crash_of_its_stage_with_the_cause(simulation, fault):
    simulation.plant(fault)
    with pytest.raises(errors.StageCrashed) as caught:
        await simulation.run()
    assert isinstance(caught.value.__cause__, Planted)
    assert (caught.value.stage, caught.value.frame) == (fault.stage, fault.frame)
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("fault", of(*RAISED), ids=str)
async def test_an_error_of_ours_is_raised_as_itself_with_its_place(simulation, fault):
    simulation.plant(fault)
    with pytest.raises(RAISED[fault.kind], match="planted") as caught:
        await simulation.run()
    assert (caught.value.stage, caught.value.frame) == (fault.stage, fault.frame)
    assert caught.value.__cause__ is None
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("fault", of(*INTERRUPTS), ids=str)
async def test_an_interrupt_is_passed_on_unchanged(simulation, fault):
    simulation.plant(fault)
    with pytest.raises(INTERRUPTS[fault.kind]):
        await simulation.run()


@pytest.mark.parametrize("fault", of("corrupt_size"), ids=str)
async def test_a_picture_of_a_wrong_size_is_noticed_by_whoever_gets_it(simulation, fault):
    stage, error = WRONG_SIZE[fault.stage, fault.call]
    simulation.plant(fault)
    with pytest.raises(error) as caught:
        await simulation.run()
    assert (caught.value.stage, caught.value.frame) == (stage, fault.frame)


@pytest.mark.parametrize("fault", of("short_read"), ids=str)
async def test_an_input_that_ends_early_gives_all_frames_before_its_end(simulation, fault):
    simulation.plant(fault)
    metrics = await simulation.run()
    assert metrics.frames_decoded == metrics.frames_encoded == fault.frame
    assert simulation.encoder.finished


@pytest.mark.parametrize("fault", of("slow"), ids=str)
async def test_a_slow_call_changes_nothing(simulation, fault):
    plan = simulation.plant(fault)
    await simulation.run()
    assert plan.happened == [fault]
    assert_all_frames_came_out(simulation)


@pytest.mark.parametrize("fault", of("stall"), ids=str)
async def test_a_stalled_call_that_goes_on_at_last_changes_nothing(simulation, fault):
    simulation.plant(fault)
    await alongside(simulation.run, simulation.released)
    assert_all_frames_came_out(simulation)


@pytest.mark.parametrize("fault", of("cancellation"), ids=str)
async def test_a_cancelled_run_finishes_what_it_has_read(simulation, fault):
    simulation.plant(fault)
    await simulation.run()
    assert simulation.scope.cancel_called
    encoder = simulation.encoder
    assert encoder.finished
    assert encoder.indices == list(range(encoder.frames))
    assert encoder.frames > (fault.frame or 0)
    assert not encoder.wrong


@pytest.mark.parametrize("fault", of("stall"), ids=str)
async def test_a_run_cancelled_while_a_call_is_stalled_ends_when_that_returns(simulation, fault):
    simulation.plant(fault)

    async def cancelled():
        await simulation.settled()
        simulation.scope.cancel()
        await simulation.released()

    await alongside(simulation.run, cancelled)
    assert simulation.encoder.finished
    assert simulation.encoder.indices == list(range(simulation.encoder.frames))


@pytest.fixture
def two_faults(simulation):
    """Plants one fault in a stage, and a full memory in the decoder that comes before it."""

    def plant(late, kind):
        return simulation.plant(
            Fault(late, FIRST, "stall"),
            Fault(late, FIRST, kind),
            Fault("decode", FIRST + 1, "cancellation"),
            Fault("decode", FIRST + 1, "out_of_memory"),
            on_cancellation=lambda: trio.from_thread.run(simulation.stalled.wait),  # none, but a place to wait at
        )

    return plant


@pytest.mark.parametrize("late", ["preprocess", "inference", "encode"])
async def test_later_errors_are_notes_of_the_first(simulation, two_faults, late):
    plan = two_faults(late, "exception")
    with pytest.raises(errors.OutOfMemory) as caught:
        await alongside(simulation.run, simulation.released)
    assert len(plan.happened) == 4
    assert (caught.value.stage, caught.value.frame) == ("decode", 1)
    assert caught.value.__notes__ == [f"then in {late}: {late} crashed on frame 0: Planted: planted in {late}"]


@pytest.mark.parametrize("late", ["preprocess", "inference", "encode"])
async def test_an_interrupt_goes_before_an_error_that_came_first(simulation, two_faults, late):
    two_faults(late, "keyboard_interrupt")
    with pytest.raises(KeyboardInterrupt) as caught:
        await alongside(simulation.run, simulation.released)
    assert caught.value.__notes__ == ["then in decode: no memory, planted in decode"]


# The device


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
async def test_a_device_without_memory_is_an_error_of_the_stage_that_asks(simulation, nth):
    """A surface, a tensor, a larger tensor and a larger surface must all be there for one frame to come out."""
    for allocation in range(nth, nth + 20):  # the pool tries again once for each idle buffer
        simulation.device.fail_allocation(allocation)
    with pytest.raises(errors.OutOfMemory, match="cannot be allocated") as caught:
        await simulation.run()
    assert caught.value.stage in ("decode", "preprocess", "inference")
    assert isinstance(caught.value.__cause__, MemoryError)


@pytest.mark.parametrize("frame", [FIRST, MIDDLE, LAST])
async def test_a_launch_that_fails_is_an_error_of_its_frame(simulation, frame):
    simulation.device.fail_launch(frame + 1)
    with pytest.raises(errors.InferenceError, match=f"failed on frame {frame}: .*planted") as caught:
        await simulation.run()
    assert (caught.value.stage, caught.value.frame) == ("inference", frame)


@pytest.mark.parametrize("frame", [FIRST, MIDDLE, LAST])
async def test_a_launch_that_stalls_and_goes_on_at_last_changes_nothing(simulation, frame):
    stall = simulation.device.stall_launch(frame + 1)

    async def release():
        await trio.to_thread.run_sync(stall.wait_until_reached)
        stall.release()

    await alongside(simulation.run, release)
    assert_all_frames_came_out(simulation)


async def test_a_device_closed_under_a_run_ends_it(simulation):
    stall = simulation.device.stall_launch(MIDDLE)

    async def close():
        await trio.to_thread.run_sync(stall.wait_until_reached)
        await trio.to_thread.run_sync(simulation.device.close)

    with pytest.raises(errors.RaveError) as caught:
        await alongside(simulation.run, close)
    assert caught.value.stage == "inference"


# Nothing wrong


@pytest.mark.parametrize("seed", range(10))
async def test_frames_come_out_in_order_whatever_overtakes_what(simulate, limit, seed):
    simulation = simulate(limit, seed)
    await simulation.run()
    assert_all_frames_came_out(simulation)


def assert_all_frames_came_out(simulation):
    assert simulation.encoder.indices == list(range(FRAMES))
    assert not simulation.encoder.wrong
    assert simulation.encoder.finished
