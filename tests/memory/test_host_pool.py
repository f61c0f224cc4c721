"""The pool lends aligned buffers in buckets, reuses what comes back, and accounts for all of it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_trio import errors
from rave_trio.memory import HostPool, Ledger
from rave_trio.memory import pool as pool_module
from rave_trio.memory.pool import ALIGNMENT, COARSE, SMALLEST, bucket_size

SIZES = st.integers(1, 1 << 40) | st.integers(1, 4 * COARSE)


@given(SIZES)
def test_a_bucket_holds_what_is_asked_for(nbytes):
    assert bucket_size(nbytes) >= nbytes


@given(st.integers(1, COARSE))
def test_buckets_up_to_two_mebibytes_are_powers_of_two_and_at_most_twice_too_large(nbytes):
    size = bucket_size(nbytes)
    assert size.bit_count() == 1
    assert SMALLEST <= size <= COARSE
    assert size == SMALLEST or size < 2 * nbytes


@given(st.integers(COARSE, 1 << 40))
def test_buckets_above_are_multiples_of_two_mebibytes_with_less_than_one_to_spare(nbytes):
    size = bucket_size(nbytes)
    assert size % COARSE == 0
    assert size - nbytes < COARSE


@given(SIZES)
def test_a_bucket_s_own_size_is_its_bucket(nbytes):
    assert bucket_size(bucket_size(nbytes)) == bucket_size(nbytes)


@given(SIZES, SIZES)
def test_a_larger_request_has_no_smaller_bucket(a, b):
    assert bucket_size(min(a, b)) <= bucket_size(max(a, b))


def test_an_empty_request_has_the_smallest_bucket():
    assert bucket_size(0) == SMALLEST


@pytest.mark.parametrize("nbytes", [1, 100, SMALLEST, 10_000, COARSE - 1, COARSE, COARSE + 1, 3 * COARSE])
def test_leased_memory_is_aligned_and_can_be_written_to_its_end(nbytes):
    pool = HostPool(Ledger())
    leases = [pool.lease(nbytes) for _ in range(3)]
    for i, lease in enumerate(leases):
        array = lease.array((nbytes,), np.uint8)
        assert array.ctypes.data % ALIGNMENT == 0
        array[:] = i
    for i, lease in enumerate(leases):
        assert (lease.array((nbytes,), np.uint8) == i).all()


def test_a_lease_is_seen_in_the_shape_and_type_that_is_asked_for():
    lease = HostPool(Ledger()).lease(4 * 3 * 5 * 7)
    array = lease.array((3, 5, 7), np.float32)
    assert (array.shape, array.dtype) == ((3, 5, 7), np.float32)
    assert array.flags.c_contiguous
    assert array.flags.writeable


def test_a_lease_refuses_a_shape_that_it_cannot_hold():
    lease = HostPool(Ledger()).lease(SMALLEST)
    with pytest.raises(ValueError, match="reshape"):
        lease.array((SMALLEST + 1,), np.uint8)


def test_what_is_given_back_is_lent_again():
    ledger = Ledger()
    pool = HostPool(ledger)
    lease = pool.lease(5000)
    address = lease.array((1,), np.uint8).ctypes.data
    lease.close()
    assert pool.stats().idle_bytes == 8192

    again = pool.lease(8000)
    assert again.array((1,), np.uint8).ctypes.data == address
    stats = pool.stats()
    assert (stats.hits, stats.misses, stats.leased, stats.idle_bytes) == (1, 1, 1, 0)
    assert stats.hit_rate == 0.5
    assert ledger.stats().current == ledger.stats().peak == 8192


def test_another_bucket_s_idle_memory_is_not_lent():
    pool = HostPool(Ledger())
    pool.lease(5000).close()
    pool.lease(100)
    assert pool.stats().misses == 2


def test_a_new_pool_has_a_hit_rate_of_zero():
    assert HostPool(Ledger()).stats().hit_rate == 0


def test_a_closed_lease_cannot_be_used_and_gives_back_once():
    pool = HostPool(Ledger())
    lease = pool.lease(100)
    lease.close()
    lease.close()
    assert pool.stats().leased == 0
    assert pool.stats().idle_bytes == SMALLEST
    with pytest.raises(ValueError, match="the lease is closed"):
        lease.array((1,), np.uint8)
    first, second = pool.lease(100), pool.lease(100)
    assert first.array((1,), np.uint8).ctypes.data != second.array((1,), np.uint8).ctypes.data


def test_the_ledger_knows_the_pool_s_bytes_by_owner():
    ledger = Ledger()
    frames, model = HostPool(ledger, "frames"), HostPool(ledger, "model")
    frames.lease(100)
    model.lease(COARSE + 1).close()
    assert ledger.stats().by_owner == {"frames": SMALLEST, "model": 2 * COARSE}


def test_closing_frees_what_is_idle_now_and_what_is_lent_as_it_comes_back():
    ledger = Ledger()
    pool = HostPool(ledger)
    lent = pool.lease(100)
    pool.lease(10_000).close()

    pool.close()
    assert ledger.stats().current == SMALLEST
    assert pool.stats().idle_bytes == 0
    lent.array((100,), np.uint8)[:] = 1
    lent.close()
    assert ledger.stats().current == 0
    assert (pool.stats().leased, pool.stats().idle_bytes) == (0, 0)
    pool.close()
    assert ledger.stats().current == 0


def test_a_closed_pool_lends_nothing():
    pool = HostPool(Ledger())
    pool.close()
    with pytest.raises(ValueError, match="the pool is closed"):
        pool.lease(100)
    assert (pool.stats().hits, pool.stats().misses, pool.stats().leased) == (0, 0, 0)


def test_memory_that_cannot_be_had_changes_no_count(monkeypatch):
    ledger = Ledger()
    pool = HostPool(ledger)
    pool.lease(100)
    before = pool.stats(), ledger.stats().by_owner

    def exhausted(*args: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(pool_module.np, "empty", exhausted)
        with pytest.raises(MemoryError):
            pool.lease(10_000)

    assert (pool.stats(), ledger.stats().by_owner) == before
    pool.lease(10_000).close()


def test_an_impossible_size_is_a_memory_error():
    with pytest.raises(MemoryError):
        HostPool(Ledger()).lease(1 << 62)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3 * SMALLEST)), max_size=40))
def test_no_two_leases_share_memory_and_the_counts_add_up(steps):
    ledger = Ledger()
    pool = HostPool(ledger)
    leases = []
    asked = 0
    for gives_back, nbytes in steps:
        if gives_back and leases:
            leases.pop(0).close()
        else:
            asked += 1
            leases.append(pool.lease(nbytes))
    addresses = [lease.array((1,), np.uint8).ctypes.data for lease in leases]
    assert len(set(addresses)) == len(leases)
    stats = pool.stats()
    assert stats.leased == len(leases)
    assert stats.hits + stats.misses == asked
    for lease in leases:
        lease.close()
    assert pool.stats().idle_bytes == ledger.stats().current == ledger.stats().peak
    pool.close()
    assert ledger.stats().current == 0


def test_leases_from_several_threads_never_share_memory_and_the_counts_add_up():
    ledger = Ledger()
    pool = HostPool(ledger)
    together = threading.Barrier(4)
    spoiled = []

    def work(mark: int) -> None:
        together.wait()
        for round in range(200):
            leases = [pool.lease(100), pool.lease(10_000)]
            arrays = [lease.array((100,), np.uint8) for lease in leases]
            for array in arrays:
                array[:] = mark
            if not all((array == mark).all() for array in arrays):
                spoiled.append((mark, round))
            for lease in leases:
                lease.close()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stats = pool.stats()
    assert not spoiled
    assert stats.leased == 0
    assert stats.hits + stats.misses == 4 * 200 * 2
    assert stats.misses <= 8
    assert ledger.stats().current == stats.idle_bytes
    pool.close()
    assert ledger.stats().current == 0


def limited(limit: int) -> tuple[Ledger, HostPool]:
    ledger = Ledger(limit)
    return ledger, HostPool(ledger)


def test_at_the_limit_idle_memory_goes_the_largest_first():
    ledger, pool = limited(16 * SMALLEST)
    leases = [pool.lease(n * SMALLEST) for n in (8, 4, 4)]
    for lease in leases:
        lease.close()
    pool.lease(2 * SMALLEST)
    assert pool.stats().evictions == 1
    assert pool.stats().idle_bytes == 8 * SMALLEST, "the two of four pages are left"
    assert ledger.stats().current <= ledger.limit


def test_of_equal_idle_buffers_the_least_recently_used_goes_first():
    _, pool = limited(3 * SMALLEST)
    first, second, third = (pool.lease(SMALLEST) for _ in range(3))
    recent = second.array((1,), np.uint8).ctypes.data
    for lease in (first, third, second):
        lease.close()
    pool.lease(2 * SMALLEST)
    assert pool.stats().evictions == 2
    assert pool.lease(SMALLEST).array((1,), np.uint8).ctypes.data == recent


def test_who_finds_no_room_waits_until_there_is_some():
    _, pool = limited(SMALLEST)
    lent = pool.lease(SMALLEST)
    got = []
    waiter = threading.Thread(target=lambda: got.append(pool.lease(SMALLEST)))
    waiter.start()
    while not pool.stats().waits:
        pass
    assert not got
    lent.close()
    waiter.join()
    assert (len(got), pool.stats().waits, pool.stats().hits) == (1, 1, 1)


def test_many_who_wait_all_get_their_turn_and_the_limit_holds():
    ledger, pool = limited(3 * SMALLEST)
    done = []

    def work() -> None:
        for _ in range(100):
            pool.lease(SMALLEST).close()
            pool.lease(2 * SMALLEST).close()
        done.append(True)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 6
    assert ledger.stats().peak <= 3 * SMALLEST
    pool.close()
    assert ledger.stats().current == 0


def test_what_could_never_fit_is_refused_at_once():
    _, pool = limited(SMALLEST)
    with pytest.raises(errors.OutOfMemory, match="more than the limit of 4096"):
        pool.lease(SMALLEST + 1)


def test_a_limit_that_others_have_used_up_is_nothing_to_wait_for():
    ledger, pool = limited(2 * SMALLEST)
    ledger.enter("weights", SMALLEST + 1)
    with pytest.raises(errors.OutOfMemory, match="no room"):
        pool.lease(SMALLEST)


def test_a_device_without_memory_gives_up_what_is_idle_first(monkeypatch):
    ledger = Ledger()
    pool = HostPool(ledger)
    pool.lease(10_000).close()
    genuine, failures = np.empty, iter([MemoryError(), None])

    def scarce(*args: object) -> object:
        failure = next(failures)
        if failure:
            raise failure
        return genuine(*args)

    monkeypatch.setattr(pool_module.np, "empty", scarce)
    pool.lease(100)
    assert pool.stats().evictions == 1
    assert ledger.stats().current == SMALLEST


def test_closing_the_pool_ends_all_waiting():
    _, pool = limited(SMALLEST)
    pool.lease(SMALLEST)
    told = []

    def wait() -> None:
        with pytest.raises(ValueError, match="closed"):
            pool.lease(SMALLEST)
        told.append(True)

    waiter = threading.Thread(target=wait)
    waiter.start()
    while not pool.stats().waits:
        pass
    pool.close()
    waiter.join()
    assert told
