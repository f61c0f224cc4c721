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

FLAGS = ["-std=c++17", "-O0", "-fno-strict-aliasing", "-ffp-contract=off", "-shared", "-fPIC", "-w"]
"""Compiling takes longer than all that the tests compute."""


class HostCompiler:
    """Makes libraries of kernels' texts, each once; CUDA's words are before them, parsed once for all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._words = folder / WORDS.name
        self._loaded: dict[str, ctypes.CDLL] = {}

    def __call__(self, text: str) -> ctypes.CDLL:
        if text not in self._loaded:
            if not self._words.exists():
                shutil.copy(WORDS, self._words)
                self._run("-x", "c++-header", str(self._words), "-o", f"{self._words}.gch")
            path = self._folder / f"kernel{len(self._loaded)}.so"
            self._run("-include", str(self._words), "-x", "c++", "-", "-o", str(path), text=text)
            self._loaded[text] = ctypes.CDLL(str(path))
        return self._loaded[text]

    def _run(self, *arguments: str, text: str = "") -> None:
        subprocess.run([COMPILER, *FLAGS, *arguments], input=text, text=True, check=True)


RUN = """
extern "C" void run(const int* grid, const int* block, unsigned long long* p, int width, int height) {{
    run_grid({name}, grid, block, ({first}*)p[0], ({first}*)p[1], ({first}*)p[2], (long long)p[3], (long long)p[4],
             (long long)p[5], ({second}*)p[6], ({second}*)p[7], ({second}*)p[8], (long long)p[9], width, height);
}}
"""
"""Addresses of three planes, their pitches, addresses of three channels, their pitch; then the size."""


class HostLauncher:
    """Its streams are a simulated device's."""

    def __init__(self, folder: Path) -> None:
        self._compiled = HostCompiler(folder)

    def load(self, stream: Any, kernel: Specialisation) -> Any:
        reads = kernel.name == "to_tensor"
        run = RUN.format(
            name=kernel.name,
            first="const Sample" if reads else "Sample",
            second="Element" if reads else "const Element",
        )
        return self._compiled(f"{kernel.body}\n{run}").run

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
