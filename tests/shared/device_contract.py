"""What every device promises, the simulated one and the real ones alike: tests/gpu runs the same tests on CUDA."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from rave_trio import errors
from rave_trio.devices.interface import Device, DeviceMemory, Event, LaunchError, Stream, use
from rave_trio.devices.pool import device_pool, pinned_pool
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.memory import Ledger
from rave_trio.memory.pool import COARSE, SMALLEST


class DeviceContract:
    """Inherit this where there is a fixture ``rig``; the device may be shared, so accounts are taken as differences."""

    def test_it_is_a_device(self, rig):
        device: Device = rig.device
        stream: Stream = device.stream()
        event: Event = stream.record()
        memory: DeviceMemory = device.allocate(8)
        event.wait()
        assert event.query()
        assert memory.nbytes == 8
        assert memory.last_use is None
        memory.close()

    def test_memory_is_counted_to_the_byte(self, rig):
        before = rig.device.used
        first, second = rig.device.allocate(1000), rig.device.allocate(1)
        assert rig.device.used == before + 1001
        first.close()
        first.close()
        assert rig.device.used == before + 1
        second.close()
        assert rig.device.used == before
        assert before + 1001 <= rig.device.peak <= rig.device.capacity
        assert 0 < rig.device.free <= rig.device.capacity

    def test_more_than_there_is_cannot_be_allocated_and_takes_nothing(self, rig):
        before = rig.device.used
        for _ in range(2):
            with pytest.raises(MemoryError):
                rig.device.allocate(rig.device.capacity + 1)
        assert rig.device.used == before
        rig.device.allocate(1).close()

    def test_memory_that_is_closed_has_neither_address_nor_array(self, rig):
        memory = rig.device.allocate(16)
        assert memory.pointer
        memory.close()
        with pytest.raises(ValueError, match="closed"):
            _ = memory.pointer
        with pytest.raises(ValueError, match="closed"):
            memory.array((4,), np.float32)

    def test_an_array_is_no_larger_than_its_memory(self, rig):
        memory = rig.device.allocate(4 * 6 + 3)
        assert memory.array((2, 3), np.float32).shape == (2, 3)
        with pytest.raises(ValueError, match="fit into 27"):
            memory.array((7,), np.float32)
        memory.close()

    def test_memory_is_counted_right_when_many_threads_ask(self, rig):
        before = rig.device.used

        def work():
            for _ in range(50):
                rig.device.allocate(8).close()

        run_all([threading.Thread(target=work) for _ in range(4)])
        assert rig.device.used == before

    def test_the_work_of_one_stream_is_done_in_order(self, rig):
        stream, memory = rig.device.stream(), rig.device.allocate(4096)
        with use(stream, memory):
            for value in range(1, 100):
                rig.fill(stream, memory, value)
        assert (rig.read(memory) == 99).all()
        memory.close()

    def test_launching_returns_before_the_work_is_done(self, rig):
        stream, memory = rig.device.stream(), rig.device.allocate(4096)
        with rig.held(stream):
            rig.fill(stream, memory, 1)
            event = stream.record()
            assert not event.query()
        event.wait()
        assert event.query()
        stream.synchronize()
        memory.close()

    def test_work_on_another_stream_comes_after_the_last_use_of_the_same_memory(self, rig):
        first, second, memory = rig.device.stream(), rig.device.stream(), rig.device.allocate(1 << 20)
        with rig.held(first):
            with use(first, memory):
                rig.fill(first, memory, 1)
            with use(second, memory):
                rig.fill(second, memory, 2)
            assert not memory.last_use.query(), "the second stream did not wait for the first"
        assert (rig.read(memory) == 2).all()
        memory.close()

    def test_the_last_use_is_noted_also_if_a_launch_fails(self, rig):
        stream, memory = rig.device.stream(), rig.device.allocate(8)
        with pytest.raises(ZeroDivisionError), use(stream, memory):
            rig.fill(stream, memory, 1)
            raise ZeroDivisionError
        assert (rig.read(memory) == 1).all()
        memory.close()

    def test_an_event_of_another_device_cannot_be_waited_for(self, rig):
        other = SimulatedDevice(0)
        with pytest.raises(ValueError, match="another device"):
            rig.device.stream().wait(other.stream().record())
        other.close()

    def test_any_thread_may_launch_record_and_wait(self, rig):
        stream = rig.device.stream()
        memories = [rig.device.allocate(4096) for _ in range(4)]
        wrong = []

        def work(memory, value):
            for _ in range(20):
                with use(stream, memory):
                    rig.fill(stream, memory, value)
            if not (rig.read(memory) == value).all():
                wrong.append(value)

        run_all([threading.Thread(target=work, args=(memory, at + 1)) for at, memory in enumerate(memories)])
        assert not wrong
        for memory in memories:
            memory.close()

    def test_page_locked_memory_is_the_hosts_and_counted_apart(self, rig):
        used, pinned = rig.device.used, rig.device.pinned
        memory: DeviceMemory = rig.device.pin(1000)
        assert (rig.device.used - used, rig.device.pinned - pinned, memory.nbytes) == (0, 1000, 1000)
        array = memory.array((10, 25), np.float32)
        assert isinstance(array, np.ndarray)
        array[:] = 7
        assert (memory.array((1000,), np.uint8).view(np.float32) == 7).all()
        with pytest.raises(ValueError, match="fit"):
            memory.array((1001,), np.uint8)
        memory.close()
        memory.close()
        assert rig.device.pinned == pinned
        with pytest.raises(ValueError, match="closed"):
            memory.array((4,), np.float32)

    # The pool on it

    def test_a_pool_of_page_locked_memory_takes_none_of_the_devices(self, rig):
        ledger, used, pinned = Ledger(), rig.device.used, rig.device.pinned
        pool = pinned_pool(rig.device, ledger, "downloads")
        pool.lease(SMALLEST).close()
        assert rig.device.pinned - pinned == ledger.stats().by_owner["downloads"] == SMALLEST
        assert rig.device.used == used
        pool.close()
        assert rig.device.pinned - pinned == ledger.stats().current == 0

    def test_the_ledger_agrees_with_the_device_and_closing_the_pool_leaves_nothing(self, rig):
        ledger, before = Ledger(), rig.device.used
        pool = device_pool(rig.device, ledger, owner="frames")
        leases = [pool.lease(nbytes) for nbytes in (1, SMALLEST, 2 * SMALLEST)]
        assert rig.device.used - before == ledger.stats().by_owner["frames"] == 4 * SMALLEST
        assert leases[2].array((SMALLEST, 2), np.uint8).shape == (SMALLEST, 2)
        for lease in leases:
            assert not lease.closed
            lease.close()
            assert lease.closed
        assert pool.stats().idle_bytes == 4 * SMALLEST
        pool.close()
        assert rig.device.used - before == ledger.stats().current == 0

    def test_memory_is_lent_again_while_work_with_it_is_under_way_and_the_order_holds(self, rig):
        pool = device_pool(rig.device, Ledger())
        first, second, lease = rig.device.stream(), rig.device.stream(), pool.lease(COARSE)
        memory = lease.memory
        with rig.held(first):
            with use(first, memory):
                rig.fill(first, memory, 1)
            lease.close()
            again = pool.lease(COARSE)
            assert again.memory is memory
            with use(second, again.memory):
                rig.fill(second, again.memory, 2)
        assert (rig.read(memory) == 2).all()
        again.close()
        pool.close()

    def test_idle_memory_with_work_under_way_is_freed_after_it(self, rig):
        ledger = Ledger(2 * COARSE)
        pool = device_pool(rig.device, ledger)
        stream, lease = rig.device.stream(), pool.lease(COARSE)
        with use(stream, lease.memory):
            for value in range(50):
                rig.fill(stream, lease.memory, value)
        lease.close()
        larger = pool.lease(2 * COARSE)
        assert pool.stats().evictions == 1
        stream.synchronize()
        larger.close()
        pool.close()
        assert ledger.stats().current == 0

    def test_a_full_device_gives_up_what_is_idle_and_then_says_that_it_is_full(self, rig):
        before = rig.device.used
        pool = device_pool(rig.device, Ledger(), owner="frames")
        pool.lease(COARSE).close()
        with pytest.raises(errors.OutOfMemory, match="bytes cannot be allocated for frames"):
            pool.lease(2 * rig.device.capacity)
        assert pool.stats().evictions == 1
        assert rig.device.used == before
        pool.lease(COARSE).close()
        pool.close()


class ClosingContract:
    """Inherit this where there is a fixture ``own_rig`` with a device of its own."""

    def test_a_device_that_is_closed_takes_no_more_work(self, own_rig):
        stream = own_rig.device.stream()
        own_rig.device.close()
        own_rig.device.close()
        with pytest.raises(LaunchError, match="closed"):
            stream.launch(int)
        with pytest.raises(LaunchError, match="closed"):
            stream.record()

    def test_memory_outlives_its_device(self, own_rig):
        memory = own_rig.device.allocate(8)
        own_rig.device.close()
        assert memory.pointer
        memory.close()
        assert own_rig.device.used == 0


def run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
