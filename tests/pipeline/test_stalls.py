"""A native call that does not return ends the run; what it uses is left to it."""

from __future__ import annotations

import math
import types

import attrs
import pytest
import trio
import trio.testing

from rave_trio import errors
from rave_trio.pipeline import stalls

CALLS = [
    ("decoder", "read 3", "decode"),
    ("to_tensor", "convert 3", "preprocess"),
    ("backend", "submit 3", "inference"),
    ("backend", "collect 3", "inference"),
    ("to_surface", "convert 3", "inference"),
    ("encoder", "write 3", "encode"),
]


PATIENCE = 0.2
"""Seconds; long enough that calls that return are not taken for stuck on a machine with much else to do."""


@pytest.fixture
def impatient(rig):
    rig.config = attrs.evolve(rig.config, stall_timeout=PATIENCE)
    return rig


@pytest.mark.parametrize(("part", "call", "stage"), CALLS)
async def test_a_call_that_does_not_return_ends_the_run_and_is_named(impatient, part, call, stage):
    gate = getattr(impatient, part).hold(call)
    async with impatient.running() as run:
        pass
    assert isinstance(run.error, errors.Stalled)
    assert (run.error.stage, run.error.frame) == (stage, 3)
    assert f"did not return within {PATIENCE} s on frame 3" in str(run.error)
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


async def test_a_call_is_not_taken_to_be_stuck_because_the_process_was_stopped(rig, mock_clock, monkeypatch):
    """As by Ctrl+Z: Trio's clock and the world's go on, and nothing runs."""
    world = [trio.current_time, lambda: 0.0]
    monkeypatch.setattr(stalls, "time", types.SimpleNamespace(monotonic=lambda: world[0]()))
    rig.patience = math.inf
    rig.config = attrs.evolve(rig.config, stall_timeout=10)
    gate = rig.encoder.hold("write 3")
    async with rig.running() as run:
        await rig.settled()
        mock_clock.jump(100)
        await trio.testing.wait_all_tasks_blocked()
        assert not run.pipeline.abandoned
        world.pop(0)
        mock_clock.jump(11)
    assert isinstance(run.error, errors.Stalled)
    await rig.left_behind(gate, run)
