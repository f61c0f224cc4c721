"""A call that waits for memory waits in its own thread, and a run that ends ends the wait."""

from __future__ import annotations

import os
import threading

import pytest
import trio
import trio.testing

from rave_trio import errors
from rave_trio.memory import Interrupted, Waiting
from rave_trio.memory.pool import SMALLEST
from rave_trio.pipeline import PipelineConfig, Stop
from rave_trio.pipeline.stalls import Watch


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


async def test_a_run_whose_stages_all_wait_for_memory_that_none_gives_back_ends_and_says_so(rig):
    rig.config = PipelineConfig(stall_timeout=0.05)
    rig.ledger.limit = 2 * SMALLEST
    with pytest.raises(errors.OutOfMemory, match="the limit is too small") as caught:
        await rig.run()
    assert caught.value.stage is not None


class Waiters(Waiting):
    """What a watch sees of threads that wait, without the threads."""

    def __init__(self, *threads: int) -> None:
        super().__init__()
        self.waiting = threads
        self.given_up: list[int] = []

    def threads(self):
        return frozenset(self.waiting)

    def give_up(self, thread):
        self.given_up.append(thread)


def begin(watch, thread):
    call = watch.begin(trio.CancelScope())
    call.thread = thread
    return call


async def passed(mock_clock, seconds):
    mock_clock.jump(seconds)
    await trio.testing.wait_all_tasks_blocked()


async def test_a_call_may_wait_for_memory_as_long_as_others_work(mock_clock):
    watch = Watch(waiting := Waiters(1), 60)
    async with watch.watching():
        waits, works = begin(watch, 1), begin(watch, 2)
        for _ in range(10):
            await passed(mock_clock, 50)
            watch.end(works)
            works = begin(watch, 2)
        assert not waits.scope.cancel_called
        assert not waiting.given_up
        await passed(mock_clock, 61)
        assert works.scope.cancel_called
        assert not waits.scope.cancel_called


async def test_a_call_gives_up_waiting_when_all_wait_and_nothing_is_given_back(mock_clock):
    watch = Watch(waiting := Waiters(1, 2), 60)
    async with watch.watching():
        calls = begin(watch, 1), begin(watch, 2)
        for _ in range(5):
            await passed(mock_clock, 61)
            waiting.notify()
        assert not waiting.given_up
        await passed(mock_clock, 61)
        assert not waiting.given_up, "what was given back may have been enough"
        await passed(mock_clock, 61)
        assert waiting.given_up
        assert not any(call.scope.cancel_called for call in calls)


def test_a_thread_that_gives_up_waiting_finds_no_memory_and_others_wait_on():
    waiting = Waiting()
    found = []

    def wait():
        try:
            waiting.wait(waiting.ticket())
        except errors.OutOfMemory as error:
            found.append(error)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(waiting.threads()) < 2:
        os.sched_yield()
    waiting.give_up(threads[0].ident)
    threads[0].join()
    assert threads[1].is_alive()
    waiting.notify()
    threads[1].join()
    assert len(found) == 1
