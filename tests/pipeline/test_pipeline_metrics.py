"""Numbers of a run: what they add up to, and how they tell where a frame went missing."""

from __future__ import annotations

import json

import attrs
import pytest

from rave_trio.errors import FrameCountMismatch
from rave_trio.pipeline import ChannelMetrics, PipelineMetrics, StageMetrics, UpscalePipeline
from rave_trio.pipeline.metrics import BUSY, StageMeter

STAGES = ("decode", "preprocess", "inference", "encode")
CHANNELS = ("decoded", "preprocessed", "upscaled")


def metrics_of(frames: int, busy: tuple[float, ...] = (1, 2, 8, 4)) -> PipelineMetrics:
    return PipelineMetrics(
        tuple(StageMetrics(name, frames, frames, b, 0.0, 0.0) for name, b in zip(STAGES, busy, strict=True)),
        tuple(ChannelMetrics(name, frames, frames, 0, 1, 2) for name in CHANNELS),
        elapsed=10.0,
    )


def with_stage(metrics: PipelineMetrics, at: int, **changes: int) -> PipelineMetrics:
    stages = list(metrics.stages)
    stages[at] = attrs.evolve(stages[at], **changes)
    return attrs.evolve(metrics, stages=tuple(stages))


def with_channel(metrics: PipelineMetrics, at: int, **changes: int) -> PipelineMetrics:
    channels = list(metrics.channels)
    channels[at] = attrs.evolve(channels[at], **changes)
    return attrs.evolve(metrics, channels=tuple(channels))


@pytest.mark.parametrize("busiest", range(4))
def test_the_bottleneck_is_the_stage_that_was_busy_longest(busiest):
    busy = [1.0, 1.5, 1.25, 1.75]
    busy[busiest] = 9
    assert metrics_of(3, tuple(busy)).bottleneck == STAGES[busiest]


def test_a_stage_is_found_by_its_name():
    metrics = metrics_of(3)
    assert [metrics.stage(name).name for name in STAGES] == list(STAGES)


def test_equal_counts_are_valid():
    metrics_of(0).validate()
    metrics_of(7).validate()


@pytest.mark.parametrize("at", range(4))
def test_a_frame_lost_inside_a_stage_is_named(at):
    with pytest.raises(FrameCountMismatch) as caught:
        with_stage(metrics_of(7), at, frames_out=6).validate()
    assert str(caught.value) == f"7 frames at {STAGES[at]} in, but 6 at {STAGES[at]} out"


@pytest.mark.parametrize("at", range(3))
def test_a_frame_lost_between_a_channel_and_the_stage_behind_it_is_named(at):
    with pytest.raises(FrameCountMismatch) as caught:
        with_stage(metrics_of(7), at + 1, frames_in=6).validate()
    assert str(caught.value) == f"7 frames at {CHANNELS[at]} out, but 6 at {STAGES[at + 1]} in"


@pytest.mark.parametrize("at", range(3))
def test_a_frame_lost_in_a_channel_is_named(at):
    with pytest.raises(FrameCountMismatch) as caught:
        with_channel(metrics_of(7), at, received=6).validate()
    assert str(caught.value) == f"7 frames at {CHANNELS[at]} in, but 6 at {CHANNELS[at]} out"


def test_metrics_turn_into_json():
    described = json.loads(json.dumps(metrics_of(2).as_dict()))
    assert [stage["name"] for stage in described["stages"]] == list(STAGES)
    assert [channel["name"] for channel in described["channels"]] == list(CHANNELS)
    assert described["elapsed"] == 10.0


async def test_time_is_accounted_to_work_and_waiting(rig):
    gate = rig.encoder.hold("write 0")

    async with rig.running() as run:
        await rig.settled()
        gate.open()

    for stage in run.result.stages:
        assert stage.busy > 0
        assert stage.busy + stage.waiting_for_input + stage.waiting_for_output <= run.result.elapsed
    assert run.result.stage("decode").waiting_for_input == 0
    assert run.result.stage("encode").waiting_for_output == 0


async def test_every_call_is_in_the_latency_of_its_stage(rig):
    metrics = await rig.run()

    frames = metrics.frames_encoded
    assert frames > 0
    assert metrics.stage("decode").latency.calls == frames + 1, "the end is a call, too"
    assert metrics.stage("preprocess").latency.calls == frames
    assert metrics.stage("inference").latency.calls == 2 * frames + 1, "to submit, to collect, and to close"
    assert metrics.stage("encode").latency.calls == frames + 1
    for stage in metrics.stages:
        assert stage.latency.total == pytest.approx(stage.busy)


async def test_conversion_after_inference_is_counted_within_it(rig):
    metrics = await rig.run()
    assert 0 < metrics.postprocess < metrics.stage("inference").busy


async def test_what_a_stage_does_now_counts_while_it_does_it(rig):
    gate = rig.encoder.hold("write 0")

    async with rig.running() as run:
        await rig.settled()
        first, second = run.pipeline.metrics.stage("encode"), run.pipeline.metrics.stage("encode")
        gate.open()

    assert (first.activity, first.frame) == ("busy", 0)
    assert 0 < first.since < second.since
    assert first.busy == pytest.approx(first.since)
    assert first.busy < second.busy
    assert run.result.stage("encode").activity is None


class Written:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, float, float, int | None]] = []
        self.depths: list[tuple[str, int]] = []

    def span(self, *told) -> None:
        self.spans.append(told)

    def depth(self, *told) -> None:
        self.depths.append(told)


async def test_an_observer_is_told_all_that_the_meters_count(rig):
    written = Written()
    metrics = await rig.run(pipeline=UpscalePipeline(rig.config, rig.waiting, written))

    for stage in metrics.stages:
        for activity in ("busy", "waiting_for_input", "waiting_for_output"):
            told = sum(
                end - start for name, what, start, end, _ in written.spans if (name, what) == (stage.name, activity)
            )
            assert told == pytest.approx(getattr(stage, activity), abs=1e-9)
    written_frames = [told[4] for told in written.spans if told[:2] == ("encode", "busy")]
    assert written_frames == [*range(metrics.frames_encoded), None]
    for channel in metrics.channels:
        depths = [depth for name, depth in written.depths if name == channel.name]
        assert max(depths) == channel.peak
        assert depths[-1] == 0


def test_a_call_may_be_left_behind_just_between_two_frames():
    """The task and the thread then end the same lap."""

    class Unconcerned:
        def span(self, *_) -> None: ...

        def depth(self, *_) -> None: ...

    meter = StageMeter("decode", Unconcerned())
    timer = meter.time(BUSY)
    with timer:
        meter.lap(lambda *_: timer.__exit__(None, None, None))
    assert meter.snapshot().latency.calls == 2
