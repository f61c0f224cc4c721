"""The ledger counts every byte from entry to close, by owner, from any thread."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from rave_trio.memory import Ledger


def test_a_new_ledger_reads_zero():
    stats = Ledger().stats()
    assert (stats.current, stats.peak, stats.by_owner) == (0, 0, {})


def test_entries_count_by_owner_until_they_are_closed():
    ledger = Ledger()
    frames, model = ledger.enter("frames", 100), ledger.enter("model", 40)
    more = ledger.enter("frames", 10)
    assert ledger.stats().current == 150
    assert ledger.stats().by_owner == {"frames": 110, "model": 40}

    frames.close()
    assert ledger.stats().by_owner == {"frames": 10, "model": 40}
    more.close()
    model.close()
    assert ledger.stats().current == 0
    assert ledger.stats().by_owner == {}
    assert ledger.stats().peak == 150


def test_an_entry_that_is_closed_twice_counts_once():
    ledger = Ledger()
    other, entry = ledger.enter("a", 5), ledger.enter("a", 7)
    entry.close()
    entry.close()
    assert ledger.stats().current == 5
    other.close()


def test_stats_are_a_moment_and_do_not_change_later():
    ledger = Ledger()
    before = ledger.stats()
    ledger.enter("a", 5)
    assert before.current == 0
    assert before.by_owner == {}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**12), st.booleans())))
def test_the_account_is_the_sum_of_what_is_open(steps):
    ledger = Ledger()
    still_open: dict[str, int] = {}
    peak = 0
    for owner, nbytes, closes in steps:
        entry = ledger.enter(owner, nbytes)
        peak = max(peak, sum(still_open.values()) + nbytes)
        if closes:
            entry.close()
        else:
            still_open[owner] = still_open.get(owner, 0) + nbytes
    stats = ledger.stats()
    assert stats.current == sum(still_open.values())
    assert stats.peak == peak
    assert stats.by_owner == {owner: nbytes for owner, nbytes in still_open.items() if nbytes}


def test_entries_from_several_threads_add_up():
    ledger = Ledger()
    together = threading.Barrier(4)

    def work(owner: str) -> None:
        together.wait()
        for _ in range(300):
            entry = ledger.enter(owner, 3)
            ledger.enter(owner, 1)
            entry.close()

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stats = ledger.stats()
    assert stats.current == 1200
    assert stats.by_owner == {str(i): 300 for i in range(4)}
    assert 1200 <= stats.peak <= 1200 + 4 * 3
