"""The CUDA kernels on the host: by its C++ compiler, run thread after thread in a simulated device's memory."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from rave_trio.color.cuda.specialisation import Specialisation
from rave_trio.devices.kernel_source import KernelSource
from rave_trio.devices.pool import device_pool
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.memory import Ledger

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
            path = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()}.so"
            self._run("-include", str(self._words), "-x", "c++", "-", "-o", str(path), text=text)
            self._loaded[text] = ctypes.CDLL(str(path))
        return self._loaded[text]

    def _run(self, *arguments: str, text: str = "") -> None:
        subprocess.run([COMPILER, *FLAGS, *arguments], input=text, text=True, check=True)


REPLACED = (
    *("float read_shared(", "void write_shared(", "void write_pair(", "float read_sample(", "void write_words("),
    *("void store_transposed(", "u32 two_halves("),
)
"""Functions of the wgmma kernels that wgmma_words.hpp has in place of theirs."""

TAKE_SUMS = """
// What the thread holds of a product's sums, 64 rows of WIDTH columns.
static void take_sums(float (&own)[SUMS], const float* product) {
    const int lane = threadIdx.x % 32;
    for (int i = 0; i < SUMS; ++i)
        own[i] = product[product_row(lane / 4, i / 2 % 2) * WIDTH + i / 4 * 8 + lane % 4 * 2 + i % 2];
}
"""
"""For texts ``run`` of wgmma kernels."""

PLACE_SUMS = (
    TAKE_SUMS
    + """
// What a unit's product is of a tail: its outputs are the samples of `sums`, three planes; NAN beyond the picture.
static void place_sums(float* product, const float* sums, const Unit& unit, const Work& work, int height, int width) {
    for (int output = 0; output < PLANES * SAMPLES; ++output)
        for (int pixel = 0; pixel < WIDTH; ++pixel) {
            const int x = unit.x() + pixel, y = unit.y(work), plane = output / SAMPLES;
            const int down = y * FACTOR + output % SAMPLES / FACTOR, across = x * FACTOR + output % FACTOR;
            const bool is_there = x >= 0 && x < width && y >= 0 && y < height;
            const long long row = (long long)plane * height * FACTOR + down;
            product[output * WIDTH + pixel] = is_there ? sums[row * width * FACTOR + across] : NAN;
        }
}
"""
)
"""The same, for those of tails."""

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
        stream.launch(kernel, *_arguments(grid, block, *args))

    def put(self, raw: Any, kernel: Any, grid: tuple[int, int], block: tuple[int, int], *args: Any) -> None:
        kernel(*_arguments(grid, block, *args))


def _arguments(grid: tuple[int, int], block: tuple[int, int], *args: Any) -> tuple[Any, ...]:
    *words, width, height = args
    pair = ctypes.c_int * 2
    return (
        pair(*grid),
        pair(*block),
        (ctypes.c_ulonglong * len(words))(*words),
        ctypes.c_int(width),
        ctypes.c_int(height),
    )


@attrs.define
class HostMachine:
    """Where the suites of device_colours.py and compact_surfaces.py run without a GPU."""

    launcher: HostLauncher
    device: SimulatedDevice = attrs.field(factory=lambda: SimulatedDevice(256 << 20, latency=1e-3))
    stream: Any = attrs.field(init=False)
    pool: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.stream = self.device.stream()
        self.pool = device_pool(self.device, Ledger())

    def write(self, memory: Any, raw: np.ndarray) -> None:
        self._wait(memory)
        memory.array(raw.shape, np.uint8)[:] = raw

    def read(self, memory: Any, count: int) -> np.ndarray:
        self._wait(memory)
        return memory.array((count,), np.uint8).copy()

    def close(self) -> None:
        assert self.pool.stats().leased == 0
        self.pool.close()
        self.device.close()
        assert self.device.used == 0

    @staticmethod
    def _wait(memory: Any) -> None:
        if memory.last_use is not None:
            memory.last_use.wait()


def compiled_wgmma(source: KernelSource, run: str, compiler: HostCompiler) -> Any:
    """The function ``run`` of the text of that name behind a wgmma kernel's, which it may call between barriers."""
    code = without(source.code, "inference/compact", "pairs.cuh")
    code = code.replace("asm volatile(", "ASM(").replace("asm(", "ASM(")
    for name in REPLACED:
        assert code.count(name) <= 1
        code = code.replace(name, name.replace(" ", " device_"))
    return compiler(f'#include "{WORDS.with_name("wgmma_words.hpp")}"\n{code}\n{run}').run


def without(code: str, room: str, name: str) -> str:
    """Without the text of that file, which a kernel may have in it once."""
    text = resources.files("rave_trio").joinpath(room, "kernels", name).read_text("utf-8")
    assert code.count(text) <= 1
    return code.replace(text, "")


RUN_MMA = """
extern "C" void run(const int* grid, const Word* words) { launch(%s, THREADS, grid, words); }
"""


def compiled_mma(source: KernelSource, compiler: HostCompiler) -> Any:
    """A whole mma.sync kernel, called with the two sizes of its grid, and its arguments as 64-bit words."""
    code = without(source.code, "color/cuda", "half.cuh")
    code = without(without(code, "inference/compact", "instructions.cuh"), "inference/compact", "pairs.cuh")
    code = code.replace("extern __shared__", "extern")
    return compiler(f'#include "{WORDS.with_name("mma_words.hpp")}"\n{code}\n{RUN_MMA % source.name}').run
