"""Batches form themselves: full ones where the backend is the slowest stage, and none is waited for."""

from __future__ import annotations

import pytest

from rave_trio.inference.device_batches import depth_for, together
from rave_trio.inference.model import Geometry
from rave_trio.pipeline import PipelineConfig

WHOLE = Geometry(2, 4, overlap=0, tiles=1)


@pytest.mark.parametrize("batch", [2, 4, 8])
async def test_they_are_full_where_the_backend_is_the_slowest_stage(rig, batch):
    rig.config = PipelineConfig(preprocessed_capacity=max(2, together(WHOLE, batch, 1)))
    rig.compute_in_batches(batch, depth_for(WHOLE, batch), slow=True)
    rig.decoder.total = 10 * batch + 1
    await rig.run()
    assert sum(rig.backend.launched) == rig.decoder.total
    first, *between = rig.backend.launched
    assert between[:8] == [batch] * 8, rig.backend.launched
    assert first <= batch


async def test_none_is_waited_for(rig):
    """The decoder gives a second frame only when the first one has been through the whole pipeline."""
    rig.compute_in_batches(4, depth_for(WHOLE, 4), slow=False)
    rig.decoder.total = 3
    gates = [rig.decoder.hold(f"read {index}") for index in (1, 2, 3)]
    async with rig.running() as run:
        for index, gate in enumerate(gates):
            await rig.settled()
            assert rig.encoder.indices == list(range(index + 1))
            gate.open()
    assert run.error is None
    assert rig.backend.launched == [1, 1, 1]
