"""The wgmma kernels where there is no GPU: what the compiler says of them, and how they are launched."""

from __future__ import annotations

import importlib.util
import io
from types import SimpleNamespace

import attrs
import pytest

pytest.importorskip("cuda.core")
if importlib.util.find_spec("cuda.bindings.nvrtc") is None:
    pytest.skip("there is no NVRTC", allow_module_level=True)

from colour_reference import Reference
from compact_reference import cubic
from cuda.core import Program, ProgramOptions

from rave_trio.color.cuda import layout
from rave_trio.color.cuda.specialisation import codes
from rave_trio.devices.kernel_source import KernelSource
from rave_trio.inference.compact import wgmma_kernels
from rave_trio.inference.compact.kernels_protocol import (
    EIGHTHS,
    FEATURES,
    Architecture,
    Parameters,
    Planes,
    Resampling,
    Rows,
)
from rave_trio.inference.compact.wgmma_kernels import (
    ARCH,
    WgmmaKernels,
    resized_source,
    resizes_at_once,
    surface_source,
    tail_source,
    trunk_source,
    trunk_tiling,
)

NEAREST = Resampling(2, (0, 2), ((1.0,), (1.0,)))


def compiled(code: str) -> list[str]:
    """What the compiler and the assembler have to say."""
    log = io.StringIO()
    program = Program(code, "c++", ProgramOptions(arch=ARCH, std="c++17", ptxas_options=["-v"]))
    try:
        assert program.compile("cubin", logs=log).code
    finally:
        program.close()
    return [line for line in log.getvalue().strip("\0\n").splitlines() if line.strip("\0 ")]


def complaints(code: str) -> list[str]:
    """Warnings, spilled registers, and products that are made to wait for one another (C7510 and its like)."""
    lines = compiled(code)
    assert any("spill" in line for line in lines), "the assembler tells nothing"
    calm = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"
    return [line for line in lines if "warning" in line or "(C7" in line or ("spill" in line and calm not in line)]


@pytest.mark.parametrize("features", FEATURES)
def test_the_trunk_compiles_without_spills_and_its_products_run_side_by_side(features):
    assert complaints(trunk_source(trunk_tiling(features)).code) == []


@pytest.mark.parametrize(("features", "itemsizes"), [(64, EIGHTHS[0]), (64, EIGHTHS[1]), (128, EIGHTHS[1])])
def test_the_trunk_in_fp8_compiles_so_too(features, itemsizes):
    assert complaints(trunk_source(trunk_tiling(features, itemsizes)).code) == []


@pytest.mark.parametrize(
    ("features", "factor", "itemsize"),
    [
        *((16, 4, 2), (32, 4, 2), (48, 4, 2), (64, 4, 2), (64, 3, 2), (64, 2, 2), (64, 1, 2)),
        *((64, 4, 1), (128, 4, 1)),
    ],
)
def test_the_tail_compiles_so_too(features, factor, itemsize):
    assert complaints(tail_source(Architecture(features, factor, skip=True, clip=True), itemsize).code) == []


def test_the_tail_compiles_so_too_where_a_resize_follows():
    assert complaints(tail_source(Architecture(64, 4, skip=True, clip=True, resampling=NEAREST)).code) == []


@pytest.mark.parametrize(
    ("features", "scale", "factor", "itemsize"),
    [(64, 2, 4, 2), (16, 1, 4, 2), (32, 2, 4, 2), (48, 1, 3, 2), (96, 2, 4, 1), (128, 2, 4, 1)],
)
def test_the_tail_that_resizes_compiles_so_too(features, scale, factor, itemsize):
    resizing = Architecture(features, factor, skip=True, clip=True, resampling=cubic(scale, factor))
    assert resizes_at_once(resizing, itemsize)
    assert complaints(resized_source(resizing, itemsize).code) == []


@pytest.mark.parametrize(
    ("name", "location", "features", "factor", "itemsize"),
    [
        *(("nv12", "LEFT", 64, 4, 2), ("p010le", "LEFT", 48, 4, 2), ("yuv420p", "CENTER", 16, 2, 2)),
        *(("yuv444p", "LEFT", 32, 1, 2), ("nv12", "LEFT", 128, 4, 1)),
    ],
)
def test_the_tail_that_ends_in_a_surface_compiles_so_too(name, location, features, factor, itemsize):
    made = codes(Reference.descriptor(name, 7680, 4320, 1, False, location), factor, dither=name == "nv12")
    arch = Architecture(features, factor, skip=True, clip=True)
    assert complaints(surface_source(arch, made, itemsize).code) == []


def test_a_surface_that_the_tail_does_not_write_or_that_follows_a_resize_or_many_features_is_the_converters(launches):
    left, top = (Reference.descriptor("nv12", 64, 64, 1, False, where) for where in ("LEFT", "TOP_LEFT"))
    for how, surface in [
        (Architecture(64, 4, True, False), top),
        (Architecture(64, 3, True, False), left),
        (Architecture(128, 4, True, False), left),
        (Architecture(64, 4, True, False, cubic(2, 4)), left),
    ]:
        assert WgmmaKernels(how, launches, None).tail_into(surface, dither=False) is None


def test_strips_of_a_tail_overlap_by_a_pixel_where_chroma_looks_to_the_left(launches):
    for location, strips in [("LEFT", 16), ("CENTER", 15)]:
        surface = Reference.descriptor("nv12", 7680, 4320, 1, False, location)
        tail = kernels(launches, 64).tail_into(surface, dither=False)
        picture = layout(surface).picture(SimpleNamespace(pointer=1 << 20, nbytes=1 << 30))
        tail(None, 256, Planes(1, 2), picture, 7, 500, 1920, Rows(3, 490), Parameters(5, 6))
        (_, _, args) = launches.put_there.pop()
        planes = [1 << 20, (1 << 20) + 7680 * 4320, (1 << 20) + 7680 * 4320, 7680, 7680, 7680]
        assert [int(number) for number in args[6:]] == [*planes, 1920, 7, 3, 487, strips]


def test_a_resize_that_looks_far_or_has_many_results_or_follows_many_features_is_a_kernel_of_its_own():
    far = Resampling(2, (-2, 1), ((0.25,) * 4, (0.25,) * 4))
    both = Resampling(1, (-1,), ((0.2,) * 5,))
    for features, factor, resampling in [
        (64, 4, far),
        (64, 3, both),
        (64, 2, cubic(1, 2)),
        (64, 3, cubic(2, 3)),
        (64, 4, cubic(3, 4)),
        (128, 4, cubic(2, 4)),
        (64, 4, None),
    ]:
        assert not resizes_at_once(Architecture(features, factor, True, False, resampling))


def test_strips_of_a_tail_that_resizes_overlap(launches):
    """126 pixels of each are its own."""
    resizing = Architecture(64, 4, True, False, cubic(2, 4))
    made = WgmmaKernels(resizing, launches, None)
    assert made.resizes_at_once
    made.tail_resized(None, 256, Planes(1, 2), Planes(3, 4), 1080, 1920, Rows(7, 1080), Parameters(5, 6))
    [(_, grid, args)] = launches.put_there
    assert (grid, tuple(int(number) for number in args[-5:])) == (132, (1080, 1920, 7, 1073, 16))


def test_the_compiler_tells_of_products_that_have_to_wait():
    """So that the tests above can fail."""
    code = trunk_source(trunk_tiling(64)).code
    between = "if (i == PRODUCTS - 1 - IN_FLIGHT) products_committed();"
    assert code.count(between) == 1
    assert complaints(code.replace(between, f"{between} if (i == 7) sums[0] *= 1.5f;")) != []


@attrs.define
class Launches:
    """A launcher that notes what it is told."""

    processors_there: int = 132
    made: list[str] = attrs.field(factory=list)
    put_there: list[tuple] = attrs.field(factory=list)

    def arch(self, stream) -> str:
        return "sm_90"

    def processors(self, stream) -> int:
        return self.processors_there

    def load(self, stream, source: KernelSource, *, arch: str = "", shared_bytes: int = 0) -> str:
        self.made.append(source.name)
        return source.name

    def put(self, raw, kernel, grid, block, *args, shared_bytes) -> None:
        assert block == (384,) or kernel in ("head", "tail", "resize")
        assert shared_bytes <= 232448
        self.put_there.append((kernel, grid[0], args))


@pytest.fixture
def launches(monkeypatch):
    monkeypatch.setattr(wgmma_kernels, "tensor_map", lambda *how: how)
    return Launches()


def kernels(launches, features: int, **how) -> WgmmaKernels:
    return WgmmaKernels(Architecture(features, 4, skip=True, clip=False), launches, None, **how)


@pytest.mark.parametrize(
    ("features", "size", "rows", "blocks", "work"),
    [
        (64, (1080, 1920), Rows(0, 1080), 132, (0, 1080, 15)),
        (64, (1, 1), Rows(0, 1), 1, (0, 1, 1)),
        (64, (90, 200), Rows(7, 20), 26, (7, 13, 2)),
        (32, (90, 100), Rows(7, 20), 7, (7, 7, 1)),
        (16, (90, 100), Rows(7, 20), 4, (7, 4, 1)),
        (128, (1080, 1920), Rows(0, 1080), 132, (0, 1080, 15)),
        (96, (3, 100), Rows(0, 3), 6, (0, 3, 1)),
    ],
)
def test_there_are_as_many_blocks_as_processors_or_as_there_is_work(launches, features, size, rows, blocks, work):
    kernels(launches, features).trunk(None, 256, 512, *size, rows, Parameters(1, 2, 3))
    [(_, grid, args)] = launches.put_there
    assert (grid, tuple(int(number) for number in args[-3:])) == (blocks, work)


def test_nothing_is_written_beyond_the_rows_asked_for(launches):
    """Where a product computes several rows, the copy engine leaves out those that lie beyond the end."""
    kernels(launches, 16).trunk(None, 256, 512, 90, 100, Rows(7, 20), Parameters(1, 2, 3))
    [(_, _, (source, target, *_))] = launches.put_there
    assert source[:2] == (256, (90, 100, 16))
    assert target[:2] == (512, (20, 100, 16))


def test_in_fp8_activations_and_weights_are_of_one_byte(launches):
    made = kernels(launches, 64, fp8=True)
    made.trunk(None, 256, 512, 90, 100, Rows(0, 90), Parameters(1, 2, 3, scale=4))
    made.tail(None, 256, Planes(5, 6), Planes(7, 8), 90, 100, Rows(0, 90), Parameters(1, 2, scale=4))
    (_, _, trunk), (_, _, tail) = launches.put_there
    assert [each[3] for each in trunk[:3]] == [1, 1, 1]
    assert [each[3] for each in tail[:2]] == [1, 1]
    assert trunk[3:6] == (2, 3, 4)
    assert tail[2:6] == (2, 4, 5, 6)


def test_remainders_lie_behind_activations_where_a_layer_has_to_do_with_them(launches):
    made = kernels(launches, 64, fp8=True)
    for remains in (True, False):
        made.trunk(None, 256, 1 << 20, 90, 100, Rows(0, 80), Parameters(1, 2, 3, 4, remains))
    (_, _, with_them), (_, _, without) = launches.put_there
    assert with_them[6:8] == (256 + 90 * 100 * 64, (1 << 20) + 80 * 100 * 64)
    assert without[6:8] == (0, 0)


def test_the_first_layer_in_fp8_reads_fp16_and_no_remainders(launches):
    made = kernels(launches, 64, fp8=True)
    made.trunk(None, 256, 1 << 20, 90, 100, Rows(0, 80), Parameters(1, 2, 3, remains=True))
    [(_, _, args)] = launches.put_there
    assert [each[3] for each in args[:3]] == [2, 1, 2]
    assert args[6:8] == (0, (1 << 20) + 80 * 100 * 64)


@pytest.mark.parametrize(
    ("features", "fp8", "resampling", "names"),
    [
        (64, False, None, ["compact_tail_64"]),
        (64, False, cubic(2, 4), ["compact_tail_resized_64"]),
        (64, False, cubic(3, 4), ["resize", "compact_tail_64"]),
        (128, False, None, ["tail"]),
        (128, False, cubic(2, 4), ["resize", "tail"]),
        (128, True, None, ["compact_tail_128"]),
        (128, True, cubic(2, 4), ["compact_tail_resized_128"]),
    ],
)
def test_of_the_other_kernels_only_those_are_compiled_that_an_architecture_needs(
    launches, features, fp8, resampling, names
):
    WgmmaKernels(Architecture(features, 4, True, False, resampling), launches, None, fp8=fp8)
    trunks = [f"compact_trunk_{features}"] * (2 if fp8 else 1)
    assert launches.made == ["head", *trunks, *names]


def test_a_tail_of_many_features_in_fp16_is_that_of_the_other_kernels(launches):
    made = WgmmaKernels(Architecture(128, 4, True, False), launches, None)
    made.tail(None, 256, Planes(1, 2), Planes(3, 4), 5, 6, Rows(0, 5), Parameters(7, 8))
    [(kernel, _, args)] = launches.put_there
    assert (kernel, [int(arg) for arg in args]) == ("tail", [256, 1, 2, 3, 4, 7, 8, 0, 5, 6, 0, 5])


def test_features_that_are_not_padded_are_refused(launches):
    with pytest.raises(ValueError, match="24 features"):
        kernels(launches, 24)
