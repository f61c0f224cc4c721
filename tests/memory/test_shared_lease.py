"""A loan with several holders goes back when the last of them closes."""

from __future__ import annotations

import threading

import pytest

from rave_trio.memory import HostPool, Ledger, SharedLease


@pytest.fixture
def pool():
    pool = HostPool(Ledger())
    yield pool
    assert pool.stats().leased == 0
    pool.close()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_memory_goes_back_with_the_last_holder(pool, order):
    first = SharedLease(pool.lease(100))
    second = first.share()
    holders = [first, second, second.share()]
    for closed in order[:-1]:
        holders[closed].close()
        holders[closed].close()
        assert pool.stats().leased == 1
    holders[order[-1]].close()


def test_a_part_that_is_closed_cannot_be_shared(pool):
    part = SharedLease(pool.lease(100))
    part.close()
    assert part.closed
    with pytest.raises(ValueError, match="closed"):
        part.share()


def test_holders_in_many_threads_give_it_back_once(pool):
    first = SharedLease(pool.lease(100))
    parts = [first, *(first.share() for _ in range(31))]
    threads = [threading.Thread(target=part.close) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pool.stats().leased == 0
