"""The CUDA kernels on a GPU, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from device_colours import Converting, DeviceColours, check_reading, check_writing, noise


class TestKernelsOnTheGpu(DeviceColours):
    """The suite for every machine."""


@pytest.mark.parametrize("name", ["nv12", "p010le", "yuv420p", "yuv444p16le"])
@pytest.mark.parametrize("size", [(1920, 1080), (3840, 2160), (854, 480), (1366, 768)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_pictures_of_the_usual_sizes_are_read_and_written_as_the_reference_does(machine, reference, name, size):
    surface = reference.descriptor(name, *size, 1, False)
    for dtype in (np.float16, np.float32):
        check_reading(machine, reference, surface, dtype)
        check_writing(machine, reference, surface, dtype)


def test_the_largest_pictures_are_converted_to_their_last_sample(machine, reference):
    surface = reference.descriptor("nv12", 8192, 8192, 1, False)
    codes = [np.zeros(shape, int) for shape in reference.shapes(surface)]
    codes[0][:], codes[1][:], codes[2][:] = 16, 128, 128
    codes[0][-1, -1] = 235
    converting = Converting(machine)
    rgb = converting.there(codes, surface, np.float32)
    assert np.abs(rgb[:, -1, -1] - 1).max() < 1e-6
    assert np.abs(rgb[:, :-1]).max() == 0
    for before, after in zip(codes, converting.back(rgb, surface, reference), strict=True):
        assert (before == after).all()


def test_frames_follow_each_other_on_two_streams_without_the_host_waiting(machine, reference):
    """The tensors' memory is lent again while it is read."""
    surface = reference.descriptor("nv12", 1920, 1080, 1, False)
    converting = Converting(machine)
    reader = converting.reader(surface, np.float32)
    machine.stream = machine.device.stream()
    writer = converting.writer(surface, np.float32)
    pictures = [noise(reference, surface, seed) for seed in range(4)]
    for codes in pictures:
        codes[1][:], codes[2][:] = 100, 150
        codes[0] = codes[0] % 180 + 30
    frames = [converting.frame(codes, surface) for codes in pictures]
    written = [writer.convert(reader.convert(frame)) for frame in frames]
    for frame, codes in zip(written, pictures, strict=True):
        for found, before in zip(converting.codes(frame, surface, reference.shapes(surface)), codes, strict=True):
            assert (found == before).all()
        frame.close()
