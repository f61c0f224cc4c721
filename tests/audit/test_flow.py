"""Counts at every hand-over, and the pool's hit rate by the suite's measure."""

from __future__ import annotations

import attrs
import pytest

from rave_trio.audit.findings import AuditFinding, Level
from rave_trio.audit.flow import judge_channels, judge_pool
from rave_trio.pipeline.metrics import STAGES, ChannelMetrics, PipelineMetrics, StageMetrics

CHANNELS = ("decoded", "preprocessed", "upscaled")


@pytest.fixture
def metrics():
    stages = tuple(StageMetrics(name, 7, 7, 1.0, 0.0, 0.0) for name in STAGES)
    return PipelineMetrics(stages, tuple(ChannelMetrics(name, 7, 7, 0, 1, 4) for name in CHANNELS), 1.0)


def test_equal_counts_pass(metrics):
    found = judge_channels(metrics)
    assert (found.level, found.message) == (Level.PASS, "7 frames in and out of each stage and channel")
    assert found.figures["upscaled"] == [7, 7]


@pytest.mark.parametrize("at", range(len(CHANNELS)))
def test_a_frame_lost_in_a_channel_fails_with_the_place(metrics, at):
    channels = list(metrics.channels)
    channels[at] = attrs.evolve(channels[at], received=6)
    found = judge_channels(attrs.evolve(metrics, channels=tuple(channels)))
    assert found.level is Level.FAIL
    assert f"7 frames at {CHANNELS[at]} in, but 6 at {CHANNELS[at]} out" in found.message


@pytest.mark.parametrize(
    ("misses", "level"), [(0, Level.PASS), (10, Level.PASS), (11, Level.WARN), (100, Level.WARN), (101, Level.FAIL)]
)
def test_99_of_100_requests_pass_and_90_warn(misses, level):
    seen = AuditFinding(Level.PASS, "pool", "?", figures={"hits": 1000 - misses, "misses": misses, "leased": 0})
    assert judge_pool(seen).level is level


def test_few_requests_are_a_warning_and_open_leases_stay_a_failure():
    figures = {"hits": 5, "misses": 5, "leased": 0}
    assert judge_pool(AuditFinding(Level.PASS, "pool", "too few", figures=figures)).level is Level.WARN
    assert judge_pool(AuditFinding(Level.FAIL, "pool", "open", figures=figures)).message == "open"
