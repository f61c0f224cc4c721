"""The mma.sync kernels in fp8: their text compiled for the host, the threads of a block taking turns, against numpy."""

from __future__ import annotations

import ctypes
from functools import cached_property

import attrs
import numpy as np
import pytest
from compact_kernels import SUM_ROUNDING, KernelContract, Rig, check_first_fp8_layer, check_fp8_trunk
from compact_reference import architecture
from host_kernels import COMPILER, HostCompiler, compiled_mma

from rave_trio.inference.compact.kernels_protocol import EIGHTHS, Architecture, Rows
from rave_trio.inference.compact.mma_kernels import Head, Tail, Trunk

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


@attrs.frozen
class Launcher:
    """Of a GPU of compute capability 8.9, with two multiprocessors."""

    compiler: HostCompiler

    def arch(self, stream) -> str:
        return "sm_89"

    def processors(self, stream) -> int:
        return 2

    def load(self, stream, source, shared_bytes=0):
        return compiled_mma(source, self.compiler)

    def put(self, raw, kernel, grid, block, *args, shared_bytes=0):
        kernel((ctypes.c_int * 2)(*grid), (ctypes.c_longlong * len(args))(*map(int, args)))


@attrs.frozen
class HostMemory:
    """And behind it bytes that must not be read, numbers that are none."""

    array: np.ndarray

    @property
    def pointer(self) -> int:
        return self.array.ctypes.data


@attrs.define(slots=False)
class Kernels:
    """Each compiled when it is wanted."""

    architecture: Architecture
    launcher: Launcher
    fp8 = True

    @cached_property
    def head(self) -> Head:
        return Head(self.architecture, self.launcher, None)

    def trunk(self, *args) -> None:
        read, written = next(each for each in EIGHTHS if each[0] == args[-1].reads)
        Trunk(self.architecture, self.launcher, None, itemsizes=(read, written))(*args)

    @cached_property
    def tail(self) -> Tail:
        return Tail(self.architecture, self.launcher, None, fp8=True)


class HostRig(Rig):
    """Without a device."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher, self._memories = launcher, []

    def kernels(self, arch: Architecture) -> Kernels:
        return Kernels(arch, self._launcher)

    def upload(self, values: np.ndarray) -> HostMemory:
        behind = np.full(64, 0x7F, np.uint8)
        self._memories.append(HostMemory(np.concatenate([values.reshape(-1).view(np.uint8), behind])))
        return self._memories[-1]

    def read(self, memory: HostMemory) -> np.ndarray:
        return memory.array[:-64].view(np.float16)

    def put(self, call, *args) -> None:
        call(None, *args)


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    return HostRig(Launcher(HostCompiler(tmp_path_factory.mktemp("kernels"))))


@pytest.mark.parametrize(("features", "remains"), [(16, True), (48, True), (64, False), (96, True)])
def test_the_trunk_reads_and_writes_e4m3(rig, features, remains):
    check_fp8_trunk(rig, features, remains=remains, sizes=[(1, 1)], rounding=SUM_ROUNDING)


@pytest.mark.parametrize(("features", "remains"), [(16, True), (64, False)])
def test_the_first_layer_of_the_trunk_writes_e4m3(rig, features, remains):
    check_first_fp8_layer(rig, features, remains=remains, sizes=[(1, 1)])


@pytest.mark.parametrize("features", [16, 96])
def test_the_head_computes_its_layer(rig, features):
    KernelContract().check_head(rig, features, 13, 73, Rows(2, 12))


@pytest.mark.parametrize(("features", "factor"), [(16, 1), (128, 3)])
def test_the_tail_reads_e4m3(rig, features, factor):
    KernelContract().check_tail(rig, architecture(features, factor, clip=factor == 3), 13, 73, Rows(2, 12))
