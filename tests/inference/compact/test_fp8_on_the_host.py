"""What the trunk does in fp8 with the sums of a product: its own text compiled for the host, against numpy."""

from __future__ import annotations

import ctypes

import e4m3
import numpy as np
import pytest
from compact_reference import remainders_as_pixels_lie, remainders_as_threads_hold
from host_kernels import COMPILER, HostCompiler, compiled_wgmma

from rave_trio.inference.compact.kernels_protocol import REMAINING, Rows
from rave_trio.inference.compact.wgmma_kernels import Precision, trunk_source, trunk_tiling

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

RUN = """
extern "C" void run(const float* sums, const float* bias, const float* slope, const float* scale, FourWords* source,
                    FourWords* target, u32* results, int last_row, int first_row, int units_down, int strips,
                    int first_output) {
    const Work work(first_row, units_down, strips, 0, 1);
    const TensorMap output = {};
    stored = results;
    for (Unit unit(work); unit.number < work.last; unit.advance(work), sums += 64 * WIDTH)
        for (int thread = 0; thread < WARPGROUP; ++thread) {
            threadIdx.x = thread;
            const int lane = thread % 32;
            float own[SUMS];
            for (int i = 0; i < SUMS; ++i)
                own[i] = sums[product_row(lane / 4, i / 2 % 2) * WIDTH + i / 4 * 8 + lane % 4 * 2 + i % 2];
            Activation activation;
            activation.load(scale, bias, slope, first_output);
            StoreActivations finish{&output, work, activation, 0, first_output,
                                    {first_output == 0 ? source : nullptr, strips, last_row},
                                    {first_output == 0 ? target : nullptr, strips, last_row}};
            finish.read_ahead(unit);
            finish(own, unit, 0);
        }
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    compiler = HostCompiler(tmp_path_factory.mktemp("trunks"))

    def compile_(features: int, source: int):
        return compiled_wgmma(trunk_source(trunk_tiling(features, Precision(source, 1))), RUN, compiler)

    return compile_


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return (a.astype(np.float64) * b + c).astype(np.float32)


@pytest.mark.parametrize(
    ("features", "first_output", "source"), [(16, 0, 1), (32, 0, 1), (64, 0, 2), (128, 0, 1), (128, 64, 1)]
)
def test_results_and_remainders_are_the_sums_scaled_bent_and_rounded(compiled, features, first_output, source):
    """A picture of two strips, of whose seven rows five are computed, by products of one, two or four rows."""
    rng = np.random.default_rng(0)
    height, strips, rows = 7, 2, Rows(1, 6)
    tiling = trunk_tiling(features, Precision(source, 1))
    _, down, _ = work = tiling.work(rows, 128 * strips)
    sums = rng.normal(0, 40, (strips, down, tiling.rows, 64 // tiling.rows, 128)).astype(np.float32)
    bias, slope = rng.normal(0, 1, (2, features)).astype(np.float32)
    scale = rng.uniform(0.1, 1, features + REMAINING).astype(np.float32)
    remaining = e4m3.encoded(rng.normal(0, 2, (height, 128 * strips, REMAINING)))
    held, left = remainders_as_threads_hold(remaining), np.full(remaining.size, 0x7F, np.uint8)
    words = np.zeros((strips, down, 4, 8, 4, 16), np.uint32)
    arrays = sums, bias, slope, scale, held, left, words
    run = compiled(features, source)
    run(*(ctypes.c_void_p(each.ctypes.data) for each in arrays), rows.end, *work, first_output)

    outputs = np.arange(first_output, first_output + tiling.outputs)
    bias, factor, slope = (each[outputs][:, np.newaxis] for each in (bias, scale, slope))
    values = sums[:, :, :, : tiling.outputs]
    values = fused(values, factor, bias) if source == 1 else values + bias
    whole = values.transpose(1, 2, 0, 4, 3).reshape(down * tiling.rows, 128 * strips, tiling.outputs)
    whole = whole[: rows.end - rows.begin].copy()
    window = slice(rows.begin, rows.end)
    if source == 1 and first_output == 0:
        added = e4m3.decoded(remaining[window])
        whole[:, :, :REMAINING] = fused(added, scale[features:], whole[:, :, :REMAINING])
    whole = np.where(whole > 0, whole, whole * slope[:, 0])
    codes = words.view(np.uint8).reshape(strips, down, 4, 8, 4, 4, 4, 2, 2)
    codes = codes.transpose(1, 2, 3, 8, 0, 5, 6, 4, 7).reshape(down, tiling.rows, 64 // tiling.rows, 128 * strips)
    codes = codes[:, :, : tiling.outputs].transpose(0, 1, 3, 2).reshape(-1, 128 * strips, tiling.outputs)
    codes = codes[: rows.end - rows.begin]
    np.testing.assert_array_equal(codes, e4m3.encoded(whole))
    found = remainders_as_pixels_lie(left, height)
    assert (found[: rows.begin] == 0x7F).all()
    assert (found[rows.end :] == 0x7F).all()
    if first_output > 0:
        assert (found == 0x7F).all()
    else:
        rest = (whole - e4m3.decoded(codes).astype(np.float32))[:, :, :REMAINING]
        np.testing.assert_array_equal(found[window], e4m3.encoded(rest))
