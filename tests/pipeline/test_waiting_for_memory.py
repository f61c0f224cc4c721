"""Memory that is not there is waited for in the Trio way: others go on, and a cancellation ends the wait."""

from __future__ import annotations

import pytest
import trio
import trio.from_thread
from trio.testing import wait_all_tasks_blocked

from rave_trio.memory import HostPool, Ledger
from rave_trio.memory.pool import SMALLEST
from rave_trio.pipeline import TrioWaiting


class Told(TrioWaiting):
    """Tells when somebody begins to wait."""

    def __init__(self):
        super().__init__()
        self.began = trio.Event()

    def wait(self, ticket):
        trio.from_thread.run_sync(self.began.set)
        super().wait(ticket)


async def test_a_worker_thread_waits_until_memory_is_given_back():
    waiting = Told()
    pool = HostPool(Ledger(SMALLEST), waiting=waiting)
    lent = pool.lease(1)
    got = []

    async def ask():
        got.append(await trio.to_thread.run_sync(pool.lease, 1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await waiting.began.wait()
        await wait_all_tasks_blocked()
        assert not got
        lent.close()
    assert len(got) == 1


async def test_a_cancellation_ends_the_wait_and_leaves_nothing_behind():
    ledger, waiting = Ledger(SMALLEST), Told()
    pool = HostPool(ledger, waiting=waiting)
    lent = pool.lease(1)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, pool.lease, 1)
            await waiting.began.wait()
            scope.cancel()
    assert scope.cancelled_caught
    assert pool.stats().leased == 1
    lent.close()
    pool.close()
    assert ledger.stats().current == 0


async def test_memory_given_back_between_looking_and_waiting_is_not_missed():
    waiting = TrioWaiting()
    ticket = waiting.ticket()
    waiting.notify()
    with trio.fail_after(5):
        await trio.to_thread.run_sync(waiting.wait, ticket)


def test_memory_may_be_given_back_after_the_run():
    async def run():
        return HostPool(Ledger(), waiting=TrioWaiting()).lease(1)

    lease = trio.run(run)
    lease.close()
    with pytest.raises(ValueError, match="closed"):
        lease.array((1,), "u1")
