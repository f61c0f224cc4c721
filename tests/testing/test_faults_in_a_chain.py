"""Several models in a row on a simulated device, with a fault in one of them."""

from __future__ import annotations

import pytest

from rave_trio import errors
from rave_trio.inference.chain import ChainedBackend
from rave_trio.inference.retreat import RetreatingBackend
from rave_trio.pipeline import alongside
from rave_trio.testing import Fault, Planted, SimulatedBackend, every_fault

FRAMES, SCALES = 8, (1, 2, 1)
ALL = [fault for fault in every_fault((0, 3, 7), ("inference",)) if fault.call in ("submit", "collect")]
INTERRUPTS = {"keyboard_interrupt": KeyboardInterrupt, "system_exit": SystemExit}


def of(*kinds: str) -> list[Fault]:
    return [fault for fault in ALL if fault.kind in kinds]


@pytest.fixture(params=range(len(SCALES)), ids=["first", "middle", "last"])
def faulty(request):
    """Which of the models the fault is in."""
    return request.param


@pytest.fixture
def simulation(simulate, faulty):
    """A run through three models, the second of which enlarges."""
    made = simulate(capacity=64 << 20)

    def model(number):
        backend = SimulatedBackend(made.device, made.pool, SCALES[number], 2)
        return made.plan.around_backend(backend) if number == faulty else backend

    made.chained = lambda: ChainedBackend([model(number) for number in range(len(SCALES))])
    made.backend = made.chained
    return made


def assert_all_frames_came_out(simulation):
    assert simulation.encoder.indices == list(range(FRAMES))


async def test_all_frames_come_out_once_and_in_order(simulation):
    await simulation.run()
    assert_all_frames_came_out(simulation)


@pytest.mark.parametrize("fault", of("exception"), ids=str)
async def test_what_nobody_foresaw_is_a_crash_of_the_inference_stage_at_that_frame(simulation, fault):
    simulation.plant(fault)
    with pytest.raises(errors.StageCrashed) as caught:
        await simulation.run()
    assert isinstance(caught.value.__cause__, Planted)
    assert (caught.value.stage, caught.value.frame) == ("inference", fault.frame)


@pytest.mark.parametrize("fault", of("out_of_memory"), ids=str)
async def test_out_of_memory_is_raised_as_itself_with_its_place(simulation, fault):
    simulation.plant(fault)
    with pytest.raises(errors.OutOfMemory, match="planted") as caught:
        await simulation.run()
    assert (caught.value.stage, caught.value.frame) == ("inference", fault.frame)


@pytest.mark.parametrize("fault", of("out_of_memory"), ids=str)
async def test_behind_a_retreat_no_frame_is_lost(simulation, fault):
    simulation.plant(fault)
    simulation.backend = lambda: RetreatingBackend(lambda step: simulation.chained() if step < 2 else None)
    await simulation.run()
    assert_all_frames_came_out(simulation)


@pytest.mark.parametrize("fault", of(*INTERRUPTS), ids=str)
async def test_an_interrupt_is_passed_on_unchanged(simulation, fault):
    simulation.plant(fault)
    with pytest.raises(INTERRUPTS[fault.kind]):
        await simulation.run()


@pytest.mark.parametrize("fault", of("stall"), ids=str)
async def test_a_stalled_call_that_goes_on_at_last_changes_nothing(simulation, fault):
    simulation.plant(fault)
    await alongside(simulation.run, simulation.released)
    assert_all_frames_came_out(simulation)


@pytest.mark.parametrize("fault", of("cancellation"), ids=str)
async def test_a_cancelled_run_finishes_what_it_has_read(simulation, fault):
    simulation.plant(fault)
    await simulation.run()
    assert simulation.encoder.indices == list(range(len(simulation.encoder.indices)))
    assert simulation.encoder.finished
