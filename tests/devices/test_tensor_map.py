"""What the driver is told for a tensor map; the driver's own part needs a GPU: tests/gpu."""

from __future__ import annotations

import ctypes

import pytest

pytest.importorskip("cuda.bindings.driver")

from cuda.bindings import driver

from rave_trio.devices.interface import LaunchError
from rave_trio.devices.tensor_map import ALIGNMENT, BYTES, tensor_map


class Encoder:
    """Notes what it is told, as the driver reads it, and writes a map."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.told = status, None

    def __call__(self, address, kind, rank, pointer, sizes, pitches, box, steps, interleave, swizzle, promotion, fill):
        assert address % ALIGNMENT == 0
        ctypes.memmove(address, bytes(range(BYTES)), BYTES)
        self.told = (kind, rank, pointer, list(sizes), list(pitches), list(box), list(steps), swizzle)
        return self.status


def test_the_driver_is_told_sizes_from_the_innermost_axis_on_and_pitches_in_bytes():
    encoder = Encoder()
    found = tensor_map(4096, (1080, 1920, 64), (1, 136, 64), 2, 128, encoder=encoder)
    assert found == bytes(range(BYTES))
    half = int(driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_FLOAT16)
    swizzle = int(driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B)
    sizes, pitches = [64, 1920, 1080], [128, 1920 * 128]
    assert encoder.told == (half, 3, 4096, sizes, pitches, [64, 136, 1], [1, 1, 1], swizzle)


def test_a_map_is_made_once():
    encoder = Encoder()
    first = tensor_map(4096, (8, 8, 32), (1, 8, 32), 1, 32, encoder=encoder)
    encoder.told = None
    assert tensor_map(4096, (8, 8, 32), (1, 8, 32), 1, 32, encoder=encoder) is first
    assert encoder.told is None


def test_what_the_driver_refuses_is_an_error():
    refusing = Encoder(int(driver.CUresult.CUDA_ERROR_INVALID_VALUE))
    with pytest.raises(LaunchError, match="INVALID_VALUE"):
        tensor_map(4097, (8, 8, 32), (1, 8, 32), 1, 32, encoder=refusing)
