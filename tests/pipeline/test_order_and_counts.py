"""Every frame in comes out once, in order, with its own times."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rave_trio.pipeline import PipelineConfig, UpscalePipeline


@pytest.mark.parametrize("capacity", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
async def test_every_frame_in_comes_out_once_and_in_order(rig, depth, capacity):
    rig.decoder.total = 20
    rig.backend.depth = depth
    rig.config = PipelineConfig(capacity, capacity, capacity)

    metrics = await rig.run()

    assert rig.encoder.indices == list(range(20))
    assert rig.encoder.finished
    assert metrics.frames_decoded == metrics.frames_encoded == 20
    assert all(stage.frames_in == stage.frames_out == 20 for stage in metrics.stages)
    assert all(channel.sent == channel.received == 20 for channel in metrics.channels)
    assert all(channel.peak <= channel.capacity == capacity for channel in metrics.channels)
    assert all(channel.depth == 0 for channel in metrics.channels)
    assert rig.backend.most_under_way <= depth
    metrics.validate()


@pytest.mark.parametrize("total", [0, 1, 2])
async def test_few_frames_come_out_through_a_deep_backend(rig, total):
    rig.decoder.total = total
    rig.backend.depth = 4

    metrics = await rig.run()

    assert rig.encoder.indices == list(range(total))
    assert rig.encoder.finished
    assert metrics.frames_encoded == total


async def test_pictures_pass_through_every_stage_and_stay_with_their_frames(rig):
    await rig.run()

    assert [frame.native for frame in rig.encoder.written] == [100.0 + i for i in range(rig.decoder.total)]


async def test_times_and_key_frames_are_the_input_s_own(rig):
    await rig.run()

    for i, frame in enumerate(rig.encoder.written):
        assert (frame.pts, frame.duration) == (1000 * i + i % 3, 1000 + i % 2)
        assert frame.time_base == Fraction(1, 90_000)
        assert frame.key_frame == (i % 4 == 0)


async def test_the_decoder_is_read_to_its_end_and_not_beyond(rig):
    await rig.run()

    assert rig.decoder.calls["read"] == rig.decoder.total + 1


async def test_a_backend_is_kept_full_when_frames_wait_for_it(rig):
    rig.backend.depth = 3
    rig.decoder.total = 12
    first = rig.backend.hold("submit 0")

    async with rig.running() as run:
        await rig.settled()  # the channels before it are full now
        second = rig.backend.hold("collect 0")
        first.open()
        await second.reached()
        assert rig.backend.most_under_way == 3
        second.open()

    assert run.error is None


async def test_a_frame_that_is_done_goes_on_while_the_source_is_slow(rig):
    rig.backend.depth = 3
    gate = rig.decoder.hold("read 2")

    async with rig.running() as run:
        await rig.settled()
        assert rig.encoder.indices == [0, 1]
        gate.open()

    assert run.error is None
    assert rig.encoder.indices == list(range(rig.decoder.total))


async def test_the_backend_is_closed_once_the_run_has_ended(rig):
    await rig.run()

    assert rig.backend.calls["close"] == 1


async def test_the_clock_stands_before_the_run_and_after_it(rig):
    pipeline = UpscalePipeline(rig.config)
    assert pipeline.metrics.elapsed == 0

    metrics = await rig.run(pipeline=pipeline)

    assert metrics.elapsed > 0
    assert pipeline.metrics == metrics


async def test_metrics_of_a_run_under_way_say_where_its_frames_are(rig):
    rig.config = PipelineConfig(1, 1, 1)
    rig.backend.depth = 1
    gate = rig.encoder.hold("write 0")

    async with rig.running() as run:
        await rig.settled()
        metrics = run.pipeline.metrics
        gate.open()

    assert [stage.frames_in for stage in metrics.stages] == [7, 5, 3, 1]
    assert [stage.frames_out for stage in metrics.stages] == [6, 4, 2, 0]
    assert [channel.depth for channel in metrics.channels] == [1, 1, 1]
    assert [channel.peak for channel in metrics.channels] == [1, 1, 1]
    assert metrics.elapsed > 0


@pytest.mark.parametrize("field", ["decoded_capacity", "preprocessed_capacity", "upscaled_capacity"])
def test_a_channel_without_room_is_refused(field):
    with pytest.raises(ValueError, match=field):
        PipelineConfig(**{field: 0})
