"""The tail by wgmma, from the sums of its products on: its own text compiled for the host, against numpy.

The units of every block are run one after the other: of each, all threads put their sums into shared memory, and then
each does all that it does with them.
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from compact_reference import architecture, enlarged, of_samples, random_ends
from host_kernels import COMPILER, PLACE_SUMS, HostCompiler, compiled_wgmma

from rave_trio.inference.compact.kernels_protocol import Rows
from rave_trio.inference.compact.wgmma_kernels import tail_source, tail_tiling

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

RUN = """
extern "C" void run(const float* sums, const float* bias, const float* scale, u16* picture, u16* target, int height,
                    int width, int first_row, int units_down, int strips, int blocks) {
    const long long pixels = (long long)height * width;
    static float product[64 * WIDTH];
    for (float& sum : product) sum = NAN;
    for (int block = 0; block < blocks; ++block) {
        const Work work(first_row, units_down, strips, block, blocks);
        for (Unit unit(work); unit.number < work.last; unit.advance(work)) {
            place_sums(product, sums, unit, work, height, width);
            for (int i = 0; i < 2 * WARPGROUP; ++i) {
                threadIdx.x = i % WARPGROUP;
                float own[SUMS];
                take_sums(own, product);
                StorePicture finish{{picture, pixels}, {target, pixels * SAMPLES}, work, {scale, bias, 0}, width};
                if (i < WARPGROUP) {
                    finish.through.put(own, 0);
                } else {
                    finish.read_ahead(unit);
                    finish(own, unit, 0);
                }
            }
        }
    }
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    compiler = HostCompiler(tmp_path_factory.mktemp("tails"))
    return lambda arch, itemsize: compiled_wgmma(tail_source(arch, itemsize), PLACE_SUMS + RUN, compiler)


@pytest.mark.parametrize("itemsize", [1, 2])
@pytest.mark.parametrize(("factor", "skip"), [(4, True), (3, False), (1, True)])
def test_sums_scaled_and_with_their_bias_are_the_samples_that_are_added_to_the_picture(
    compiled, factor, skip, itemsize
):
    """To the last bit, and no other rows."""
    arch = architecture(64, factor, skip=skip, clip=not skip)
    rng = np.random.default_rng(factor)
    for (height, width), rows in [((1, 1), Rows(0, 1)), ((3, 128), Rows(0, 3)), ((9, 260), Rows(2, 8))]:
        sums = rng.normal(0.3, 0.4, (3, height * factor, width * factor)).astype(np.float32)
        picture = rng.random((3, height, width)).astype(np.float16)
        bias, scale = random_ends(rng, arch, itemsize)
        out = np.full(sums.shape, np.nan, np.float16)
        pointers = (each.ctypes.data for each in (sums, bias, scale, picture, out))
        work = tail_tiling(arch, itemsize).work(rows, width)
        compiled(arch, itemsize)(*map(ctypes.c_void_p, pointers), height, width, *work, min(2, work[1] * work[2]))
        scaled = sums.astype(np.float64) * of_samples(scale, arch, height, width)
        samples = (scaled + of_samples(bias, arch, height, width)).astype(np.float32)
        expected = samples + enlarged(picture, factor).astype(np.float32) if skip else samples.clip(0, 1)
        window = slice(rows.begin * factor, rows.end * factor)
        np.testing.assert_array_equal(out[:, window], expected[:, window].astype(np.float16))
        assert np.isnan(out[:, : window.start]).all()
        assert np.isnan(out[:, window.stop :]).all()
