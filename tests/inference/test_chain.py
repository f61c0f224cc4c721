"""Several backends in a row: order, failures, memory, and what is left."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

import numpy as np
import pytest

from rave_trio import errors
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.chain import ChainedBackend
from rave_trio.inference.retreat import RetreatingBackend


class Lease:
    """Counts what is open."""

    open = 0

    def __init__(self) -> None:
        Lease.open += 1
        self._closed = False

    def close(self) -> None:
        Lease.open -= not self._closed
        self._closed = True


class Adding:
    """Adds a number; fails where it is told to, at submit or at collect."""

    def __init__(
        self, number: int, depth: int = 2, *, submits: dict | None = None, collects: dict | None = None
    ) -> None:
        self.depth = depth
        self.most = 0
        self.closed = False
        self._number = number
        self._submits, self._collects = submits or {}, collects or {}
        self._frames: deque[Frame] = deque()

    def submit(self, frame: Frame) -> None:
        if frame.index in self._submits:
            raise self._submits[frame.index]
        self._frames.append(frame)
        self.most = max(self.most, len(self._frames))

    def collect(self) -> Frame:
        frame = self._frames.popleft()
        if frame.index in self._collects:
            frame.close()
            raise self._collects[frame.index]
        return frame.become(Tensor(frame.tensor * 10 + self._number, Lease()))

    def close(self) -> None:
        self.closed = True
        while self._frames:
            self._frames.popleft().close()


@pytest.fixture(autouse=True)
def nothing_left():
    Lease.open = 0
    yield
    assert Lease.open == 0


def frame(index: int) -> Frame:
    return Frame(index, index, 1, Fraction(1, 25), False, Tensor(np.array([index + 1]), Lease()))


def through(backend, count: int) -> list:
    """What comes out for each of ``count`` frames, in order, the backend kept full as the pipeline does."""
    results, under_way = [], deque()
    for index in range(count):
        if len(under_way) == backend.depth:
            results.append(taken(backend, under_way.popleft()))
        backend.submit(frame(index))
        under_way.append(index)
    while under_way:
        results.append(taken(backend, under_way.popleft()))
    return results


def taken(backend, index: int):
    try:
        done = backend.collect()
    except errors.RaveError as error:
        return str(error)
    assert done.index == index
    value = int(done.tensor[0])
    done.close()
    return value


@pytest.mark.parametrize("depths", [(1, 1), (1, 3), (3, 1), (2, 2, 2), (4, 1, 3)])
def test_frames_go_through_all_stages_in_order_and_no_stage_is_given_more_than_its_depth(depths):
    stages = [Adding(number + 1, depth) for number, depth in enumerate(depths)]
    chain = ChainedBackend(stages)
    assert chain.depth == sum(depths)
    tail = int("".join(str(number + 1) for number in range(len(depths))))
    assert through(chain, 12) == [(index + 1) * 10 ** len(depths) + tail for index in range(12)]
    assert [stage.most for stage in stages] == list(depths)
    chain.close()


@pytest.mark.parametrize(
    ("number", "how"), [(0, "collects"), (1, "submits"), (1, "collects"), (2, "submits"), (2, "collects")]
)
def test_a_frame_that_fails_on_its_way_fails_in_its_turn_and_no_other_does(number, how):
    failing = {4: errors.InferenceError("model b failed on frame 4")}
    stages = [Adding(1, 2, **({how: failing} if at == number else {})) for at in range(3)]
    chain = ChainedBackend(stages)
    expected = [(index + 1) * 1000 + 111 for index in range(9)]
    expected[4] = "model b failed on frame 4"
    assert through(chain, 9) == expected
    chain.close()


def test_a_frame_that_cannot_be_submitted_stays_the_callers():
    chain = ChainedBackend([Adding(1, submits={0: MemoryError()}), Adding(2)])
    mine = frame(0)
    with pytest.raises(MemoryError):
        chain.submit(mine)
    assert mine.picture is not None
    mine.close()
    assert through(chain, 0) == []
    chain.close()


def test_closing_drops_all_frames_and_closes_every_stage_even_if_one_refuses():
    class Refusing(Adding):
        def close(self) -> None:
            super().close()
            raise RuntimeError("planted")

    stages = [Adding(1), Refusing(2), Adding(3)]
    chain = ChainedBackend(stages)
    for index in range(5):
        chain.submit(frame(index))
    with pytest.raises(RuntimeError, match="planted"):
        chain.close()
    assert all(stage.closed for stage in stages)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("how", ["submits", "collects"])
def test_out_of_memory_anywhere_in_the_chain_makes_way_for_a_smaller_one_without_losing_a_frame(number, how):
    made = []

    def make(step: int):
        if step > 1:
            return None
        scarce = {how: {3: MemoryError("no memory")}} if step == 0 else {}
        made.append([Adding(1, 2 - step, **(scarce if at == number else {})) for at in range(2)])
        return ChainedBackend(made[-1])

    backend = RetreatingBackend(make)
    assert through(backend, 8) == [(index + 1) * 100 + 11 for index in range(8)]
    assert backend.retreats == 1
    assert all(stage.closed for stage in made[0])
    backend.close()
