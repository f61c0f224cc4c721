"""Tests that need an NVIDIA GPU: skipped where there is none, failed where RAVE_TRIO_REQUIRE_GPU=1 promises one.

Ask for the fixture ``gpu``, or for one that is made of it.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

REQUIRED = os.environ.get("RAVE_TRIO_REQUIRE_GPU") == "1"


def _unavailable() -> str | None:
    """Why there is no GPU to test on.  Asks the driver before anything else does: cuda.core may hang without one."""
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.core") is None:
        return "cuda.core is not installed"
    from cuda.bindings import driver

    try:
        (result,) = driver.cuInit(0)
        if result != driver.CUresult.CUDA_SUCCESS:
            return f"the driver says {result.name}"
        result, count = driver.cuDeviceGetCount()
    except Exception as error:  # without the driver's library
        return f"there is no driver: {error}"
    return None if count else "there is no GPU"


@pytest.fixture(scope="session")
def gpu():
    """The first GPU, a cuda.core Device, current in this thread."""
    reason = _unavailable()
    if reason is not None:
        if REQUIRED:
            pytest.fail(f"RAVE_TRIO_REQUIRE_GPU=1, but {reason}")
        pytest.skip(reason)
    from cuda.core import Device

    device = Device(0)
    device.set_current()
    return device


@pytest.fixture(scope="session")
def reference():
    """The colours' reference in float64."""
    path = Path(__file__).resolve().parent.parent / "color" / "conftest.py"
    spec = importlib.util.spec_from_file_location("colour_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Reference


# To be replaced by rave_trio.devices.cuda once that is there: as much of the devices' contract as these tests need.


class RawEvent:
    def __init__(self, raw) -> None:
        self.raw = raw

    def wait(self) -> None:
        self.raw.sync()


class RawStream:
    """A stream of the contract; ``raw`` is cuda.core's."""

    def __init__(self, device) -> None:
        self.raw = device.create_stream()

    def record(self) -> RawEvent:
        return RawEvent(self.raw.record())

    def wait(self, event: RawEvent) -> None:
        self.raw.wait(event.raw)

    def synchronize(self) -> None:
        self.raw.sync()


class RawMemory:
    def __init__(self, device, nbytes: int) -> None:
        self._buffer = device.allocate(nbytes, stream=device.default_stream)
        device.default_stream.sync()
        self.nbytes = nbytes
        self.last_use = None

    @property
    def pointer(self) -> int:
        return int(self._buffer.handle)


class RawLease:
    def __init__(self, pool: RawPool, memory: RawMemory) -> None:
        self._pool, self.memory = pool, memory

    def close(self) -> None:
        memory, self.memory = self.memory, None
        if memory is not None:
            self._pool.leased -= 1
            self._pool.idle.setdefault(memory.nbytes, []).append(memory)


class RawPool:
    """Lends memory and keeps it, exactly as large as was asked for."""

    def __init__(self, device) -> None:
        self._device = device
        self.idle: dict[int, list[RawMemory]] = {}
        self.leased = 0

    def lease(self, nbytes: int) -> RawLease:
        self.leased += 1
        idle = self.idle.get(nbytes)
        return RawLease(self, idle.pop() if idle else RawMemory(self._device, nbytes))


class GpuMachine:
    """Where the shared suites run: see tests/support."""

    launcher = None

    def __init__(self, device) -> None:
        self.device = device
        self.stream = RawStream(device)
        self.pool = RawPool(device)

    def write(self, memory: RawMemory, raw: np.ndarray) -> None:
        from cuda.bindings import driver

        self._wait(memory)
        (result,) = driver.cuMemcpyHtoD(memory.pointer, raw.ctypes.data, raw.nbytes)
        assert result == driver.CUresult.CUDA_SUCCESS, result
        self.device.sync()  # the copy of so little may still be under way, and streams do not wait for it

    def read(self, memory: RawMemory, count: int) -> np.ndarray:
        from cuda.bindings import driver

        self._wait(memory)
        raw = np.empty(count, np.uint8)
        (result,) = driver.cuMemcpyDtoH(raw.ctypes.data, memory.pointer, count)
        assert result == driver.CUresult.CUDA_SUCCESS, result
        return raw

    @staticmethod
    def _wait(memory: RawMemory) -> None:
        if memory.last_use is not None:
            memory.last_use.wait()


@pytest.fixture
def machine(gpu):
    machine = GpuMachine(gpu)
    yield machine
    machine.stream.synchronize()
    assert machine.pool.leased == 0
