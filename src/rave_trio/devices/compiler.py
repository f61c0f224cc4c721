"""Kernels from source, by NVRTC: needs no GPU and no driver.  What was compiled is kept on disk."""

from __future__ import annotations

import functools
from pathlib import Path

from cuda.core import ObjectCode, Program, ProgramOptions
from cuda.core.utils import FileStreamProgramCache

from rave_trio.caches import cache_folder
from rave_trio.devices.kernel_source import Source

CACHE_BYTES = 64 << 20
"""What the kept kernels may take; the least recently used go first."""


def compile_kernel(kernel: Source, arch: str, folder: Path | None = None) -> ObjectCode:
    """Machine code of ``kernel`` for ``arch`` (``"sm_90"``), from ``folder`` if it was compiled before.

    ``folder`` is where the user's caches are unless given.  One that cannot be read or written is done without.
    Entries are found by source, options and compiler version, and are written beside and renamed, so several processes
    may share the folder.  Raises what cuda.core raises for an architecture that the compiler does not know.

    Any thread; the result is not loaded: that needs a device, and without a driver must not be tried.
    """
    program = Program(kernel.code, "c++", ProgramOptions(arch=arch, std="c++17", name=f"{kernel.name}.cu"))
    folder = folder or cache_folder("kernels")
    try:
        return program.compile("cubin", cache=None if folder is None else _cache(folder))
    except OSError:
        return program.compile("cubin")
    finally:
        program.close()


@functools.cache
def _cache(folder: Path) -> FileStreamProgramCache:
    return FileStreamProgramCache(folder, max_size_bytes=CACHE_BYTES)
