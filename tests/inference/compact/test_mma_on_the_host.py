"""The mma.sync kernels in fp8: their text compiled for the host, the threads of a block taking turns, against numpy."""

from __future__ import annotations

import ctypes
from functools import cached_property

import attrs
import numpy as np
import pytest
from compact_kernels import SUM_ROUNDING, Rig
from compact_reference import architecture
from host_kernels import COMPILER, HostCompiler, compiled_mma

from rave_trio.inference.compact.kernels_protocol import Architecture
from rave_trio.inference.compact.mma_kernels import Head, Tail, Trunk

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


@attrs.frozen
class Launcher:
    """Of a GPU of that architecture, with two multiprocessors."""

    compiler: HostCompiler
    architecture: str

    def arch(self, stream) -> str:
        return self.architecture

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

    @cached_property
    def head(self) -> Head:
        return Head(self.architecture, self.launcher, None, fp8=True)

    @cached_property
    def trunk(self) -> Trunk:
        return Trunk(self.architecture, self.launcher, None, fp8=True)

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
