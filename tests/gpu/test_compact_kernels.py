"""The kernels for the Compact family, those for every architecture, each with the tilings of all of them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cuda.core")

from compact_kernels import KernelContract, Rig
from compact_reference import architecture

from rave_trio.inference.compact.mma_kernels import MmaKernels


@pytest.fixture
def rig(cuda):
    rig = Rig(cuda, MmaKernels)
    yield rig
    rig.close()


class TestMmaKernels(KernelContract):
    pass


class LauncherOf:
    """A launcher that says it is for another architecture, whose tilings the device here can run as well."""

    def __init__(self, launcher, arch: str) -> None:
        self._launcher, self._arch = launcher, arch

    def arch(self, stream) -> str:
        return self._arch

    def __getattr__(self, name: str):
        return getattr(self._launcher, name)


@pytest.mark.parametrize("features", [16, 32, 48, 64, 96, 128])
@pytest.mark.parametrize("arch", ["sm_80", "sm_86"])
def test_other_architectures_tilings_compute_the_same(cuda, arch, features):
    rig = Rig(cuda, lambda made, launcher, stream: MmaKernels(made, LauncherOf(launcher, arch), stream))
    for height, width in [(1, 1), (37, 200), (129, 257)]:
        KernelContract().check_trunk(rig, features, height, width)
        KernelContract().check_tail(rig, architecture(features), height, width)
    KernelContract().check_trunk(rig, features, 360, 640, dtype=np.float32)
    rig.close()
