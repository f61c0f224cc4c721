"""A stage that stands still stops those before it: memory stays within what the channels and hands may hold."""

from __future__ import annotations

import pytest

from rave_trio.pipeline import PipelineConfig

CONFIGS = [PipelineConfig(1, 1, 1), PipelineConfig(2, 1, 3), PipelineConfig()]


def hands_and_channels(config: PipelineConfig) -> int:
    """Frames that channels may hold, and the one in the hands of each stage but the backend."""
    return config.decoded_capacity + config.preprocessed_capacity + config.upscaled_capacity + 4


@pytest.mark.parametrize("config", CONFIGS)
async def test_a_blocked_encoder_bounds_the_frames_alive_exactly(rig, config):
    rig.decoder.total = 40
    rig.backend.depth = 1
    rig.config = config
    gate = rig.encoder.hold("write 0")

    async with rig.running() as run:
        await rig.settled()
        assert rig.alive == hands_and_channels(config)
        assert rig.decoder.calls["read"] == rig.alive
        gate.open()

    assert run.error is None
    assert rig.encoder.indices == list(range(40))


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("config", CONFIGS)
async def test_a_deeper_backend_adds_at_most_what_it_has_under_way(rig, config, depth):
    rig.decoder.total = 40
    rig.backend.depth = depth
    rig.config = config
    gate = rig.encoder.hold("write 0")

    async with rig.running() as run:
        await rig.settled()
        assert hands_and_channels(config) <= rig.alive <= hands_and_channels(config) + depth - 1
        assert rig.decoder.calls["read"] == rig.alive
        gate.open()

    assert run.error is None


@pytest.mark.parametrize("depth", [1, 3])
async def test_a_blocked_backend_stops_the_decoder(rig, depth):
    rig.decoder.total = 40
    rig.backend.depth = depth
    rig.config = PipelineConfig(2, 3, 1)
    gate = rig.backend.hold("submit 0")

    async with rig.running() as run:
        await rig.settled()
        assert rig.alive == 2 + 3 + 3
        assert rig.decoder.calls["read"] == rig.alive
        gate.open()

    assert run.error is None


async def test_a_blocked_converter_stops_the_decoder(rig):
    rig.config = PipelineConfig(2, 3, 1)
    gate = rig.to_tensor.hold("convert 0")

    async with rig.running() as run:
        await rig.settled()
        assert rig.alive == rig.decoder.calls["read"] == 2 + 2
        gate.open()

    assert run.error is None
