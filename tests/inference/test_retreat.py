"""When memory runs out the same frames come out of a smaller backend, and none is lost or left open."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

import numpy as np
import pytest

from rave_trio import errors
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.retreat import RetreatingBackend
from rave_trio.memory import HostPool, Ledger


class Backend:
    """Doubles every value; out of memory at the calls that are named."""

    depth = 2

    def __init__(self, pool, failing):
        self.pool, self.failing = pool, set(failing)
        self.jobs = deque()
        self.calls = 0
        self.closed = False

    def _call(self, name, index):
        if f"{name} {index}" in self.failing:
            raise MemoryError(f"{name} {index}")

    def submit(self, frame):
        self._call("submit", frame.index)
        self.jobs.append(frame)

    def collect(self):
        frame = self.jobs.popleft()
        self._call("collect", frame.index)
        if f"break {frame.index}" in self.failing:
            raise errors.InferenceError("the model broke")
        lease = self.pool.lease(frame.tensor.nbytes)
        result = lease.array(frame.tensor.shape, np.float32)
        result[:] = 2 * frame.tensor
        return frame.become(Tensor(result, lease))

    def close(self):
        while self.jobs:
            self.jobs.popleft().close()
        self.closed = True


@pytest.fixture
def pool():
    ledger = Ledger()
    made = HostPool(ledger)
    yield made
    assert made.stats().leased == 0
    made.close()
    assert ledger.stats().current == 0


def frame_of(pool, index):
    lease = pool.lease(48)
    array = lease.array((3, 2, 2), np.float32)
    array[:] = index
    return Frame(index, 100 * index, 100, Fraction(1, 1000), True, Tensor(array, lease))


def run(backend, pool, count=6):
    """All frames through, two under way at a time; the values that come out, in order."""
    values, under_way = [], 0

    def take():
        frame = backend.collect()
        values.append((frame.index, float(frame.tensor[0, 0, 0])))
        frame.close()

    for index in range(count):
        if under_way == 2:
            take()
            under_way -= 1
        frame = frame_of(pool, index)
        try:
            backend.submit(frame)
        except BaseException:
            frame.close()
            raise
        under_way += 1
    for _ in range(under_way):
        take()
    return values


EXPECTED = [(index, 2.0 * index) for index in range(6)]


@pytest.mark.parametrize("failing", ["submit 0", "submit 3", "collect 0", "collect 3", "collect 5"])
def test_the_same_frames_come_out_of_a_smaller_backend(pool, failing):
    made = []

    def make(step):
        made.append(Backend(pool, [failing] if step == 0 else []))
        return made[-1]

    backend = RetreatingBackend(make)
    assert run(backend, pool) == EXPECTED
    assert backend.retreats == 1
    assert made[0].closed
    backend.close()
    backend.close()


def test_it_goes_on_retreating_until_it_fits(pool):
    failing = [["collect 2"], ["submit 3"], ["collect 3"], []]
    backend = RetreatingBackend(lambda step: Backend(pool, failing[step]))
    assert run(backend, pool) == EXPECTED
    assert backend.retreats == 3
    backend.close()


@pytest.mark.parametrize("failing", ["submit 3", "collect 3"])
def test_where_nothing_is_small_enough_it_is_out_of_memory_and_nothing_is_left(pool, failing):
    backend = RetreatingBackend(lambda step: Backend(pool, [failing]) if step < 3 else None)
    with pytest.raises(errors.OutOfMemory, match=f"smallest tiles: {failing}"):
        run(backend, pool)
    backend.close()


def test_one_that_cannot_even_be_made_is_passed_over(pool):
    def make(step):
        if step in (0, 2):
            raise MemoryError(f"step {step}")
        return Backend(pool, ["collect 2"] if step == 1 else [])

    backend = RetreatingBackend(make)
    assert backend.retreats == 1
    assert run(backend, pool) == EXPECTED
    assert backend.retreats == 3
    backend.close()


def test_where_none_can_be_made_it_is_out_of_memory(pool):
    def make(step):
        if step < 3:
            raise MemoryError(f"step {step}")

    with pytest.raises(errors.OutOfMemory, match="smallest tiles: step 2"):
        RetreatingBackend(make)


def test_another_error_is_no_reason_to_retreat(pool):
    backend = RetreatingBackend(lambda step: Backend(pool, ["break 2"]))
    with pytest.raises(errors.InferenceError, match="broke"):
        run(backend, pool)
    assert backend.retreats == 0
    backend.close()
