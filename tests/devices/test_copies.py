"""Copies before they reach a device: what fits on what, and what is refused; tests/gpu makes them."""

from __future__ import annotations

import numpy as np
import pytest

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.copies import RawPlane, copy, copy_from_host, copy_to_host
from rave_trio.devices.simulated import SimulatedDevice


class Recorder:
    """A stream that notes what would be copied."""

    def __init__(self):
        self.copies = []

    def launch(self, work, source, target, rows, row_bytes):
        self.copies.append((source.pointer, source.pitch, target.pointer, target.pitch, rows, row_bytes))


@pytest.fixture
def array():
    device = SimulatedDevice(1 << 16)
    yield DeviceArray(device.allocate(4096), (3, 8, 10), np.float32, offset=64, pitch=64)
    device.close()


def test_a_host_array_goes_row_by_row(array):
    stream, host = Recorder(), np.zeros((3, 8, 10), np.float32)
    copy_from_host(stream, host, array)
    copy_to_host(stream, array, host)
    there = (host.ctypes.data, 40, array.pointer, 64, 24, 40)
    back = (array.pointer, 64, host.ctypes.data, 40, 24, 40)
    assert stream.copies == [there, back]


def test_the_pitch_of_a_host_array_is_seen_also_across_axes_of_one(array):
    stream, host = Recorder(), np.zeros((24, 1, 16), np.float32)
    copy_from_host(stream, host[:, :, :10], array)
    assert stream.copies == [(host.ctypes.data, 64, array.pointer, 64, 24, 40)]


def test_a_raw_plane_is_as_large_as_the_other_side(array):
    stream = Recorder()
    copy(stream, RawPlane(0x1000, 256), array)
    assert stream.copies == [(0x1000, 256, array.pointer, 64, 24, 40)]


def test_nothing_is_launched_for_nothing():
    stream = Recorder()
    copy_from_host(stream, np.zeros((0, 4), np.uint8), RawPlane(0x1000, 256))
    assert not stream.copies


@pytest.mark.parametrize(
    ("host", "why"),
    [
        (np.zeros((3, 8, 11), np.float32), "rows of 44 bytes"),
        (np.zeros((3, 7, 10), np.float32), "21 rows"),
        (np.zeros((3, 8, 20), np.float32)[:, :, ::2], "not contiguous"),
        (np.zeros((6, 8, 10), np.float32)[::2, :, :], "not dense"),
        (np.zeros((3, 8, 10), np.float32)[:, ::-1], "backwards|not dense"),
        (np.float32(0).reshape(()), "not contiguous"),
    ],
)
def test_a_host_array_that_cannot_be_copied_is_refused(array, host, why):
    with pytest.raises(ValueError, match=why):
        copy_from_host(Recorder(), host, array)


def test_a_plane_without_an_extent_or_with_too_short_a_pitch_is_refused(array):
    with pytest.raises(ValueError, match="how large"):
        copy(Recorder(), RawPlane(0x1000, 64), RawPlane(0x2000, 64))
    with pytest.raises(ValueError, match="pitch of 32"):
        copy(Recorder(), RawPlane(0x1000, 32), array)


def test_a_read_only_array_is_not_written_to(array):
    host = np.zeros((3, 8, 10), np.float32)
    host.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        copy_to_host(Recorder(), array, host)
