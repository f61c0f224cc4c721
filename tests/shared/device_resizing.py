"""What exact sizes promise on any device: tests for a ``machine`` as :mod:`device_colours` has it, with an upload."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from lanczos_reference import resized

from rave_trio.costs import GpuCosts
from rave_trio.devices.arrays import DeviceArray
from rave_trio.frames import Frame, PixelFormat, SurfaceDescriptor, Tensor
from rave_trio.memory.pool import bucket_size
from rave_trio.resizing.device import DeviceResizer

KIND = PixelFormat("gbrp", 8, is_rgb=True)

SIZES = [
    ((9, 7), (18, 14)),
    ((18, 14), (9, 7)),
    ((23, 70), (40, 17)),
    ((1, 1), (4, 5)),
    ((37, 29), (37, 29)),
    ((64, 2), (1, 33)),
]


def error_of(exact: np.ndarray, dtype: Any) -> np.ndarray:
    """What float32 may lose, and rounding to float16."""
    lost = np.full_like(exact, 3e-6)
    return lost if dtype is np.float32 else lost + np.spacing(np.abs(exact).astype(np.float16)).astype(float) * 0.51


class DeviceResizing:
    """Subclass it where there is a fixture ``machine`` with ``device``, ``pool``, ``lanczos`` and ``upload``."""

    @pytest.mark.parametrize("dtype", [np.float32, np.float16])
    @pytest.mark.parametrize(("source", "target"), SIZES)
    def test_pictures_are_what_the_definition_says(self, machine, source, target, dtype):
        picture = _noise(source, 0).astype(dtype)
        with _resizer(machine, source, target) as resizer:
            resizer.submit(_frame(machine, picture))
            exact = resized(picture, *target)
            found = _taken(machine, resizer)
        assert found.dtype == dtype
        assert (abs(found.astype(float) - exact) <= error_of(exact, dtype)).all()

    def test_grey_tensors_and_tensors_with_a_pitch_are_taken_too(self, machine):
        with _resizer(machine, (12, 11), (7, 23)) as resizer:
            for channels, pitch in ((1, None), (3, 64)):
                picture = _noise((12, 11), channels)[:channels].astype(np.float32)
                resizer.submit(_frame(machine, picture, pitch=pitch))
                exact = resized(picture, 7, 23)
                assert (abs(_taken(machine, resizer) - exact) <= error_of(exact, np.float32)).all()

    def test_frames_come_back_in_order_and_each_is_its_own(self, machine):
        pictures = [_noise((12, 16), seed).astype(np.float16) for seed in range(3)]
        with _resizer(machine, (12, 16), (18, 8)) as resizer:
            for index, picture in enumerate(pictures):
                resizer.submit(_frame(machine, picture, index))
            for picture in pictures:
                exact = resized(picture, 18, 8)
                assert (abs(_taken(machine, resizer).astype(float) - exact) <= error_of(exact, np.float16)).all()

    def test_the_memory_that_it_takes_is_what_the_plan_counts(self, machine):
        source, target = (SurfaceDescriptor(width, height, KIND) for height, width in ((120, 160), (70, 201)))
        held = bucket_size(2 * 3 * 120 * 160) + bucket_size(2 * 3 * 70 * 201)
        with _resizer(machine, (120, 160), (70, 201)) as resizer:
            resizer.submit(_frame(machine, _noise((120, 160), 0).astype(np.float16)))
            resizer.collect().close()
        assert machine.pool.stats().idle_bytes == held + GpuCosts(0, 2).resizing(source, target)

    def test_closing_gives_everything_back_whatever_is_under_way(self, machine):
        with _resizer(machine, (12, 16), (18, 8)) as resizer:
            resizer.submit(_frame(machine, _noise((12, 16), 0).astype(np.float16)))
            resizer.close()
        assert machine.pool.stats().leased == 0


@contextlib.contextmanager
def _resizer(machine: Any, source: tuple[int, int], target: tuple[int, int]) -> Iterator[DeviceResizer]:
    stream, launcher = machine.device.stream(), machine.lanczos
    made = DeviceResizer(source, target, stream=stream, pool=machine.pool, upload=machine.upload, launcher=launcher)
    with contextlib.closing(made):
        yield made


def _noise(size: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((3, *size), np.float32)


def _frame(machine: Any, picture: np.ndarray, index: int = 0, pitch: int | None = None) -> Frame:
    pitch = pitch or picture.shape[2] * picture.itemsize
    rows = np.zeros((picture.shape[0] * picture.shape[1], pitch), np.uint8)
    rows[:, : picture.shape[2] * picture.itemsize] = picture.reshape(len(rows), -1).view(np.uint8)
    lease = machine.pool.lease(rows.size)
    machine.write(lease.memory, rows.reshape(-1))
    array = DeviceArray(lease.memory, picture.shape, picture.dtype, pitch=pitch)
    return Frame(index, index, 1, Fraction(1, 25), False, Tensor(array, lease))


def _taken(machine: Any, resizer: DeviceResizer) -> np.ndarray:
    frame = resizer.collect()
    array = frame.tensor
    raw = machine.read(array.memory, array.nbytes)
    frame.close()
    return raw.view(array.dtype).reshape(array.shape)
