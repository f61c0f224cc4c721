"""Tests that need a GPU: they skip where there is none, and fail instead where RAVE_TRIO_REQUIRE_GPU=1 promises one."""

from __future__ import annotations

import os

import numpy as np
import pytest
from colour_reference import Reference


def require_gpu() -> None:
    """Skip, or fail, unless CUDA can be used."""
    try:
        from rave_trio.devices.cuda import CudaDevice

        CudaDevice(0).close()
    except Exception as error:
        reason = f"no GPU: {error}"
    else:
        return
    if os.environ.get("RAVE_TRIO_REQUIRE_GPU") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cuda():
    """The first GPU, shared by all tests: what a test allocates it gives back."""
    require_gpu()
    from rave_trio.devices.cuda import CudaDevice

    device = CudaDevice(0)
    yield device
    device.close()
    assert device.used == device.pinned == 0


@pytest.fixture(scope="session")
def reference():
    """The colours' reference in float64."""
    return Reference


class GpuMachine:
    """Where the suite of the colours runs: see tests/shared/device_colours.py."""

    launcher = None

    def __init__(self, device) -> None:
        from rave_trio.devices.pool import device_pool
        from rave_trio.memory import Ledger

        self.device = device
        self.stream = device.stream()
        self.pool = device_pool(device, Ledger())

    def write(self, memory, raw: np.ndarray) -> None:
        from rave_trio.devices.copies import copy_from_host

        self._copy(copy_from_host, raw, memory.array(raw.shape, np.uint8), memory)

    def read(self, memory, count: int) -> np.ndarray:
        from rave_trio.devices.copies import copy_to_host

        raw = np.empty(count, np.uint8)
        self._copy(copy_to_host, memory.array(raw.shape, np.uint8), raw, memory)
        return raw

    def _copy(self, copy, source, target, memory) -> None:
        from rave_trio.devices.interface import use

        with use(self.stream, memory):
            copy(self.stream, source, target)
        self.stream.synchronize()


@pytest.fixture
def machine(cuda):
    machine = GpuMachine(cuda)
    yield machine
    machine.stream.synchronize()
    assert machine.pool.stats().leased == 0
    machine.pool.close()
