"""Askers that meet in the pool at awkward moments: nobody is refused, or left waiting, where there will be room."""

from __future__ import annotations

import threading

import pytest

from rave_trio import errors
from rave_trio.devices.pool import DevicePool
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.memory import Ledger
from rave_trio.memory.pool import SMALLEST

PATIENCE = 5.0


class Door:
    """A place where one thread at a time can be held."""

    def __init__(self):
        self.closed = False
        self.reached = threading.Event()
        self._open = threading.Event()

    def __call__(self):
        if self.closed:
            self.reached.set()
            assert self._open.wait(PATIENCE)

    def open(self):
        self.closed = False
        self._open.set()


class Asker(threading.Thread):
    """Asks for memory; ``result`` is the lease or the error."""

    def __init__(self, pool, pages):
        super().__init__(daemon=True)
        self.pool, self.pages, self.result = pool, pages, None
        self.start()

    def run(self):
        try:
            self.result = self.pool.lease(self.pages * SMALLEST)
        except BaseException as error:
            self.result = error

    def waits_or_has_ended(self):
        while self.is_alive() and not self.pool.stats().waits:
            pass

    def lease(self):
        self.join(PATIENCE)
        assert not self.is_alive(), "nobody tells the asker that there is room"
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


class Rig:
    def __init__(self, pages, capacity=100):
        self.device = SimulatedDevice(capacity * SMALLEST)
        self.making, self.freeing = Door(), Door()
        self.ledger = Ledger(pages and pages * SMALLEST)

        def allocate(nbytes):
            self.making()
            return self.device.allocate(nbytes)

        def free(memory):
            self.freeing()
            memory.close()

        self.pool = DevicePool(self.ledger, allocate, free)


@pytest.fixture
def rig():
    rigs = []

    def make(pages, **how):
        rigs.append(Rig(pages, **how))
        return rigs[-1]

    yield make
    for made in rigs:
        made.making.open()
        made.freeing.open()
        made.device.close()


def test_memory_that_is_being_allocated_for_another_is_waited_for(rig):
    rig = rig(pages=3)
    rig.making.closed = True
    first = Asker(rig.pool, 2)
    assert rig.making.reached.wait(PATIENCE)
    second = Asker(rig.pool, 2)
    second.waits_or_has_ended()
    rig.making.open()
    first.lease().close()
    second.lease().close()


def test_memory_that_another_tries_in_vain_to_allocate_is_free_again(rig):
    rig = rig(pages=3)
    rig.making.closed = True
    rig.device.fail_allocation()
    first = Asker(rig.pool, 2)
    assert rig.making.reached.wait(PATIENCE)
    second = Asker(rig.pool, 2)
    second.waits_or_has_ended()
    rig.making.open()
    with pytest.raises(errors.OutOfMemory, match="cannot be allocated"):
        first.lease()
    second.lease().close()


def test_memory_that_is_being_freed_is_waited_for(rig):
    rig = rig(pages=4)
    rig.pool.lease(4 * SMALLEST).close()
    rig.freeing.closed = True
    first = Asker(rig.pool, 1)
    assert rig.freeing.reached.wait(PATIENCE)
    second = Asker(rig.pool, 2)
    second.waits_or_has_ended()
    rig.freeing.open()
    first.lease()
    second.lease()


def test_who_waits_is_told_when_another_has_freed_more_than_it_takes(rig):
    rig = rig(pages=5)
    large, held = rig.pool.lease(4 * SMALLEST), rig.pool.lease(SMALLEST)
    large.close()
    rig.freeing.closed = True
    first = Asker(rig.pool, 1)
    assert rig.freeing.reached.wait(PATIENCE)
    second = Asker(rig.pool, 2)
    second.waits_or_has_ended()
    rig.freeing.open()
    first.lease()
    second.lease()
    held.close()


def test_memory_that_is_being_trimmed_is_waited_for(rig):
    rig = rig(pages=4)
    rig.pool.lease(4 * SMALLEST).close()
    rig.freeing.closed = True
    trimmer = threading.Thread(target=rig.pool.trim, daemon=True)
    trimmer.start()
    assert rig.freeing.reached.wait(PATIENCE)
    asker = Asker(rig.pool, 2)
    asker.waits_or_has_ended()
    rig.freeing.open()
    trimmer.join(PATIENCE)
    asker.lease()


def test_memory_given_back_just_after_looking_for_it_is_found():
    """The last lease comes back when the asker has found nothing, and has not yet asked whether anybody holds any."""
    device = SimulatedDevice(SMALLEST)
    lent = []

    class Pool(DevicePool):
        def _evict_one(self):
            found = super()._evict_one()
            if not found and lent:
                lent.pop().close()
            return found

    pool = Pool(Ledger(SMALLEST), device.allocate, lambda memory: memory.close())
    lent.append(pool.lease(SMALLEST))
    pool.lease(SMALLEST).close()
    device.close()


def test_memory_of_a_full_device_that_is_being_freed_is_waited_for(rig):
    """Without a limit too, where all there is to know is that the device has no more."""
    rig = rig(pages=None, capacity=4)
    rig.pool.lease(4 * SMALLEST).close()
    rig.freeing.closed = True
    first = Asker(rig.pool, 1)
    assert rig.freeing.reached.wait(PATIENCE)
    second = Asker(rig.pool, 2)
    second.waits_or_has_ended()
    rig.freeing.open()
    first.lease()
    second.lease()


def test_two_who_find_a_device_full_are_both_refused(rig):
    """Neither waits for what the other has not got."""
    rig = rig(pages=None, capacity=4)
    held = rig.pool.lease(4 * SMALLEST)
    rig.making.closed = True
    askers = [Asker(rig.pool, 1), Asker(rig.pool, 2)]
    assert rig.making.reached.wait(PATIENCE)
    rig.making.open()
    for asker in askers:
        with pytest.raises(errors.OutOfMemory, match="cannot be allocated"):
            asker.lease()
    held.close()
