"""The trunk by mma.sync in fp8: its text compiled for the host, the threads of a block taking turns, against numpy."""

from __future__ import annotations

import ctypes

import attrs
import numpy as np
import pytest
from compact_kernels import SUM_ROUNDING, DenseRemainders, Rig, check_fp8_trunk
from host_kernels import COMPILER, HostCompiler, compiled_mma

from rave_trio.inference.compact.kernels_protocol import Architecture, Precision
from rave_trio.inference.compact.mma_kernels import Trunk

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

RUN = """
static void* arrays[8];
static int sizes[4];

extern "C" void run(void* const* given_arrays, const int* given_sizes, int blocks) {
    std::memcpy(arrays, given_arrays, sizeof(arrays));
    std::memcpy(sizes, given_sizes, sizeof(sizes));
    gridDim.x = blocks;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        run_block(THREADS, [] {
            trunk(arrays[0], (unsigned char*)arrays[1], arrays[2], (const float*)arrays[3], (const float*)arrays[4],
                  (const float*)arrays[5], (const unsigned char*)arrays[6], (unsigned char*)arrays[7],
                  sizes[0], sizes[1], sizes[2], sizes[3]);
        });
}
"""


@attrs.frozen
class TrunkLauncher:
    """Of a GPU of that architecture, with two multiprocessors."""

    compiler: HostCompiler
    architecture: str

    def arch(self, stream) -> str:
        return self.architecture

    def processors(self, stream) -> int:
        return 2

    def load(self, stream, source, shared_bytes):
        return compiled_mma(source, RUN, self.compiler)

    def put(self, raw, kernel, grid, block, *args, shared_bytes):
        kernel((ctypes.c_void_p * 8)(*args[:8]), (ctypes.c_int * 4)(*args[8:]), grid[0])


@attrs.frozen
class HostMemory:
    """And behind it bytes that must not be read, numbers that are none."""

    array: np.ndarray

    @property
    def pointer(self) -> int:
        return self.array.ctypes.data


class HostRig(Rig):
    """Of the trunk alone, without a device."""

    def __init__(self, launcher: TrunkLauncher, precision: Precision) -> None:
        self._launcher, self._precision, self._memories = launcher, precision, []

    def kernels(self, arch: Architecture):
        return Kernels(Trunk(arch, self._launcher, None, precision=self._precision))

    def upload(self, values: np.ndarray) -> HostMemory:
        behind = np.full(64, 0x7F, np.uint8)
        self._memories.append(HostMemory(np.concatenate([values.reshape(-1).view(np.uint8), behind])))
        return self._memories[-1]

    def read(self, memory: HostMemory) -> np.ndarray:
        return memory.array[:-64].view(np.float16)

    def put(self, call, *args) -> None:
        call(None, *args)


@attrs.frozen
class Kernels:
    trunk: Trunk


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    return HostCompiler(tmp_path_factory.mktemp("trunks"))


@pytest.mark.parametrize(
    ("features", "arch", "precision"),
    [
        (16, "sm_89", Precision(1, 1)),
        (48, "sm_89", Precision(1, 1)),
        (64, "sm_89", Precision(2, 1)),
        (64, "sm_89", Precision(1, 1)),
        (128, "sm_90", Precision(1, 2)),
    ],
    ids=str,
)
def test_the_trunk_reads_and_writes_fp8(compiler, features, arch, precision):
    rig = HostRig(TrunkLauncher(compiler, arch), precision)
    check_fp8_trunk(rig, features, precision, DenseRemainders(), [(1, 1)], SUM_ROUNDING)
