"""The CUDA device: what every device promises, and what only CUDA has."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading

import numpy as np
import pytest
from device_contract import ClosingContract, DeviceContract

from rave_trio import errors
from rave_trio.devices.interface import LaunchError, use
from rave_trio.devices.pool import device_pool
from rave_trio.memory import Ledger

MIB = 1 << 20
TOLERANCE = 4 * MIB
"""NVML counts in pages of 2 MiB, and other processes come and go."""


class CudaRig:
    """A CUDA device, and how to have it do things that can be seen."""

    def __init__(self, device):
        self.device = device
        self._flag = device.pin(4)
        warm_up, stream = device.allocate(MIB), device.stream()
        self.fill(stream, warm_up, 0)  # kernels load at first use, which may wait for streams that are held
        stream.synchronize()
        warm_up.close()

    def fill(self, stream, memory, value):
        from cuda.bindings import driver

        from rave_trio.devices.driver import check

        stream.launch(lambda raw: check(driver.cuMemsetD8Async(memory.pointer, value, memory.nbytes, raw.handle)))

    def read(self, memory):
        from rave_trio.devices.copies import copy_to_host

        host, stream = np.empty(memory.nbytes, np.uint8), self.device.stream()
        with use(stream, memory):
            copy_to_host(stream, memory.array((memory.nbytes,), np.uint8), host)
        memory.last_use.wait()
        return host

    @contextlib.contextmanager
    def held(self, stream):
        """The stream waits for a word of host memory; nothing may be allocated meanwhile, since that may wait too."""
        from cuda.bindings import driver

        from rave_trio.devices.driver import check

        flag = self._flag.array((1,), np.uint32)
        flag[0] = 0
        equal = int(driver.CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_EQ)
        stream.launch(lambda raw: check(driver.cuStreamWaitValue32(raw.handle, self._flag.pointer, 1, equal)))
        try:
            yield
        finally:
            flag[0] = 1
        stream.synchronize()

    def close(self):
        self._flag.close()


@pytest.fixture
def rig(cuda):
    rig = CudaRig(cuda)
    used = cuda.used
    yield rig
    rig.close()
    assert cuda.used == used


@pytest.fixture
def own_rig(cuda):
    rig = CudaRig(type(cuda)(0))
    yield rig
    rig.close()
    rig.device.close()


class TestCudaDevice(DeviceContract, ClosingContract):
    pass


def test_a_stream_that_waits_for_nobody_goes_past_one_that_is_held(rig):
    held, free, memory = rig.device.stream(), rig.device.stream(), rig.device.allocate(4096)
    with rig.held(held):
        event = held.record()
        rig.fill(free, memory, 7)
        free.synchronize()
        assert not event.query()
    assert event.query()
    memory.close()


def test_the_device_knows_itself(cuda):
    assert cuda.name
    assert len(cuda.uuid) >= 32
    assert cuda.compute_capability >= (5, 0)
    assert 0 < cuda.free <= cuda.capacity


def test_a_gpu_that_is_not_there_is_refused_by_name(cuda):
    with pytest.raises(errors.DeviceUnknown, match="GPU 99 cannot be used"):
        type(cuda)(99)


def test_memory_is_aligned_for_any_kernel(cuda):
    memories = [cuda.allocate(nbytes) for nbytes in (1, 3, 1000)]
    assert all(memory.pointer % 256 == 0 for memory in memories)
    for memory in memories:
        memory.close()


def test_nvml_sees_what_is_allocated_and_that_it_is_given_back(rig):
    """Large enough to be told from what other processes do meanwhile."""
    pytest.importorskip("pynvml")
    device, size = rig.device, 512 * MIB
    before = device.device_memory_in_use()
    memory = device.allocate(size)
    during = device.device_memory_in_use()
    memory.close()
    assert during - before == pytest.approx(size, abs=TOLERANCE)
    assert device.device_memory_in_use() - before == pytest.approx(0, abs=TOLERANCE)


def test_a_pool_that_was_used_and_closed_leaves_nothing_that_nvml_sees(rig):
    pytest.importorskip("pynvml")
    device = rig.device
    before, used = device.device_memory_in_use(), device.used
    pool = device_pool(device, Ledger(256 * MIB))
    stream = device.stream()
    for at in range(40):
        lease = pool.lease((1 + at % 7) * 16 * MIB)
        with use(stream, lease.memory):
            rig.fill(stream, lease.memory, at)
        lease.close()
    stats = pool.stats()
    assert stats.evictions
    assert stats.hits
    pool.close()
    assert device.used == used
    assert device.device_memory_in_use() - before == pytest.approx(0, abs=TOLERANCE)


def test_events_with_timing_tell_the_devices_time(rig):
    stream, memory = rig.device.stream(), rig.device.allocate(256 * MIB)
    begin = stream.record(timing=True)
    for value in range(20):
        rig.fill(stream, memory, value)
    end = stream.record(timing=True)
    assert 1e-5 < end.seconds_since(begin) < 10
    with pytest.raises(ValueError, match="without timing"):
        stream.record().seconds_since(begin)
    memory.close()


def test_threads_that_have_ended_take_no_context_with_them(cuda):
    """What a short-lived thread allocated and launched is there after it."""
    rig, made = CudaRig(cuda), []

    def work():
        stream, memory = cuda.stream(), cuda.allocate(4096)
        with use(stream, memory):
            rig.fill(stream, memory, 5)
        made.append(memory)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (rig.read(made[0]) == 5).all()
    made[0].close()
    rig.close()


def test_pinned_memory_is_counted_and_shared_with_the_device(cuda):
    before = cuda.pinned
    memory = cuda.pin(24)
    assert cuda.pinned == before + 24
    memory.array((2, 3), np.float32)[:] = 2
    assert (memory.array((6,), np.float32) == 2).all()
    with pytest.raises(ValueError, match="fit into 24"):
        memory.array((25,), np.uint8)
    memory.close()
    memory.close()
    assert cuda.pinned == before
    with pytest.raises(ValueError, match="closed"):
        memory.array((1,), np.uint8)


def test_what_work_raises_while_it_is_launched_comes_out_at_once(cuda):
    stream = cuda.stream()
    with pytest.raises(ZeroDivisionError):
        stream.launch(lambda raw: 1 / 0)
    stream.synchronize()


def test_what_cuda_refuses_at_launch_is_a_launch_error(cuda):
    from cuda.bindings import driver

    from rave_trio.devices.driver import check

    stream = cuda.stream()
    with pytest.raises(LaunchError, match="CUDA_ERROR"):
        stream.launch(lambda raw: check(driver.cuMemcpyDtoDAsync(0, 0, 4096, raw.handle)))
    stream.synchronize()


FAILING = r'''
from cuda.core import LaunchConfig, ObjectCode, launch
from rave_trio.devices.cuda import CudaDevice
from rave_trio.devices.interface import LaunchError, use

PTX = b""".version 7.0
.target sm_75
.address_size 64
.visible .entry fail()
{
    trap;
    ret;
}
"""
device = CudaDevice(0)
stream, other, memory = device.stream(), device.stream(), device.allocate(4096)
kernel = ObjectCode.from_ptx(PTX).get_kernel("fail")
with use(stream, memory):
    stream.launch(lambda raw: launch(raw, LaunchConfig(grid=1, block=1), kernel))
for _ in range(2):
    try:
        memory.last_use.wait()
    except LaunchError as error:
        assert "CUDA_ERROR" in str(error), error
    else:
        raise SystemExit("waiting did not tell")
for ask in (stream.synchronize, other.synchronize, lambda: device.allocate(8)):
    try:
        ask()
    except LaunchError:
        pass
    else:
        raise SystemExit(f"{ask} did not tell")
memory.close()
assert device.used == 0
device.close()
try:
    memory.last_use.wait()
except LaunchError:
    print("told")
'''

CONTEXT = r"""
import os
import threading
import time

from cuda.bindings import driver
from rave_trio.devices.cuda import CudaDevice

def active():
    return driver.cuDevicePrimaryCtxGetState(driver.cuDeviceGet(0)[1])[2]

def use_it():
    device = CudaDevice(0)
    stream, memory = device.stream(), device.allocate(1 << 20)
    stream.launch(lambda raw: driver.cuMemsetD8Async(memory.pointer, 1, memory.nbytes, raw.handle))
    stream.synchronize()
    device.close()
    assert active()
    memory.close()

driver.cuInit(0)
assert not active()
thread = threading.Thread(target=use_it)  # cuda.core keeps the context for a thread until the thread ends
thread.start()
thread.join()
patience = time.monotonic() + 60
while active() and time.monotonic() < patience:  # joined is not yet ended
    os.sched_yield()
print("still active" if active() else "released")
"""


@pytest.mark.parametrize(("script", "says"), [(FAILING, "told"), (CONTEXT, "released")], ids=["failing", "context"])
def test_in_a_process_of_its_own(cuda, script, says):
    """A kernel that fails is told to whoever waits, and closing still works; the context goes with its last user."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == says
