"""The simulated device keeps the contract of a device."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from device_contract import ClosingContract, DeviceContract

from rave_trio.devices.simulated import SimulatedDevice


class SimulatedRig:
    """A device, and how to have it do things that can be seen."""

    def __init__(self):
        self.device = SimulatedDevice(16 << 20, latency=1e-3)

    def fill(self, stream, memory, value):
        """Launch work that sets every byte of the memory."""
        stream.launch(lambda memory: memory.array((memory.nbytes,), np.uint8).fill(value), memory)

    def read(self, memory):
        """All bytes, after the last use."""
        if memory.last_use is not None:
            memory.last_use.wait()
        return memory.array((memory.nbytes,), np.uint8).copy()

    @contextlib.contextmanager
    def held(self, stream):
        """Have nothing begin on the stream, and perhaps on none, that is launched inside the block."""
        with self.device.paused():
            yield

    def close(self):
        self.device.close()


@pytest.fixture(name="rig")
def simulated_rig():
    rig = SimulatedRig()
    yield rig
    rig.close()


@pytest.fixture(name="own_rig")
def own_simulated_rig(rig):
    return rig


class TestSimulatedDevice(DeviceContract, ClosingContract):
    pass
