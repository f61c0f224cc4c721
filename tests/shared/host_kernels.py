"""The CUDA kernels on the host: by its C++ compiler, run thread after thread in a simulated device's memory."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from rave_trio.color.cuda.specialisation import Specialisation

WORDS = Path(__file__).with_name("cuda_words.hpp")

COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
"""None where there is no C++ compiler."""

FLAGS = ["-std=c++17", "-O1", "-fno-strict-aliasing", "-ffp-contract=off", "-shared", "-fPIC", "-w"]

RUN = """
extern "C" void run(const int* grid, const int* block, unsigned long long* p, int width, int height) {{
    run_grid({name}, grid, block, ({first}*)p[0], ({first}*)p[1], ({first}*)p[2], (long long)p[3], (long long)p[4],
             (long long)p[5], ({second}*)p[6], ({second}*)p[7], ({second}*)p[8], (long long)p[9], width, height);
}}
"""
"""Addresses of three planes, their pitches, addresses of three channels, their pitch; then the size."""


class HostLauncher:
    """Compiles a kernel once in its life.  Its streams are a simulated device's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[str, Any] = {}

    def load(self, stream: Any, kernel: Specialisation) -> Any:
        if kernel.body not in self._loaded:
            path = self._folder / f"kernel{len(self._loaded)}.so"
            reads = kernel.name == "to_tensor"
            run = RUN.format(
                name=kernel.name,
                first="const Sample" if reads else "Sample",
                second="Element" if reads else "const Element",
            )
            source = f'#include "{WORDS}"\n{kernel.body}\n{run}'
            subprocess.run(
                [COMPILER, *FLAGS, "-x", "c++", "-", "-o", str(path)],
                input=source,
                text=True,
                check=True,
            )
            self._loaded[kernel.body] = ctypes.CDLL(str(path)).run
        return self._loaded[kernel.body]

    def launch(self, stream: Any, kernel: Any, grid: tuple[int, int], block: tuple[int, int], *args: Any) -> None:
        *words, width, height = args
        pair = ctypes.c_int * 2
        stream.launch(
            kernel,
            pair(*grid),
            pair(*block),
            (ctypes.c_ulonglong * len(words))(*words),
            ctypes.c_int(width),
            ctypes.c_int(height),
        )
