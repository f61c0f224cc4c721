"""A stage's call goes on with the next frame on its own thread, as long as one waits and there is room."""

from __future__ import annotations

import math
import os
import threading
import time

import attrs
import pytest
import trio
import trio.testing

from rave_trio.errors import EncodeError, Stalled
from rave_trio.pipeline import PipelineConfig, Stop, UpscalePipeline

PATIENCE = 10.0
"""Seconds after which a test that hangs is given up."""

CALLS = [
    ("decoder", "read"),
    ("to_tensor", "convert"),
    ("backend", "submit"),
    ("backend", "collect"),
    ("to_surface", "convert"),
    ("encoder", "write"),
]


def blocked_until(happened):
    """Keep the Trio thread from everything else until ``happened()``."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it needs the Trio thread"
        os.sched_yield()


@pytest.mark.parametrize(
    ("part", "held", "call", "count"),
    [
        ("decoder", "read 0", "read", 4 + 1),
        ("to_tensor", "convert 0", "convert", 2 + 1),
        ("backend", "submit 0", "collect", 3),
        ("encoder", "write 0", "write", 1 + 3 + 1),
    ],
)
async def test_what_waits_is_worked_on_while_the_trio_thread_does_something_else(rig, part, held, call, count):
    """As many frames as the channels hold; of the encoder's one was in the hands of the stage before."""
    rig.decoder.total = 20
    rig.config = PipelineConfig(decoded_capacity=4, preprocessed_capacity=2, upscaled_capacity=3)
    gate = getattr(rig, part).hold(held)

    async with rig.running() as run:
        await gate.reached()
        await rig.settled()
        gate.open()
        blocked_until(lambda: getattr(rig, part).calls[call] >= count)

    assert run.error is None
    assert rig.encoder.indices == list(range(20))


@pytest.mark.parametrize(("part", "call"), CALLS)
async def test_no_call_begins_once_the_run_is_cancelled_not_even_before_a_task_has_felt_it(rig, part, call):
    rig.decoder.total = 20
    gate = getattr(rig, part).hold(f"{call} 3")

    async with rig.running(stop=Stop(), stoppable=False) as run:
        await gate.reached()
        await rig.settled()
        calls = {each: each.calls.copy() for each in rig.parts}
        run.scope.cancel()
        gate.open()

    assert run.scope.cancelled_caught
    calls[rig.backend]["close"] += 1
    if call == "collect":
        calls[rig.to_surface]["convert"] += 1  # collecting and converting are one step
    assert {each: each.calls for each in rig.parts} == calls


async def test_no_frame_is_read_once_the_surrounding_scope_is_cancelled_not_even_before_a_task_has_felt_it(rig):
    gate = rig.decoder.hold("read 3")

    async with rig.running() as run:
        await gate.reached()
        await rig.settled()
        run.scope.cancel()
        gate.open()

    assert rig.encoder.finished
    assert rig.encoder.indices == [0, 1, 2, 3]
    assert rig.decoder.calls["read"] == 4


@pytest.fixture
async def held_twice(rig, mock_clock):
    """An encoder that is held in two frames of the same call; time stands still."""
    rig.patience = math.inf
    return rig.encoder.hold("write 0"), rig.encoder.hold("write 1")


async def test_each_frame_has_its_own_time_before_it_is_taken_to_be_stuck(rig, held_twice, mock_clock):
    rig.config = attrs.evolve(rig.config, stall_timeout=10)
    first, second = held_twice

    async with rig.running() as run:
        await rig.settled()
        mock_clock.jump(9)
        first.open()
        await second.reached()
        await rig.settled()
        mock_clock.jump(9)
        await trio.testing.wait_all_tasks_blocked()
        assert not run.pipeline.abandoned
        mock_clock.jump(2)

    assert isinstance(run.error, Stalled)
    assert (run.error.stage, run.error.frame) == ("encode", 1)
    await rig.left_behind(second, run)
    blocked_until(lambda: not rig.alive)
    assert rig.encoder.indices == [0, 1], "what was left behind takes no other frame"


async def test_each_frame_begins_the_grace_period_anew(rig, held_twice, mock_clock):
    stop = Stop(grace=30)
    first, second = held_twice

    async with rig.running(stop=stop) as run:
        await rig.settled()
        stop.request()
        mock_clock.jump(20)
        first.open()
        await second.reached()
        await rig.settled()
        mock_clock.jump(20)
        await rig.settled()
        second.open()

    assert run.error is None
    assert rig.encoder.finished


async def test_a_frame_is_closed_when_it_is_written_and_not_when_its_call_ends(rig, held_twice):
    first, second = held_twice

    async with rig.running():
        await rig.settled()
        open_now = rig.alive
        first.open()
        blocked_until(lambda: rig.encoder.calls["write"] == 2)
        assert rig.alive == open_now - 1
        second.open()


async def test_an_error_in_the_middle_of_a_call_is_of_the_frame_where_it_happened(rig):
    first = rig.encoder.hold("write 0")
    rig.encoder.fail("write 2", EncodeError("boom"))

    async with rig.running() as run:
        await rig.settled()
        first.open()
        blocked_until(lambda: rig.encoder.calls["write"] == 3)

    assert (run.error.stage, run.error.frame) == ("encode", 2)


class Told:
    """An observer that notes in which threads it is told."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.written: list[int | None] = []

    def span(self, stage, activity, start, end, frame) -> None:
        self.threads.add(threading.get_ident())
        if (stage, activity) == ("encode", "busy"):
            self.written.append(frame)

    def depth(self, channel, depth) -> None:
        self.threads.add(threading.get_ident())


async def test_an_observer_is_told_of_each_frame_in_the_trio_thread(rig):
    told = Told()
    gate = rig.encoder.hold("write 0")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: rig.run(pipeline=UpscalePipeline(rig.config, rig.waiting, told)))
        await gate.reached()
        await rig.settled()
        gate.open()

    assert told.threads == {threading.get_ident()}
    assert told.written == [*range(rig.decoder.total), None]
