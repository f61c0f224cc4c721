"""What the trunk does in fp8 with the sums of a product: its own text compiled for the host, against numpy."""

from __future__ import annotations

import ctypes

import e4m3
import numpy as np
import pytest
from compact_reference import remainders_as_pixels_lie, remainders_as_threads_hold
from host_kernels import COMPILER, TAKE_SUMS, HostCompiler, compiled_wgmma

from rave_trio.inference.compact.kernels_protocol import REMAINING, REMAINING_CHANNELS, Rows
from rave_trio.inference.compact.wgmma_kernels import trunk_source, trunk_tiling

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

RUN = (
    TAKE_SUMS
    + """
extern "C" void run(const float* sums, const float* bias, const float* slope, const float* scale, FourWords* source,
                    FourWords* target, u32* results, int last_row, int first_row, int units_down, int strips,
                    int first_output) {
    const Work work(first_row, units_down, strips, 0, 1);
    const TensorMap output = {};
    stored = results;
    for (Unit unit(work); unit.number < work.last; unit.advance(work), sums += 64 * WIDTH)
        for (int thread = 0; thread < WARPGROUP; ++thread) {
            threadIdx.x = thread;
            float own[SUMS];
            take_sums(own, sums);
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
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    compiler = HostCompiler(tmp_path_factory.mktemp("trunks"))
    return lambda tiling: compiled_wgmma(trunk_source(tiling), RUN, compiler)


def halves(values: np.ndarray) -> np.ndarray:
    """Rounded to fp16."""
    return values.astype(np.float16).astype(np.float64)


@pytest.mark.parametrize("remains", [True, False])
@pytest.mark.parametrize(
    ("features", "first_output", "read"), [(16, 0, 1), (32, 0, 1), (64, 0, 2), (64, 0, 1), (128, 0, 1), (128, 64, 1)]
)
def test_results_and_remainders_are_the_sums_scaled_bent_and_rounded(compiled, features, first_output, read, remains):
    """A picture of two strips, of whose seven rows five are computed, by products of one, two or four rows."""
    rng = np.random.default_rng(0)
    height, strips, rows = 7, 2, Rows(1, 6)
    tiling = trunk_tiling(features, (read, 1))
    _, down, _ = work = tiling.work(rows, 128 * strips)
    sums = rng.normal(0, 40, (strips, down, tiling.rows, 64 // tiling.rows, 128)).astype(np.float32)
    sums[0, 0, 0, :2, :2] = 1e9, -1e9
    bias, slope = rng.normal(0, 1, features).astype(np.float32), rng.uniform(-0.5, 1, features).astype(np.float32)
    slope[:2] = 0
    scale = rng.uniform(0.1, 1, features + REMAINING).astype(np.float32)
    remaining = e4m3.encoded(rng.normal(0, 2, (height, 128 * strips, REMAINING)))
    held, left = remainders_as_threads_hold(remaining), np.full(remaining.size, 0x7F, np.uint8)
    words = np.zeros((strips, down, 4, 8, 4, 16), np.uint32)
    arrays = [each.ctypes.data for each in (sums, bias, slope, scale, held, left, words)]
    if not remains:
        arrays[4:6] = 0, 0
    compiled(tiling)(*map(ctypes.c_void_p, arrays), rows.end, *work, first_output)

    outputs = np.arange(first_output, first_output + tiling.outputs)
    factors = scale[outputs] if read == 1 else np.ones(len(outputs))
    values = sums[:, :, :, : tiling.outputs].astype(np.float64) * factors[:, None] + bias[outputs][:, None]
    whole = values.transpose(1, 2, 0, 4, 3).reshape(down * tiling.rows, 128 * strips, tiling.outputs)
    most = float(np.finfo(np.float16).max)
    whole = halves(np.clip(whole[: rows.end - rows.begin].astype(np.float32), -most, most))
    window = slice(rows.begin, rows.end)
    has_remainders = remains and first_output == 0
    if has_remainders and read == 1:
        added = e4m3.decoded(remaining[window]) * halves(scale[features:])
        whole[:, :, REMAINING_CHANNELS] = halves(whole[:, :, REMAINING_CHANNELS] + added)
    whole = np.maximum(whole, halves(whole * halves(slope[outputs])))
    codes = words.view(np.uint8).reshape(strips, down, 4, 8, 4, 4, 4, 2, 2)
    codes = codes.transpose(1, 2, 3, 8, 0, 5, 6, 4, 7).reshape(down, tiling.rows, 64 // tiling.rows, 128 * strips)
    codes = codes[:, :, : tiling.outputs].transpose(0, 1, 3, 2).reshape(-1, 128 * strips, tiling.outputs)
    codes = codes[: rows.end - rows.begin]
    np.testing.assert_array_equal(codes, e4m3.encoded(whole))
    found = remainders_as_pixels_lie(left, height)
    if not has_remainders:
        assert (found == 0x7F).all()
        return
    assert (found[: rows.begin] == 0x7F).all()
    assert (found[rows.end :] == 0x7F).all()
    rest = (whole - e4m3.decoded(codes))[:, :, REMAINING_CHANNELS]
    np.testing.assert_array_equal(found[window], e4m3.encoded(halves(rest)))
