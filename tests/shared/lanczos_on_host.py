"""The kernel of exact sizes on the host: compiled there, run thread after thread in a simulated device's memory."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from host_kernels import HostCompiler

from rave_trio.resizing.device import LanczosKernel

RUN = """
extern "C" void run(const int* grid, const int* block, unsigned long long* p, int size, int width, int height) {
    run_grid(lanczos, grid, block, (const Source*)p[0], (long long)p[1], (Target*)p[2], (long long)p[3],
             (const int*)p[4], (const float*)p[5], size, width, height);
}
"""


class HostLanczos:
    """Its streams are a simulated device's."""

    def __init__(self, folder: Path) -> None:
        self._compiled = HostCompiler(folder)

    def load(self, stream: Any, kernel: LanczosKernel) -> Any:
        return self._compiled(f"{kernel.body}\n{RUN}").run

    def launch(self, stream: Any, kernel: Any, grid: tuple[int, int], block: tuple[int, int], *args: Any) -> None:
        *words, size, width, height = args
        pair = ctypes.c_int * 2
        sizes = (ctypes.c_int(int(value)) for value in (size, width, height))
        stream.launch(kernel, pair(*grid), pair(*block), (ctypes.c_ulonglong * len(words))(*words), *sizes)
