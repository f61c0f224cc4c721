"""The tail that ends in a surface, from the sums of its products on: its own text compiled for the host, against the
converter's.

The units of every block are run one after the other: of each, all threads put their sums into shared memory, and then
each does all that it does with them.
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from colour_reference import Reference
from compact_reference import architecture, enlarged, of_samples, random_ends
from device_colours import Converting
from host_kernels import COMPILER, PLACE_SUMS, HostCompiler, HostLauncher, HostMachine, compiled_wgmma

from rave_trio.color.cuda import layout
from rave_trio.color.cuda.host import placed_planes
from rave_trio.color.cuda.specialisation import codes
from rave_trio.frames import SurfaceDescriptor
from rave_trio.inference.compact.kernels_protocol import Rows
from rave_trio.inference.compact.wgmma_kernels import surface_source, surface_tiling

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

RUN = """
extern "C" void run(const float* sums, const float* bias, const float* scale, u16* picture, codes::Sample* plane0,
                    codes::Sample* plane1, codes::Sample* plane2, long long pitch0, long long pitch1, long long pitch2,
                    int height, int width, int top, int first_row, int units_down, int strips, int blocks) {
    static float product[64 * WIDTH];
    for (float& sum : product) sum = NAN;
    const Surface surface{{plane0, plane1, plane2}, {pitch0, pitch1, pitch2}};
    for (int block = 0; block < blocks; ++block) {
        const Work work(first_row, units_down, strips, block, blocks);
        for (Unit unit(work); unit.number < work.last; unit.advance(work)) {
            place_sums(product, sums, unit, work, height, width);
            for (int i = 0; i < 2 * WARPGROUP; ++i) {
                threadIdx.x = i % WARPGROUP;
                float own[SUMS];
                take_sums(own, product);
                StoreCodes finish{{picture, (long long)height * width}, surface, work, {scale, bias, 0}, width, top};
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
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tails")


@pytest.fixture(scope="module")
def launcher(folder):
    return HostLauncher(folder)


@pytest.fixture
def machine(launcher):
    made = HostMachine(launcher)
    yield made
    made.close()


@pytest.fixture(scope="module")
def compiled(folder):
    compiler = HostCompiler(folder)
    return lambda *how: compiled_wgmma(surface_source(*how), PLACE_SUMS + RUN, compiler)


def converted(machine, picture: np.ndarray, surface: SurfaceDescriptor, *, dither: bool) -> list[np.ndarray]:
    """The planes that the converter makes of a tensor."""
    converting, placed = Converting(machine), layout(surface)
    frame = converting.writer(surface, np.float16, dither=dither).convert(converting.tensor(picture))
    planes = placed_planes(machine.read(frame.surface.native.memory, placed.nbytes), placed)
    frame.close()
    return planes


def check(
    machine, compiled, arch, name, location, size, *, rows=None, top=0, blocks=1, dither=False, itemsize=2
) -> None:
    rng = np.random.default_rng(sum(size))
    (width, height), factor = size, arch.factor
    rows = rows or Rows(0, height)
    surface = Reference.descriptor(name, width * factor, (top + height) * factor, 1, False, location)
    made = codes(surface, factor, dither=dither)
    sums = rng.normal(0.3, 0.4, (3, height * factor, width * factor)).astype(np.float32)
    bias, scale = random_ends(rng, arch, itemsize)
    scaled = sums.astype(np.float64) * of_samples(scale, arch, height, width)
    samples = (scaled + of_samples(bias, arch, height, width)).astype(np.float32)
    picture = rng.random((3, height, width)).astype(np.float16)
    placed = layout(surface)
    raw = np.full(placed.nbytes, 0xA5, np.uint8)
    planes = [placed.planes[number] for number in made.planes]
    arrays = sums, bias, scale, picture
    pointers = [*(each.ctypes.data for each in arrays), *(raw.ctypes.data + plane.offset for plane in planes)]
    work = surface_tiling(arch, made, itemsize).work(rows, width)
    compiled(arch, made, itemsize)(
        *map(ctypes.c_void_p, pointers),
        *(ctypes.c_longlong(plane.pitch) for plane in planes),
        *(height, width, top, *work, min(blocks, work[1] * work[2])),
    )
    large = samples + enlarged(picture, factor).astype(np.float32) if arch.skip else samples
    if arch.clip:
        large = large.clip(0, 1)
    above = np.zeros((3, top * factor, width * factor), np.float16)
    expected = converted(machine, np.concatenate([above, large.astype(np.float16)], axis=1), surface, dither=dither)
    for found, plane in zip(placed_planes(raw, placed), expected, strict=True):
        scale = factor * len(plane) // surface.height
        window = slice((top + rows.begin) * scale, (top + rows.end) * scale)
        np.testing.assert_array_equal(found[window], plane[window])
        assert (found[: window.start].view(np.uint8) == 0xA5).all()
        assert (found[window.stop :].view(np.uint8) == 0xA5).all()


@pytest.mark.parametrize(
    ("name", "location", "factor", "itemsize"),
    [("nv12", "LEFT", 4, 1), ("p010le", "CENTER", 2, 2), ("yuv420p", "LEFT", 2, 2), ("yuv444p10le", "LEFT", 1, 1)],
)
def test_the_codes_of_any_picture_are_those_of_the_converter(machine, compiled, name, location, factor, itemsize):
    arch = architecture(64, factor, clip=name == "p010le")
    for size in [(1, 1), (1, 5), (127, 2), (128, 3), (260, 9)]:
        for blocks in (1, 5):
            check(machine, compiled, arch, name, location, size, blocks=blocks, itemsize=itemsize)


def test_of_a_strip_only_the_rows_asked_for_are_written_where_they_belong(machine, compiled):
    for begin, end in [(0, 1), (2, 7), (8, 9)]:
        check(machine, compiled, architecture(64), "nv12", "LEFT", (150, 9), rows=Rows(begin, end), top=3, blocks=3)


def test_codes_are_dithered_by_their_places_in_the_whole_picture(machine, compiled):
    check(
        machine, compiled, architecture(64, skip=False), "nv12", "LEFT", (140, 5), rows=Rows(1, 5), top=3, dither=True
    )


@pytest.mark.parametrize(
    ("name", "location", "factor"),
    [("nv12", "TOP_LEFT", 4), ("nv12", "LEFT", 3), ("nv12", "LEFT", 1), ("gray", "LEFT", 4), ("gbrp", "LEFT", 4)],
)
def test_what_looks_at_other_samples_or_has_no_chroma_is_left_to_the_converter(name, location, factor):
    assert codes(Reference.descriptor(name, 96, 96, 1, False, location), factor, dither=False) is None
