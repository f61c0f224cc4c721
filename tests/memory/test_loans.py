"""Loans of host memory that end when the last array that shows some of it is gone."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from rave_trio.memory import HostPool, Ledger, Loans


@pytest.fixture
def pool():
    pool = HostPool(Ledger())
    yield pool
    assert pool.stats().leased == 0
    pool.close()


def lent(loans, pool, nbytes=4096):
    lease = pool.lease(nbytes)
    return loans.array(lease, lease.array((nbytes,), np.uint8))


def test_the_array_shows_the_leased_memory_itself(pool):
    loans, lease = Loans(), pool.lease(64)
    array = loans.array(lease, lease.array((64,), np.uint8))
    array[:] = 7
    assert (lease.array((64,), np.uint8) == 7).all()
    del array
    loans.close()


def test_memory_is_lent_until_the_last_view_of_it_is_gone(pool):
    loans = Loans()
    array = lent(loans, pool)
    views = [array[:100], array.view(np.uint16)[5:].reshape(-1, 1), np.ndarray((2, 2), np.uint8, array, 50, (9, 1))]
    del array
    while views:
        loans.give_back()
        assert pool.stats().leased == 1
        views.pop()
    assert pool.stats().leased == 1, "it is given back by the one who lends"
    loans.give_back()
    assert pool.stats().leased == 0


def test_arrays_that_go_on_another_thread_are_given_back_by_the_one_who_lends(pool):
    loans = Loans()
    arrays = [lent(loans, pool) for _ in range(3)]
    thread = threading.Thread(target=arrays.clear)
    thread.start()
    thread.join()
    assert pool.stats().leased == 3
    loans.give_back()
    assert pool.stats().leased == 0


def test_what_comes_back_after_the_end_is_closed_at_once(pool):
    loans = Loans()
    array = lent(loans, pool)
    loans.close()
    assert pool.stats().leased == 1
    del array
    assert pool.stats().leased == 0


def test_a_loan_that_a_collection_ends_in_the_midst_of_the_pools_work_does_not_stop_it(pool):
    loans, cycle = Loans(), []
    cycle.append((cycle, lent(loans, pool)))
    gc.disable()
    try:
        del cycle
        with pool._lock:
            gc.collect()
    finally:
        gc.enable()
    loans.give_back()
    assert pool.stats().leased == 0
