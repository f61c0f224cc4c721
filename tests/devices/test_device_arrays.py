"""Arrays in a device's memory: where they begin, what they take up, and in what order they are used."""

from __future__ import annotations

import numpy as np
import pytest

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import use
from rave_trio.devices.simulated import SimulatedDevice


@pytest.fixture
def device():
    device = SimulatedDevice(1 << 20)
    yield device
    device.close()


def test_a_dense_array_takes_up_its_samples(device):
    array = DeviceArray(device.allocate(96), (2, 3, 4), np.float32)
    assert (array.pitch, array.row_bytes, array.rows, array.nbytes) == (16, 16, 6, 96)
    assert array.pointer == array.memory.pointer


def test_a_pitched_array_ends_with_its_last_sample(device):
    memory = device.allocate(64 + 3 * 32 - 12)
    array = DeviceArray(memory, (3, 20), np.uint8, offset=64, pitch=32)
    assert array.nbytes == 84
    assert array.pointer == memory.pointer + 64


@pytest.mark.parametrize("layout", [{"offset": 4}, {"pitch": 24}, {"pitch": 12}], ids=str)
def test_an_array_that_cannot_be_is_refused(device, layout):
    with pytest.raises(ValueError, match="bytes"):
        DeviceArray(device.allocate(64), (4, 4), np.float32, **layout)


def test_work_on_another_stream_comes_after_the_last_use_of_the_same_memory(device):
    memory = device.allocate(4)
    done = []
    first, second = device.stream(), device.stream()
    with device.paused():
        with use(first, memory):
            first.launch(done.append, 1)
        with use(second, memory):
            second.launch(done.append, 2)
        assert not memory.last_use.query()
    memory.last_use.wait()
    assert done == [1, 2]
