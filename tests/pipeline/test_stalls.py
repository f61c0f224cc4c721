"""A native call that does not return ends the run; what it uses is left to it."""

from __future__ import annotations

import attrs
import pytest

from rave_trio import errors

CALLS = [
    ("decoder", "read 3", "decode"),
    ("to_tensor", "convert 3", "preprocess"),
    ("backend", "submit 3", "inference"),
    ("backend", "collect 3", "inference"),
    ("to_surface", "convert 3", "inference"),
    ("encoder", "write 3", "encode"),
]


@pytest.fixture
def impatient(rig):
    rig.config = attrs.evolve(rig.config, stall_timeout=0.05)
    return rig


@pytest.mark.parametrize(("part", "call", "stage"), CALLS)
async def test_a_call_that_does_not_return_ends_the_run_and_is_named(impatient, part, call, stage):
    gate = getattr(impatient, part).hold(call)
    async with impatient.running() as run:
        pass
    assert isinstance(run.error, errors.Stalled)
    assert (run.error.stage, run.error.frame) == (stage, 3)
    assert "did not return within 0.05 s on frame 3" in str(run.error)
    assert run.pipeline.abandoned == {stage}
    await impatient.left_behind(gate, run)


async def test_a_flush_that_does_not_return_ends_the_run_too(impatient):
    gate = impatient.encoder.hold("finish")
    async with impatient.running() as run:
        pass
    assert isinstance(run.error, errors.Stalled)
    assert (run.error.stage, run.error.frame) == ("encode", None)
    await impatient.left_behind(gate, run)


async def test_a_backend_that_is_stuck_is_not_closed_under_its_own_call(impatient):
    gate = impatient.backend.hold("collect 2")
    async with impatient.running() as run:
        pass
    assert impatient.backend.calls["close"] == 0
    await impatient.left_behind(gate, run)


async def test_the_frame_of_a_stuck_call_keeps_its_memory(impatient):
    """Native code may still write to it."""
    gate = impatient.encoder.hold("write 0")
    async with impatient.running() as run:
        pass
    assert impatient.alive == 1
    await impatient.left_behind(gate, run)


async def test_a_slow_call_within_the_limit_is_no_stall(rig):
    rig.config = attrs.evolve(rig.config, stall_timeout=rig.patience)
    gate = rig.encoder.hold("write 3")
    async with rig.running() as run:
        await gate.reached()
        gate.open()
    assert run.error is None
    assert rig.encoder.finished
