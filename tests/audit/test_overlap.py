"""Whether stages overlap: on made-up spans, and on the pipeline itself."""

from __future__ import annotations

import pytest

from rave_trio.audit.findings import Level
from rave_trio.audit.overlap import Span, balanced_run, judge_overlap, overlapping
from rave_trio.pipeline.metrics import STAGES


def shifted(frames, apart):
    """Frames that take each stage a second, handed on ``apart`` seconds after the frame before; 4 is one by one."""
    return [Span(stage, apart * n + at, apart * n + at + 1) for n in range(frames) for at, stage in enumerate(STAGES)]


def test_stages_side_by_side_overlap_all_the_time():
    assert overlapping(shifted(20, 1)) == pytest.approx(1)


def test_frames_one_by_one_do_not_overlap_and_are_a_warning():
    found = judge_overlap(shifted(20, 4))
    assert found.figures["share"] == 0
    assert found.level is Level.WARN


def test_a_share_is_that_of_the_time():
    spans = [Span(STAGES[0], 0, 10), Span(STAGES[-1], 0, 4)]
    assert overlapping(spans) == pytest.approx(0.4)


def test_nothing_is_no_overlap():
    assert overlapping([]) == 0
    assert judge_overlap([]).level is Level.WARN


async def test_the_pipeline_overlaps_stages_of_equal_cost():
    found = judge_overlap((await balanced_run(40)).busy)
    assert found.level is Level.PASS, found


async def test_a_stage_that_takes_most_of_the_time_is_named():
    costs = {**dict.fromkeys(STAGES, 1e-4), "encode": 20e-3}
    found = judge_overlap((await balanced_run(20, costs)).busy)
    assert (found.level, found.stage) == (Level.WARN, "encode")
    assert found.message.endswith("encode was busy longest")
