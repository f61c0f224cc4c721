"""Numbers over time stay few however long a run is, and say the same."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_trio.observe.series import POINTS, Series, largest, last, mean, rates

COLUMNS = {"count": last, "depth": mean, "memory": largest}


def series_of(depths: list[float]) -> dict[str, list[float | None]]:
    series = Series(COLUMNS)
    for count, depth in enumerate(depths, 1):
        series.add({"count": count, "depth": depth, "memory": depth})
    return series.columns()


@given(depths=st.lists(st.integers(0, 100), min_size=1, max_size=2000))
def test_a_series_keeps_the_end_the_mean_and_the_most(depths):
    columns = series_of(depths)
    counts = columns["count"]
    assert len(counts) < POINTS
    assert counts == sorted(counts)
    assert counts[-1] == len(depths)
    assert max(columns["memory"]) == max(depths)
    samples = [now - before for before, now in zip([0, *counts], counts, strict=False)]
    total = sum(depth * n for depth, n in zip(columns["depth"], samples, strict=True))
    assert total == pytest.approx(sum(depths), abs=1e-3 * len(depths))


def test_a_short_series_is_kept_sample_by_sample():
    assert series_of([3, 1, 2])["depth"] == [3, 1, 2]


def test_a_full_series_has_half_the_points_and_goes_on_with_half_the_resolution():
    assert len(series_of([1.0] * (POINTS - 1))["count"]) == POINTS - 1
    halved = series_of([1.0] * POINTS)["count"]
    assert halved == [*range(2, POINTS + 1, 2)]
    assert series_of([1.0] * (POINTS + 3))["count"] == [*halved, POINTS + 2, POINTS + 3]


def test_what_is_not_known_at_times_is_what_was_known():
    series = Series({"memory": largest})
    for at in range(POINTS):
        series.add({"memory": None if at % 2 else 7.0})
    assert series.columns()["memory"] == [7.0] * (POINTS // 2)


def test_a_column_of_nothing_stays_nothing():
    series = Series({"gpu": mean})
    for _ in range(2 * POINTS):
        series.add({})
    assert set(series.columns()["gpu"]) == {None}


def test_rates_are_taken_over_the_window_before_each_point():
    seconds = [0.0, 1.0, 2.0, 3.0, 4.0]
    assert rates([0, 10, 20, 20, 20], seconds, window=1.0) == [0, 10, 10, 0, 0]
    assert rates([0, 10, 20, 20, 20], seconds, window=2.0) == [0, 10, 10, 5, 0]
    assert rates([], [], 1.0) == []
    assert all(math.isfinite(rate) for rate in rates([1, 2], [5.0, 5.0], 1.0))
