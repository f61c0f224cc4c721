"""The tail that resizes, from the sums of its products on: its own text compiled for the host, against numpy.

The units of every block are run one after the other: of each, all threads put their sums into shared memory, and then
each does all that it does with them.
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from compact_reference import architecture, cubic, enlarged, of_samples, random_ends, resampled
from host_kernels import COMPILER, PLACE_SUMS, HostCompiler, compiled_wgmma

from rave_trio.inference.compact.kernels_protocol import Architecture, Planes, Resampling, Rows
from rave_trio.inference.compact.sums import sums_of
from rave_trio.inference.compact.wgmma_kernels import resized_source, resized_tiling

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

RUN = """
extern "C" void run(const float* sums, const float* bias, const float* scale, u16* picture, u16* target,
                    long long target_plane, int height, int width, int first_row, int units_down, int strips,
                    int blocks) {
    static float product[64 * WIDTH];
    for (float& sum : product) sum = NAN;
    for (int block = 0; block < blocks; ++block) {
        const Work work(first_row, units_down, strips, block, blocks);
        const u32 handed = GROUPS * STAGE_BYTES;
        for (u32 at = 0; at < handed + UNDER_WAY * HANDED_BYTES; at += 4) write_shared(at, NAN);
        int group = 0;
        for (Unit unit(work); unit.number < work.last; unit.advance(work), group = 1 - group) {
            place_sums(product, sums, unit, work, height, width);
            for (int i = 0; i < 2 * WARPGROUP; ++i) {
                threadIdx.x = group * WARPGROUP + i % WARPGROUP;
                float own[SUMS];
                take_sums(own, product);
                StoreResized finish{{picture, (long long)height * width}, {target, target_plane}, work,
                                    {scale, bias, group}, height, width, handed};
                if (i < WARPGROUP) {
                    finish.through.put(own, group * STAGE_BYTES);
                } else {
                    finish.read_ahead(unit);
                    finish(own, unit, group * STAGE_BYTES);
                }
            }
        }
    }
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    compiler = HostCompiler(tmp_path_factory.mktemp("tails"))
    return lambda arch, itemsize: compiled_wgmma(resized_source(arch, itemsize), PLACE_SUMS + RUN, compiler)


def summed(samples: np.ndarray, arch: Architecture) -> np.ndarray:
    """Each pixel's sums in the places of its samples."""
    _, height, width = samples.shape
    sums = sums_of(arch.resampling, arch.factor)
    pixels = samples.reshape(3, height // arch.factor, arch.factor, width // arch.factor, arch.factor)
    return np.einsum("vi,hj,cyixj->cyvxh", sums, sums, pixels).reshape(samples.shape).astype(np.float32)


def check(
    compiled,
    arch: Architecture,
    height: int,
    width: int,
    rows: Rows | None = None,
    blocks: int = 1,
    itemsize: int = 2,
) -> np.ndarray:
    """The rows that were asked for, in bits; the same random samples for a size."""
    rng = np.random.default_rng(height * 1000 + width)
    rows = rows or Rows(0, height)
    samples = rng.normal(0.3, 0.4, (3, height * arch.factor, width * arch.factor)).astype(np.float32)
    picture = rng.random((3, height, width)).astype(np.float16)
    out = np.full((3, height * arch.scale, width * arch.scale), np.nan, np.float16)
    target = Planes(out.ctypes.data, out[0].size)
    work = resized_tiling(arch, itemsize).work(rows, width)
    blocks = min(blocks, work[1] * work[2])
    bias, scale = random_ends(rng, arch, itemsize)
    sums = (summed(samples, arch) - of_samples(bias, arch, height, width)) / of_samples(scale, arch, height, width)
    pointers = [ctypes.c_void_p(each.ctypes.data) for each in (sums, bias, scale, picture)]
    run = compiled(arch, itemsize)
    run(*pointers, ctypes.c_void_p(target.pointer), ctypes.c_longlong(target.plane), height, width, *work, blocks)
    large = samples + enlarged(picture, arch.factor).astype(np.float64) if arch.skip else samples.astype(np.float64)
    expected = resampled(large, arch.factor, arch.resampling)
    if arch.clip:
        expected = expected.clip(0, 1)
    window = slice(rows.begin * arch.scale, rows.end * arch.scale)
    assert np.isnan(out[:, : window.start]).all()
    assert np.isnan(out[:, window.stop :]).all()
    np.testing.assert_allclose(out[:, window], expected[:, window], rtol=2.0**-11, atol=2e-6)
    return out[:, window].view(np.uint16)


SIZES = [(1, 1), (1, 130), (5, 1), (2, 126), (3, 127), (17, 260)]


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize(("scale", "factor", "itemsize"), [(2, 4, 2), (1, 4, 2), (1, 3, 2), (2, 4, 1)])
def test_the_samples_of_any_picture_are_resized_as_by_the_resize(compiled, scale, factor, itemsize, skip):
    arch = architecture(64, factor, skip=skip, clip=not skip, resampling=cubic(scale, factor))
    for height, width in SIZES:
        whole, *shared = (
            check(compiled, arch, height, width, blocks=blocks, itemsize=itemsize) for blocks in (1, 2, 5, 132)
        )
        assert all((each == whole).all() for each in shared)


@pytest.mark.parametrize(("begin", "end"), [(0, 1), (3, 15), (11, 12), (7, 20), (19, 20)])
def test_of_the_samples_only_the_rows_asked_for_are_resized(compiled, begin, end):
    arch = architecture(64, 4, resampling=cubic(2, 4))
    whole = check(compiled, arch, 20, 150)
    for blocks in (1, 3):
        part = check(compiled, arch, 20, 150, Rows(begin, end), blocks)
        assert (part == whole[:, begin * 2 : end * 2]).all()


NEAREST = Resampling(2, (0, 2), ((1.0,), (1.0,)))
LOPSIDED = Resampling(2, (-1, 1), ((0.7, 0.5, -0.2, 0.0), (0.3, 0.4, 0.6, -0.3)))
ONLY_BEFORE = Resampling(1, (-1,), ((0.75, 0.25),))


@pytest.mark.parametrize(("resampling", "factor"), [(NEAREST, 4), (LOPSIDED, 4), (ONLY_BEFORE, 3)])
def test_of_samples_on_either_side_each_has_its_own_weight(compiled, resampling, factor):
    arch = architecture(64, factor, resampling=resampling)
    for height, width in SIZES:
        check(compiled, arch, height, width, blocks=2)
