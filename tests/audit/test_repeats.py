"""Runs of one job beside one another: frames that differ, what is left, and what grows."""

from __future__ import annotations

import pytest

from rave_trio.audit.findings import Level
from rave_trio.audit.repeats import (
    MOST_RESIDENT,
    MOST_TRACED,
    SETTLING,
    RepeatedRun,
    judge_determinism,
    judge_growth,
    judge_leaks,
)


def run(hashes=("a", "b"), ledger=0, traced=1000, resident=10**8):
    return RepeatedRun(tuple(hashes), ledger, traced, resident)


def test_the_same_frames_in_every_run_pass():
    found = judge_determinism([run()] * 3)
    assert (found.level, found.message) == (Level.PASS, "the first 2 frames are the same in 3 runs")
    assert found.figures == {"runs": 3, "hashes": ["a", "b"]}


def test_a_frame_that_differs_fails_with_its_run_and_number():
    found = judge_determinism([run(), run(), run("ax")])
    assert found.level is Level.FAIL
    assert found.message == "run 3 differs from the first in 1 of 2 frames, from frame 1 on"


def test_a_run_of_fewer_frames_fails():
    assert judge_determinism([run(), run("a")]).level is Level.FAIL


@pytest.mark.parametrize("runs", [[], [run()], [run(()), run(())]])
def test_nothing_to_compare_is_a_warning(runs):
    assert judge_determinism(runs).level is Level.WARN


def test_nothing_left_passes_and_what_is_left_fails_by_name():
    assert judge_leaks([run(), run()], []).level is Level.PASS
    left = judge_leaks([run(), run()], ["thread 'forgotten'"])
    assert (left.level, left.message) == (Level.FAIL, "left behind: thread 'forgotten'")
    entries = judge_leaks([run(), run(ledger=5)], [])
    assert (entries.level, entries.message) == (Level.FAIL, "left behind: 5 B in the ledger after run 2")


def growing(name, by, runs=8):
    return [run(**{name: 10**8 + by * at}) for at in range(runs)]


def test_memory_that_wanders_passes():
    wandering = [run(traced=10**7 + 10**5 * (at % 3), resident=10**8 + 10**7 * (at % 2)) for at in range(10)]
    assert judge_growth(wandering).level is Level.PASS


def test_what_settles_does_not_count():
    assert judge_growth([run(traced=0), run(traced=10**7), *[run(traced=2 * 10**7)] * 4]).level is Level.PASS


def test_growth_of_what_is_counted_exactly_fails_and_of_the_process_warns():
    assert judge_growth(growing("traced", MOST_TRACED)).level is Level.FAIL
    found = judge_growth(growing("resident", MOST_RESIDENT))
    assert found.level is Level.WARN
    assert found.figures["resident_growth"] == 3 * MOST_RESIDENT


def test_too_few_runs_or_an_unknown_process_are_a_warning():
    assert judge_growth([run()] * (SETTLING + 1)).level is Level.WARN
    assert judge_growth([run(resident=None)] * 8).level is Level.WARN
