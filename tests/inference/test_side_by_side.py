"""Backends side by side are one: frames in turn, results in order, and each closes whatever befalls another."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

import numpy as np
import pytest

from rave_trio.frames import Frame, Tensor
from rave_trio.inference.side_by_side import SideBySide


class Lane:
    """Gives frames back as they are."""

    depth = 3

    def __init__(self) -> None:
        self.frames: deque[Frame] = deque()
        self.taken: list[int] = []
        self.closed = 0
        self.refuses = self.breaks = False

    def submit(self, frame: Frame) -> None:
        if self.refuses:
            raise MemoryError
        self.frames.append(frame)
        self.taken.append(frame.index)

    def collect(self) -> Frame:
        return self.frames.popleft()

    def close(self) -> None:
        self.closed += 1
        if self.breaks:
            raise RuntimeError("closing broke")


def frame(index: int) -> Frame:
    return Frame(index, index, 1, Fraction(1, 25), False, Tensor(np.zeros((3, 1, 1), np.float32), None))


@pytest.fixture
def lanes():
    return [Lane() for _ in range(3)]


def test_frames_go_in_turn_and_come_back_in_order(lanes):
    backend = SideBySide(lanes)
    for index in range(7):
        backend.submit(frame(index))
    assert [lane.taken for lane in lanes] == [[0, 3, 6], [1, 4], [2, 5]]
    assert [backend.collect().index for _ in range(7)] == list(range(7))


def test_each_adds_its_frames_but_for_the_one_on_its_way(lanes):
    assert SideBySide(lanes).depth == 2 + 2 + 2 + 1
    assert SideBySide(lanes[:1]).depth == 3


def test_a_frame_that_is_refused_is_not_waited_for_and_may_come_again(lanes):
    backend = SideBySide(lanes)
    backend.submit(frame(0))
    lanes[1].refuses = True
    with pytest.raises(MemoryError):
        backend.submit(frame(1))
    lanes[1].refuses = False
    backend.submit(frame(1))
    assert [lane.taken for lane in lanes] == [[0], [1], []]
    assert [backend.collect().index for _ in range(2)] == [0, 1]


def test_all_are_closed_even_if_one_breaks(lanes):
    backend = SideBySide(lanes)
    lanes[1].breaks = True
    with pytest.raises(RuntimeError, match="closing broke"):
        backend.close()
    assert [lane.closed for lane in lanes] == [1, 1, 1]
