"""A call that waits for memory waits in its own thread, and a run that ends ends the wait."""

from __future__ import annotations

import threading

import pytest

from rave_trio import errors
from rave_trio.memory import Interrupted, Waiting
from rave_trio.memory.pool import SMALLEST
from rave_trio.pipeline import PipelineConfig, Stop


def test_an_interrupted_wait_ends_and_so_do_all_later_ones():
    waiting = Waiting()
    ended = []

    def wait():
        with pytest.raises(Interrupted):
            waiting.wait(waiting.ticket())
        ended.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.interrupt()
    thread.join()
    with pytest.raises(Interrupted):
        waiting.wait(waiting.ticket())
    assert ended


async def test_a_run_that_is_cancelled_while_a_stage_waits_for_memory_ends(rig):
    rig.ledger.limit = SMALLEST
    lent = rig.pool.lease(1)
    async with rig.running(stop=Stop(), stoppable=False) as run:
        await rig.waiting.began()
        run.scope.cancel()
    assert run.ended
    assert run.error is None
    lent.close()


async def test_an_error_elsewhere_ends_a_wait_for_memory_and_is_the_one_that_is_raised(rig):
    """The backend holds all memory there is when it fails; who waits for some must not keep the run from ending."""
    rig.decoder.total = 1
    rig.ledger.limit = 6 * SMALLEST
    rig.backend.fail("submit 0", errors.InferenceError("the device fell over"))
    lent = [rig.pool.lease(1) for _ in range(3)]
    with pytest.raises(errors.InferenceError, match="fell over") as caught:
        await rig.run()
    assert caught.value.stage == "inference"
    for lease in lent:
        lease.close()


async def test_a_run_in_little_memory_takes_turns(rig):
    rig.config = PipelineConfig(decoded_capacity=1, preprocessed_capacity=1, upscaled_capacity=1)
    rig.ledger.limit = 12 * SMALLEST
    metrics = await rig.run()
    assert metrics.frames_encoded == rig.decoder.total
    assert rig.ledger.stats().peak <= 12 * SMALLEST
