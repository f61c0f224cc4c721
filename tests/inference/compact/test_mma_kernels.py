"""The kernels for the Compact family compile for every architecture, spill nothing, and fit into its shared memory."""

from __future__ import annotations

import importlib.util
import re
from io import StringIO

import pytest
from compact_reference import architecture, cubic

from rave_trio.inference.compact.kernels_protocol import EIGHTHS, FEATURES, HALVES
from rave_trio.inference.compact.mma_kernels import head_source, resize_source, tail_kernel, trunk_kernel
from rave_trio.inference.compact.mma_tiling import MOST_SUMS, RESERVED_BYTES, shared_bytes_of

pytest.importorskip("cuda.core")
if importlib.util.find_spec("cuda.bindings.nvrtc") is None:
    pytest.skip("there is no NVRTC", allow_module_level=True)

KIB = 1024
FACTORS = (1, 2, 3, 4)
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


def compiled(source, arch: str) -> str:
    """What the compiler says of the kernel's resources."""
    from cuda.core import Program, ProgramOptions

    log = StringIO()
    options = ProgramOptions(arch=arch, std="c++17", name=f"{source.name}.cu", ptxas_options=["-v"])
    program = Program(source.code, "c++", options)
    assert program.compile("cubin", logs=log).code
    program.close()
    return log.getvalue()


def assert_nothing_spills(source, arch: str) -> None:
    said = compiled(source, arch)
    assert re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said) == [
        ("0", "0", "0")
    ], said


def convolutions():
    """Every one that there is: of the trunk and of the tail, and a small part of them for compiling."""
    for arch in ARCHITECTURES:
        for features in FEATURES:
            for fp8 in (False, True):
                itemsizes = EIGHTHS[1] if fp8 else HALVES
                yield arch, trunk_kernel(architecture(features), arch, itemsizes=itemsizes).tiling
                for factor in FACTORS:
                    yield arch, tail_kernel(architecture(features, factor), arch, fp8=fp8).tiling


def test_every_tiling_fits_into_the_shared_memory_of_its_architecture():
    limits = {"sm_80": 163, "sm_86": 99, "sm_89": 99, "sm_90": 227, "sm_100": 227, "sm_120": 99}
    for arch, tiling in convolutions():
        assert shared_bytes_of(arch) == limits[arch] * KIB
        together = tiling.blocks * (tiling.shared_bytes + RESERVED_BYTES)
        assert together <= limits[arch] * KIB + RESERVED_BYTES, (arch, tiling)


def test_every_tiling_computes_all_channels_and_fetches_a_tile_ahead():
    for arch, tiling in convolutions():
        per_warp = tiling.channels_out // tiling.warps_out
        assert per_warp * tiling.warps_out == tiling.channels_out, (arch, tiling)
        assert per_warp % 16 == 0, (arch, tiling)
        assert tiling.sums <= MOST_SUMS, (arch, tiling)
        assert tiling.ring_rows >= 2 * tiling.tile[1] + 2, (arch, tiling)
        assert 2 <= tiling.weight_stages <= tiling.steps, (arch, tiling)


@pytest.mark.parametrize("features", FEATURES)
def test_trunks_of_all_features_do_not_spill_on_hopper(features):
    assert_nothing_spills(trunk_kernel(architecture(features), "sm_90").source, "sm_90")


@pytest.mark.parametrize(("features", "arch"), [(48, "sm_89"), (64, "sm_89"), (64, "sm_120")])
def test_kernels_in_fp8_do_not_spill_where_they_are_used(features, arch):
    used = architecture(features)
    trunks = [trunk_kernel(used, arch, itemsizes=itemsizes) for itemsizes in EIGHTHS]
    for kernel in (*trunks, tail_kernel(used, arch, fp8=True)):
        assert_nothing_spills(kernel.source, arch)


@pytest.mark.parametrize("features", [16, 128])
def test_tails_of_few_and_of_many_features_do_not_spill_on_hopper(features):
    assert_nothing_spills(tail_kernel(architecture(features), "sm_90").source, "sm_90")


@pytest.mark.parametrize("arch", ["sm_80", "sm_86", "sm_89", "sm_120"])
def test_the_usual_kernels_do_not_spill_on_any_architecture(arch):
    usual = architecture(64)
    for source in (trunk_kernel(usual, arch).source, tail_kernel(usual, arch).source, head_source(usual)):
        assert_nothing_spills(source, arch)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_tails_of_all_factors_do_not_spill(factor):
    assert_nothing_spills(tail_kernel(architecture(16, factor, clip=True), "sm_90").source, "sm_90")


@pytest.mark.parametrize("features", [16, 48, 128])
def test_heads_do_not_spill(features):
    assert_nothing_spills(head_source(architecture(features)), "sm_80")


@pytest.mark.parametrize(("scale", "factor"), [(2, 4), (3, 4), (2, 3)])
def test_resizes_do_not_spill(scale, factor):
    assert_nothing_spills(resize_source(architecture(16, factor, resampling=cubic(scale, factor))), "sm_86")
