"""Quantiles out of bounded memory, held against the sorted times themselves."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_trio.pipeline.latency import LARGEST_ERROR, SHORTEST, Histogram, Latency, upper_edge

TIMES = st.lists(st.floats(1e-6, 4000), min_size=1, max_size=300)


def latency_of(times: list[float]) -> Latency:
    histogram = Histogram()
    for seconds in times:
        histogram.add(seconds)
    return histogram.snapshot()


@given(times=TIMES, share=st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_the_stated_error_of_the_sorted_times(times, share):
    true = sorted(times)[math.ceil(share * len(times)) - 1]
    assert latency_of(times).quantile(share) == pytest.approx(true, rel=LARGEST_ERROR + 1e-9)


@given(times=TIMES)
def test_the_largest_and_the_sum_are_exact(times):
    latency = latency_of(times)
    assert latency.max == max(times)
    assert latency.total == pytest.approx(sum(times))
    assert latency.calls == len(times)


@given(seconds=st.floats(1e-6, 4000))
def test_a_time_lies_between_the_edges_of_its_bucket(seconds):
    bucket = latency_of([seconds]).counts.index(1)
    assert seconds <= upper_edge(bucket) * (1 + 1e-12)
    assert bucket == 0 or seconds >= upper_edge(bucket - 1) * (1 - 1e-12)


@pytest.mark.parametrize("seconds", [0.0, SHORTEST / 3, 1e9])
def test_times_beyond_the_ends_are_counted_too(seconds):
    latency = latency_of([seconds])
    assert latency.calls == 1
    assert latency.quantile(0.5) <= latency.max == seconds


def test_a_million_calls_take_no_more_room_than_one():
    draw = random.Random(1)
    many = latency_of([draw.expovariate(100) for _ in range(1_000_000)])
    assert len(many.counts) == len(latency_of([1.0]).counts)
    assert many.quantile(0.5) == pytest.approx(math.log(2) / 100, rel=LARGEST_ERROR + 0.01)


def test_nothing_called_is_zero_and_plain_values():
    described = json.loads(json.dumps(Histogram().snapshot().as_dict()))
    assert described == {"calls": 0, "total": 0, "p50": 0, "p95": 0, "p99": 0, "max": 0, "buckets": []}
