"""The trunk by mma.sync, its whole text compiled for the host, the threads of a block taking turns, against numpy."""

from __future__ import annotations

import ctypes

import e4m3
import numpy as np
import pytest
from compact_kernels import SUM_ROUNDING, check_e4m3
from compact_reference import Layer, architecture, packed, random_layer, through
from host_kernels import COMPILER, HostCompiler, compiled_mma

from rave_trio.inference.compact.kernels_protocol import REMAINING, Precision, Rows
from rave_trio.inference.compact.mma_kernels import trunk_kernel

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
BLOCKS = 2


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    return HostCompiler(tmp_path_factory.mktemp("trunks"))


def before_no_number(values: np.ndarray) -> np.ndarray:
    """Bytes, and behind them some that must not be read."""
    return np.concatenate([values.reshape(-1).view(np.uint8), np.full(64, 0x7F, np.uint8)])


@pytest.mark.parametrize(
    ("features", "arch", "source_bytes", "target_bytes"),
    [(16, "sm_89", 1, 1), (48, "sm_89", 1, 1), (64, "sm_89", 2, 1), (64, "sm_89", 1, 1), (128, "sm_90", 1, 2)],
)
def test_the_trunk_reads_and_writes_fp8(compiler, features, arch, source_bytes, target_bytes):
    """In a picture of several tiles, of which some rows are computed, by more blocks than one."""
    rng = np.random.default_rng(0)
    kernel = trunk_kernel(architecture(features), arch, precision=Precision(source_bytes, target_bytes))
    run = compiled_mma(kernel.source, RUN, compiler)
    across, down = kernel.tiling.tile
    height, width, rows = down + 3, across + 9, Rows(1, down + 2)
    layer = random_layer(rng, features, features, activates=True)
    weights, slope = packed(layer, features), layer.slope
    scale = rng.uniform(0.01, 0.03, features).astype(np.float32)
    shares = rng.uniform(-2, 2, REMAINING).astype(np.float32)
    x = rng.normal(0, 1, (height, width, features)).astype(np.float16)
    remaining = e4m3.encoded(rng.normal(0, 0.3, (height, width, REMAINING)))
    source = x
    if source_bytes == 1:
        weights = e4m3.encoded(weights / scale[:, None])
        exact = (e4m3.decoded(weights) * scale[:, None]).reshape(3, 3, features, features)
        layer = Layer(exact.transpose(2, 3, 0, 1), layer.bias, slope)
        source = e4m3.encoded(x)
        x = e4m3.decoded(source)
    target = np.full((height, width, features), np.nan, np.float16)
    if target_bytes == 1:
        target = np.full(target.shape, 0x7F, np.uint8)
    left = np.full(remaining.shape, 0x7F, np.uint8)
    held = before_no_number(source), before_no_number(weights)
    arrays = held[0], target, held[1], layer.bias, slope, np.concatenate([scale, shares]), remaining, left
    addresses = (ctypes.c_void_p * 8)(*(each.ctypes.data for each in arrays))
    run(addresses, (ctypes.c_int * 4)(height, width, rows.begin, rows.end), BLOCKS)

    added = e4m3.decoded(remaining) * shares if source_bytes == target_bytes == 1 else None
    window = slice(rows.begin, rows.end)
    expected, size = (each[window] for each in through(x, layer, added=added))
    slack = SUM_ROUNDING * size
    if target_bytes == 2:
        assert np.isnan(np.delete(target, window, 0)).all()
        assert (np.abs(target[window] - expected) <= 2.0**-11 * np.abs(expected) + slack).all()
        assert (left == 0x7F).all()
        return
    for everything in (target, left):
        assert (np.delete(everything, window, 0) == 0x7F).all()
    check_e4m3(target[window], left[window], expected, slack)
