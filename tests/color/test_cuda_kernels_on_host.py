"""The CUDA kernels' arithmetic, compiled for the host and run in a simulated device's memory, against the reference."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from device_colours import Converting, DeviceColours, noise
from host_kernels import COMPILER, HostLauncher, HostMachine

from rave_trio import errors
from rave_trio.color.cuda import CudaSurfaceToTensor, CudaTensorToSurface

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


@pytest.fixture(scope="session")
def launcher(tmp_path_factory):
    return HostLauncher(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def machine(launcher):
    made = HostMachine(launcher)
    yield made
    made.close()


class TestKernelsOnTheHost(DeviceColours):
    """The suite for every machine."""


def test_memory_is_lent_again_while_its_work_is_under_way_and_every_frame_is_its_own(machine, reference):
    """Three frames one after the other on two streams; nobody waits in between, and the pool's buffers are few."""
    surface = reference.descriptor("nv12", 64, 32, 1, False)
    converting = Converting(machine)
    reader = converting.reader(surface, np.float32)
    writer = CudaTensorToSurface(
        surface, machine.pool, machine.device.stream(), dtype=np.float32, launcher=machine.launcher
    )
    pictures = [noise(reference, surface, seed) for seed in range(3)]
    for codes in pictures:
        codes[1][:], codes[2][:] = 100, 150
        codes[0] = codes[0] % 180 + 30
    frames = [converting.frame(codes, surface) for codes in pictures]
    with machine.device.paused():
        written = [writer.convert(reader.convert(frame)) for frame in frames]
    for frame, codes in zip(written, pictures, strict=True):
        for a, b in zip(converting.codes(frame, surface, reference.shapes(surface)), codes, strict=True):
            assert (a == b).all()
        frame.close()


def test_a_launch_that_raises_leaves_no_lease_behind_and_the_frame_the_callers(machine, reference):
    class Refusing:
        load = machine.launcher.load

        def launch(self, *args):
            raise RuntimeError("planted")

    surface = reference.descriptor("nv12", 64, 32, 1, False)
    refusing = copy.copy(machine)
    refusing.launcher = Refusing()
    converting = Converting(refusing)
    frame = converting.frame(noise(reference, surface), surface)
    with pytest.raises(RuntimeError, match="planted"):
        converting.reader(surface, np.float32).convert(frame)
    assert frame.surface.native is not None
    assert machine.pool.stats().leased == 1
    frame.close()


@pytest.mark.parametrize("name", ["rgb24", "yuva420p", "yuyv422", "yuv420p10be", "pal8", "gbrpf32le", "xv36le", "ya8"])
def test_formats_that_a_gpu_does_not_take_are_refused_by_name(machine, reference, name):
    surface = reference.descriptor(name, 32, 32)
    for converter in (CudaSurfaceToTensor, CudaTensorToSurface):
        with pytest.raises(errors.InputFormatUnsupported, match=name):
            converter(surface, machine.pool, machine.stream, launcher=machine.launcher)


def test_interleaved_planes_tagged_as_identity_are_refused(machine, reference):
    surface = reference.descriptor("nv24", 32, 32, 0, True)
    with pytest.raises(errors.InputFormatUnsupported, match="R, G and B in the planes of nv24"):
        CudaSurfaceToTensor(surface, machine.pool, machine.stream, launcher=machine.launcher)


def test_tensors_are_of_one_of_two_precisions(machine, reference):
    surface = reference.descriptor("nv12", 32, 32)
    with pytest.raises(ValueError, match="float16 or float32, not float64"):
        CudaSurfaceToTensor(surface, machine.pool, machine.stream, dtype=np.float64, launcher=machine.launcher)
