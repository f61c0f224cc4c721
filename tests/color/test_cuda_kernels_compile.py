"""Every kernel compiles for every architecture; compiling needs no GPU, and what was compiled is kept."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("cuda.core")
if importlib.util.find_spec("cuda.bindings.nvrtc") is None:
    pytest.skip("there is no NVRTC", allow_module_level=True)

from rave_trio.caches import cache_folder
from rave_trio.color.cuda.specialisation import Tile, reading, writing
from rave_trio.devices import compiler
from rave_trio.devices.compiler import compile_kernel

ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]

FORMATS = ["nv12", "p010le", "yuv420p", "yuv422p10le", "yuv444p16le", "gray10le", "gbrp"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where kernels are kept, empty at first."""
    compiler._cache.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "rave-trio" / "kernels"
    compiler._cache.cache_clear()


@pytest.fixture
def kernel(reference):
    return reading(reference.descriptor("gray", 64, 64), np.float32)


def entries(folder) -> list:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_usual_kernels_compile_for_every_architecture(reference, folder, arch):
    surface = reference.descriptor("nv12", 3840, 2160, 1, False)
    for dtype in (np.float16, np.float32):
        for kernel in (reading(surface, dtype), writing(surface, dtype)):
            assert compile_kernel(kernel, arch).code


@pytest.mark.parametrize("name", FORMATS)
def test_every_kind_of_format_compiles_for_both_precisions_dithered_or_not(reference, folder, name):
    surface = reference.descriptor(name, 1920, 1080, 1, False)
    for dtype in (np.float16, np.float32):
        for kernel in (reading(surface, dtype), writing(surface, dtype, dither=True)):
            assert compile_kernel(kernel, "sm_90").code


@pytest.mark.parametrize("location", ["LEFT", "CENTER", "TOP_LEFT", "BOTTOM"])
def test_every_siting_compiles(reference, folder, location):
    surface = reference.descriptor("p010le", 1920, 1080, 9, False, location)
    for kernel in (reading(surface, np.float16), writing(surface, np.float16)):
        assert compile_kernel(kernel, "sm_90").code


def test_threads_may_convert_tiles_of_other_sizes(reference, folder):
    surface = reference.descriptor("nv12", 1920, 1080, 1, False)
    kernel = reading(surface, np.float16, Tile(4, 4))
    assert (kernel.pixels, kernel.lines) == (4, 8)
    assert kernel.grid(1920, 1080) == (15, 34)
    assert compile_kernel(kernel, "sm_90").code


def test_a_kernel_is_compiled_once_and_then_read_from_the_users_cache(folder, kernel):
    assert cache_folder("kernels") == folder
    first = compile_kernel(kernel, "sm_90").code
    kept = entries(folder)
    assert len(kept) == 1
    compiler._cache.cache_clear()
    assert compile_kernel(kernel, "sm_90").code == first
    assert entries(folder) == kept
    compile_kernel(kernel, "sm_80")
    assert len(entries(folder)) == 2


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, kernel):
    compiler._cache.cache_clear()
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert compile_kernel(kernel, "sm_90").code


def test_an_architecture_that_the_compiler_does_not_know_is_an_error(folder, kernel):
    with pytest.raises(Exception, match="arch"):
        compile_kernel(kernel, "sm_10")


@pytest.mark.parametrize("module", ["rave_trio.color", "rave_trio.color.cuda"])
def test_importing_the_colours_does_not_import_cuda(module):
    script = f"import sys, {module}; sys.exit('cuda' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
