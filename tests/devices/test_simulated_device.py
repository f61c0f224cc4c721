"""The simulated device: memory to the byte, streams that run behind and out of order, failures on request."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from rave_trio import errors
from rave_trio.devices.interface import Device, DeviceMemory, Event, LaunchError, Stream
from rave_trio.devices.pool import device_pool
from rave_trio.devices.simulated import THREAD_NAME, SimulatedDevice
from rave_trio.memory import Ledger
from rave_trio.memory.pool import SMALLEST

SEEDS = range(8)


@pytest.fixture
def device():
    device = SimulatedDevice(10 * SMALLEST, latency=1e-3)
    yield device
    device.close()


def test_a_simulated_device_is_a_device(device):
    as_device: Device = device
    stream: Stream = as_device.stream()
    event: Event = stream.record()
    memory: DeviceMemory = as_device.allocate(8)
    event.wait()
    assert event.query()
    assert memory.nbytes == 8


# Memory


def test_memory_is_counted_to_the_byte(device):
    first, second = device.allocate(1000), device.allocate(1)
    assert (device.used, device.free) == (1001, 10 * SMALLEST - 1001)
    first.close()
    first.close()
    assert (device.used, device.peak) == (1, 1001)
    second.close()
    assert (device.used, device.free) == (0, device.capacity)


def test_there_is_no_more_memory_than_the_capacity(device):
    held = device.allocate(device.capacity)
    with pytest.raises(MemoryError, match="1 bytes asked for, 0 of 40960 left"):
        device.allocate(1)
    held.close()
    device.allocate(1).close()


def test_memory_is_seen_in_the_shape_and_type_that_is_asked_for(device):
    memory = device.allocate(4 * 6 + 3)
    array = memory.array((2, 3), np.float32)
    array[:] = 7
    assert (memory.array((6,), np.float32) == 7).all()
    with pytest.raises(ValueError, match="28 bytes does not fit into 27"):
        memory.array((7,), np.float32)


def test_memory_that_is_closed_cannot_be_used_and_what_is_left_of_it_is_no_number(device):
    memory = device.allocate(16)
    array = memory.array((4,), np.float32)
    array[:] = 1
    memory.close()
    assert np.isnan(array).all()
    with pytest.raises(ValueError, match="closed"):
        memory.array((4,), np.float32)


@pytest.mark.parametrize("nth", [1, 3])
def test_an_allocation_fails_when_it_is_planted_and_takes_nothing(device, nth):
    device.fail_allocation(nth)
    for _ in range(nth - 1):
        device.allocate(8)
    with pytest.raises(MemoryError, match="planted"):
        device.allocate(8)
    assert device.used == 8 * (nth - 1)
    device.allocate(8)


def test_memory_is_counted_right_when_many_threads_ask(device):
    def work():
        for _ in range(300):
            device.allocate(8).close()

    run_all([threading.Thread(target=work) for _ in range(4)])
    assert device.used == 0
    assert 8 <= device.peak <= 4 * 8


# Streams


def test_launching_returns_before_the_work_is_done(device):
    stream, done = device.stream(), []
    with device.paused():
        stream.launch(done.append, 1)
        event = stream.record()
        assert not event.query()
        assert not done
    event.wait()
    assert event.query()
    assert done == [1]


def test_the_work_of_one_stream_is_done_in_order(device):
    stream, done = device.stream(), []
    for i in range(100):
        stream.launch(done.append, i)
    stream.synchronize()
    assert done == list(range(100))


def order(seed: int) -> list[int]:
    device = SimulatedDevice(0, latency=1e-3, seed=seed)
    done: list[int] = []
    streams = [device.stream() for _ in range(4)]
    with device.paused():
        for i in range(16):
            streams[i % 4].launch(done.append, i)
    for stream in streams:
        stream.synchronize()
    device.close()
    return done


@pytest.mark.parametrize("seed", SEEDS)
def test_streams_overtake_one_another_the_same_way_for_the_same_seed(seed):
    done = order(seed)
    assert done == order(seed)
    assert done != sorted(done)
    for stream in range(4):
        assert [i for i in done if i % 4 == stream] == list(range(stream, 16, 4))


def test_another_seed_has_another_order():
    assert len({tuple(order(seed)) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_waits_for_another_s_event_without_blocking_the_caller(seed):
    device = SimulatedDevice(0, latency=1e-3, seed=seed)
    first, second, done = device.stream(), device.stream(), []
    with device.paused():
        for i in range(5):
            first.launch(done.append, i)
        second.wait(first.record())
        second.launch(done.append, "after")
        first.launch(done.append, "whenever")
    second.synchronize()
    first.synchronize()
    device.close()
    assert done.index("after") > done.index(4)
    assert done[:5] == list(range(5))


def test_an_event_of_another_device_cannot_be_waited_for(device):
    other = SimulatedDevice(0)
    with pytest.raises(ValueError, match="another device"):
        device.stream().wait(other.stream().record())
    other.close()


def test_time_passes_on_the_device_alone():
    device = SimulatedDevice(0, latency=3600.0)
    stream = device.stream()
    for _ in range(24):
        stream.launch(int)
    stream.synchronize()
    assert 12 * 3600 < device.now < 36 * 3600
    device.close()


def test_streams_work_side_by_side_by_the_device_s_clock():
    device = SimulatedDevice(0, latency=1.0)
    streams = [device.stream() for _ in range(10)]
    with device.paused():
        for stream in streams:
            stream.launch(int)
        events = [stream.record() for stream in streams]
    for event in events:
        event.wait()
    assert device.now <= 1.5
    device.close()


def test_all_work_is_done_by_the_device_s_own_thread(device):
    streams, names = [device.stream() for _ in range(3)], set()
    for stream in streams:
        stream.launch(lambda: names.add(threading.current_thread().name))
        stream.synchronize()
    assert names == {THREAD_NAME}


def test_many_threads_may_launch_and_wait(device):
    done = []

    def work():
        stream = device.stream()
        for i in range(50):
            stream.launch(done.append, i)
            stream.record().wait()

    run_all([threading.Thread(target=work) for _ in range(4)])
    assert len(done) == 200


# Failures


def test_an_error_of_a_launch_appears_at_the_next_synchronisation_and_stays(device):
    stream, done = device.stream(), []
    before = stream.record()
    device.fail_launch(2, ZeroDivisionError("in the kernel"))
    for i in range(3):
        stream.launch(done.append, i)
    for _ in range(2):
        with pytest.raises(LaunchError, match="in the kernel") as caught:
            stream.synchronize()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert done == [0], "what came after the failure was not run"
    before.wait()


def test_an_exception_of_the_work_itself_is_an_error_of_the_launch(device):
    stream = device.stream()
    stream.launch([].pop)
    event = stream.record()
    with pytest.raises(LaunchError, match="pop from empty list"):
        event.wait()
    with pytest.raises(LaunchError):
        event.query()


def test_a_failure_is_felt_by_the_streams_that_wait_for_it_and_by_no_other(device):
    failing, waiting, other, done = device.stream(), device.stream(), device.stream(), []
    device.fail_launch()
    failing.launch(done.append, 0)
    waiting.wait(failing.record())
    waiting.launch(done.append, 1)
    other.launch(done.append, 2)
    with pytest.raises(LaunchError):
        waiting.synchronize()
    other.synchronize()
    assert done == [2]


def test_memory_given_back_too_early_is_an_error_of_the_work_that_uses_it(device):
    stream, memory = device.stream(), device.allocate(8)
    with device.paused():
        stream.launch(lambda memory: memory.array((2,), np.float32).fill(1), memory)
        memory.close()
    with pytest.raises(LaunchError, match="given back before"):
        stream.synchronize()


def test_a_stalled_launch_goes_on_when_it_is_released(device):
    stream, done = device.stream(), []
    stall = device.stall_launch(2)
    for i in range(3):
        stream.launch(done.append, i)
    event = stream.record()
    stall.wait_until_reached()
    assert (done, event.query()) == ([0], False)
    stall.release()
    event.wait()
    assert done == [0, 1, 2]


# The end


def test_closing_ends_the_thread_and_is_idempotent():
    before = threading.active_count()
    device = SimulatedDevice(0)
    assert threading.active_count() == before + 1
    device.close()
    device.close()
    assert threading.active_count() == before


def test_closing_releases_a_stall_and_tells_whoever_waits():
    device = SimulatedDevice(0)
    stream, told = device.stream(), []
    stall = device.stall_launch()
    stream.launch(told.append, "begun")
    stream.launch(told.append, "never")
    event = stream.record()

    def wait():
        with pytest.raises(LaunchError, match="closed"):
            event.wait()
        told.append("told")

    waiter = threading.Thread(target=wait)
    waiter.start()
    stall.wait_until_reached()
    device.close()
    waiter.join()
    assert sorted(told) == ["begun", "told"]
    with pytest.raises(LaunchError, match="closed"):
        stream.launch(int)


def test_memory_outlives_the_device_s_thread(device):
    memory = device.allocate(8)
    device.close()
    memory.array((2,), np.float32)[:] = 1
    memory.close()
    assert device.used == 0


# The pool on it


def test_the_pool_lends_the_device_s_memory_and_the_ledger_agrees_with_the_device(device):
    ledger = Ledger()
    pool = device_pool(device, ledger)
    leases = [pool.lease(nbytes) for nbytes in (1, SMALLEST, 2 * SMALLEST)]
    leases[2].array((SMALLEST, 2), np.uint8)[:] = 5
    assert device.used == ledger.stats().current == 4 * SMALLEST
    for lease in leases:
        assert not lease.closed
        lease.close()
        assert lease.closed
    assert device.used == ledger.stats().current == pool.stats().idle_bytes == 4 * SMALLEST
    pool.close()
    assert device.used == ledger.stats().current == 0


def test_a_full_device_gives_up_what_is_idle_and_then_says_that_it_is_full(device):
    pool = device_pool(device, Ledger())
    pool.lease(4 * SMALLEST).close()
    held = pool.lease(8 * SMALLEST)
    assert pool.stats().evictions == 1
    with pytest.raises(errors.OutOfMemory, match="16384 bytes cannot be allocated for device") as caught:
        pool.lease(4 * SMALLEST)
    assert isinstance(caught.value.__cause__, MemoryError)
    assert device.used == 8 * SMALLEST
    held.close()


def test_a_lease_given_back_too_early_is_an_error_of_the_work_that_uses_it(device):
    pool = device_pool(device, Ledger())
    stream, lease = device.stream(), pool.lease(8)
    with device.paused():
        stream.launch(lambda lease: None, lease)
        lease.close()
    with pytest.raises(LaunchError, match="given back before"):
        stream.synchronize()


def run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
