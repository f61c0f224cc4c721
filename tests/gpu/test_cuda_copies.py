"""Copies on the GPU, with a pitch on either side."""

from __future__ import annotations

import numpy as np
import pytest

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.copies import RawPlane, copy, copy_from_host, copy_to_host
from rave_trio.devices.interface import use


def numbers(shape, dtype):
    return np.random.default_rng(7).integers(0, 255, shape).astype(dtype)


def pitched(memory, shape, dtype, pad):
    dtype = np.dtype(dtype)
    return DeviceArray(memory, shape, dtype, offset=256, pitch=shape[-1] * dtype.itemsize + pad)


@pytest.fixture
def memory(cuda):
    memory = cuda.allocate(1 << 20)
    yield memory
    memory.close()


@pytest.mark.parametrize("pad", [0, 32, 1024])
@pytest.mark.parametrize(("shape", "dtype"), [((5, 7), np.uint8), ((3, 40, 33), np.float32), ((64, 130), np.uint16)])
def test_what_goes_to_the_device_comes_back_the_same(cuda, memory, shape, dtype, pad):
    stream, sent, back = cuda.stream(), numbers(shape, dtype), np.zeros(shape, dtype)
    array = pitched(memory, shape, dtype, pad)
    with use(stream, memory):
        copy_from_host(stream, sent, array)
        copy_to_host(stream, array, back)
    memory.last_use.wait()
    assert (back == sent).all()


def test_a_padded_host_array_keeps_its_padding(cuda, memory):
    stream, sent = cuda.stream(), numbers((12, 20), np.uint8)
    array = pitched(memory, (12, 20), np.uint8, 44)
    padded = np.full((12, 32), 99, np.uint8)
    with use(stream, memory):
        copy_from_host(stream, sent, array)
        copy_to_host(stream, array, padded[:, :20])
    memory.last_use.wait()
    assert (padded[:, :20] == sent).all()
    assert (padded[:, 20:] == 99).all()


def test_planes_of_others_are_copied_by_address_and_pitch(cuda, memory):
    stream, sent, back = cuda.stream(), numbers((16, 48), np.uint8), np.zeros((16, 48), np.uint8)
    foreign = RawPlane(memory.pointer, 64)
    array = DeviceArray(memory, (16, 48), np.uint8, offset=1 << 16, pitch=48)
    with use(stream, memory):
        copy_from_host(stream, sent, foreign)
        copy(stream, foreign, array)
        copy_to_host(stream, array, back)
    memory.last_use.wait()
    assert (back == sent).all()


def test_pinned_memory_is_copied_in_order_without_the_host(cuda, memory):
    stream, pinned = cuda.stream(), cuda.pin(2 * 4096)
    there, back = pinned.array((2, 4096), np.uint8)
    there[:], back[:] = numbers(4096, np.uint8), 0
    array = memory.array((4096,), np.uint8)
    with use(stream, memory, pinned):
        copy_from_host(stream, there, array)
        copy_to_host(stream, array, back)
    pinned.last_use.wait()
    assert (back == there).all()
    pinned.close()
