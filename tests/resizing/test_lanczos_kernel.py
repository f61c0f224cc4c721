"""The CUDA kernel of exact sizes: its arithmetic on the host, in a simulated device's memory; and that it compiles."""

from __future__ import annotations

import importlib.util

import attrs
import numpy as np
import pytest
from device_resizing import DeviceResizing
from host_kernels import COMPILER
from lanczos_on_host import HostLanczos
from simulated_copies import from_host

from rave_trio.devices.pool import device_pool
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.memory import Ledger
from rave_trio.resizing.device import DeviceResizer, LanczosKernel

ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]


@attrs.define
class HostMachine:
    device: SimulatedDevice
    pool: object
    lanczos: HostLanczos
    upload = staticmethod(from_host)

    def write(self, memory, raw: np.ndarray) -> None:
        self._wait(memory)
        memory.array(raw.shape, np.uint8)[:] = raw

    def read(self, memory, count: int) -> np.ndarray:
        self._wait(memory)
        return memory.array((count,), np.uint8).copy()

    @staticmethod
    def _wait(memory) -> None:
        if memory.last_use is not None:
            memory.last_use.wait()


@pytest.fixture(scope="session")
def lanczos(tmp_path_factory):
    return HostLanczos(tmp_path_factory.mktemp("lanczos"))


@pytest.fixture
def machine(lanczos):
    device = SimulatedDevice(64 << 20, latency=1e-3)
    pool = device_pool(device, Ledger())
    yield HostMachine(device, pool, lanczos)
    assert pool.stats().leased == 0
    pool.close()
    device.close()
    assert device.used == 0


@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
class TestTheKernelOnTheHost(DeviceResizing):
    """The suite for every machine."""

    def test_without_memory_for_the_weights_nothing_is_left(self, machine):
        def refuse(*_):
            raise MemoryError("planted")

        with pytest.raises(MemoryError, match="planted"):
            DeviceResizer(
                (8, 8),
                (16, 16),
                stream=machine.device.stream(),
                pool=machine.pool,
                upload=refuse,
                launcher=machine.lanczos,
            )
        assert machine.pool.stats().leased == 0


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_kernel_compiles_for_every_architecture_and_precision(arch, tmp_path):
    pytest.importorskip("cuda.core")
    if importlib.util.find_spec("cuda.bindings.nvrtc") is None:
        pytest.skip("there is no NVRTC")
    from rave_trio.devices.compiler import compile_kernel

    for source, target in ((np.float16, np.float32), (np.float32, np.float16), (np.float32, np.float32)):
        for rows in (True, False):
            kernel = LanczosKernel(np.dtype(source), np.dtype(target), rows, 3, 7)
            assert compile_kernel(kernel, arch, tmp_path).code
