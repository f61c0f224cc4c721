"""The kernels for the Compact family, those for every architecture, each with the tilings of all of them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

pytest.importorskip("cuda.core")

from compact_kernels import SIZES, KernelContract, Rig, check_first_fp8_layer, check_fp8_trunk
from compact_reference import architecture

from rave_trio.inference.compact.kernels_protocol import FEATURES, Rows
from rave_trio.inference.compact.mma_kernels import MmaKernels, samples_bytes_of
from rave_trio.inference.compact.mma_tiling import shared_bytes_of, tilings


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


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("arch", ["sm_80", "sm_86"])
def test_other_architectures_tilings_compute_the_same(cuda, arch, features):
    rig = Rig(cuda, lambda made, launcher, stream: MmaKernels(made, LauncherOf(launcher, arch), stream))
    for height, width in [(1, 1), (37, 200), (129, 257)]:
        KernelContract().check_trunk(rig, features, height, width)
        KernelContract().check_tail(rig, architecture(features), height, width)
    KernelContract().check_trunk(rig, features, 360, 640, dtype=np.float32)
    rig.close()


@pytest.fixture(params=[None, "sm_89"], ids=["own_tilings", "sm_89"])
def fp8_rig(request, cuda):
    if cuda.compute_capability < (8, 9):
        pytest.skip("the GPU has no products of e4m3")
    arch = request.param or Rig(cuda, None).arch
    rig = Rig(cuda, lambda made, launcher, stream: MmaKernels(made, LauncherOf(launcher, arch), stream, fp8=True))
    yield rig
    rig.close()


@pytest.mark.parametrize("remains", [True, False])
@pytest.mark.parametrize("features", FEATURES)
def test_the_trunk_writes_e4m3(fp8_rig, features, remains):
    check_first_fp8_layer(fp8_rig, features, remains=remains)
    check_fp8_trunk(fp8_rig, features, remains=remains)


@pytest.mark.parametrize("features", FEATURES)
def test_the_tail_reads_e4m3_at_any_size(fp8_rig, features):
    for height, width in SIZES:
        KernelContract().check_tail(fp8_rig, architecture(features), height, width)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_the_tail_reads_e4m3_and_shuffles_by_any_factor(fp8_rig, factor):
    KernelContract().check_tail(fp8_rig, architecture(64, factor, clip=True), 37, 200)
    KernelContract().check_tail(fp8_rig, architecture(64, factor, skip=False), 40, 90, Rows(17, 40), shift=1)


def kinds(found):
    """One tiling of each shape, and of each size of a step."""
    return list({(*tiling.shape, tiling.resident, tiling.step_slices): tiling for tiling in found}.values())


@pytest.mark.parametrize("features", FEATURES)
def test_every_trunk_tiling_computes_the_same(cuda, features):
    room = shared_bytes_of(Rig(cuda, None).arch)
    for tiling in kinds(tilings(features, features, room)):
        rig = Rig(cuda, partial(MmaKernels, trunk_tiling=tiling))
        KernelContract().check_trunk(rig, features, 45, 170)
        rig.close()


@pytest.mark.parametrize("features", FEATURES)
def test_every_tail_tiling_computes_the_same(cuda, features):
    room = shared_bytes_of(Rig(cuda, None).arch)
    arch = architecture(features)
    for tiling in kinds(tilings(features, arch.outputs, room, samples_bytes_of(arch))):
        rig = Rig(cuda, partial(MmaKernels, tail_tiling=tiling))
        KernelContract().check_tail(rig, arch, 45, 170)
        rig.close()
