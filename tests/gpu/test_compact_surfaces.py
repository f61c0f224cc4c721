"""Surfaces through the backend ``compact`` on a GPU: with every set of kernels what converters around tensors give."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

pytest.importorskip("cuda.core")

from compact_reference import cubic
from compact_surfaces import Case, backend_on, check, shapes_of, through
from device_colours import FORMATS, LOCATIONS, Converting, noise


@attrs.define
class Maker:
    """Backends on one machine by one set of kernels."""

    machine: object
    kernels: object
    player: object = None

    def __call__(self, net, geometry, ends):
        from rave_trio.devices.copies import copy, copy_from_host
        from rave_trio.devices.graphs import Graphs
        from rave_trio.devices.launcher import CudaLauncher

        player = self.player or Graphs()
        how = {"make_kernels": self.kernels, "launcher": CudaLauncher(), "upload": copy_from_host, "copy": copy}
        return backend_on(self.machine, net, geometry, ends, player=player, **how)


@pytest.fixture(params=["every GPU", "9.0"])
def make(request, machine):
    from rave_trio.inference.compact.kernel_sets import kernels_for

    if request.param == "9.0" and machine.device.compute_capability != (9, 0):
        pytest.skip("these kernels are for compute capability 9.0")
    return Maker(machine, kernels_for((9, 0) if request.param == "9.0" else (8, 0)))


@pytest.fixture
def make_fp8(machine):
    from rave_trio.inference.compact.kernel_sets import kernels_for

    if machine.device.compute_capability != (9, 0):
        pytest.skip("these kernels are for compute capability 9.0")
    return Maker(machine, kernels_for((9, 0), fp8=True))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_goes_in_and_comes_out(machine, make, reference, name):
    check(machine, make, reference, Case(name, name, size=(134, 21)))


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("name", ["nv12", "p010le", "yuv422p10le", "yuv410p"])
@pytest.mark.parametrize("factor", [2, 4])
def test_chroma_lies_where_the_location_says(machine, make, reference, name, location, factor):
    check(machine, make, reference, Case(name, name, location, (141, 33), factor=factor))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 7), (7, 1), (126, 3), (127, 5), (128, 4), (129, 9), (382, 21)])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_pictures_of_any_size_by_any_factor(machine, make, reference, size, factor):
    check(machine, make, reference, Case(size=size, factor=factor))


@pytest.mark.parametrize("features", [16, 24, 32, 48, 64, 96, 128])
def test_any_features(machine, make, reference, features):
    check(machine, make, reference, Case(size=(200, 50), features=features, factor=4))


@pytest.mark.parametrize(
    "case",
    [
        *(Case(size=(200, 50), features=features, factor=4) for features in (16, 24, 32, 48, 64, 96, 128)),
        *(Case(size=size, features=64, factor=4) for size in ((1, 1), (127, 5), (129, 9))),
        Case("p010le", "p010le", "CENTER", (382, 21), features=128, factor=2, clip=True),
        Case("yuv444p", "yuv444p", size=(150, 40), features=64, factor=1, dither=True, skip=False),
        *(
            Case(size=(134, 45), features=64, factor=4, resampling=of, strip=7)
            for of in (None, cubic(2, 4), cubic(3, 4))
        ),
        Case(size=(134, 45), features=128, factor=4, resampling=cubic(2, 4)),
    ],
    ids=str,
)
def test_networks_in_fp8(machine, make_fp8, reference, case):
    check(machine, make_fp8, reference, case)


@pytest.mark.parametrize("source", ["nv12", "p010le"])
@pytest.mark.parametrize("target", ["yuv420p", "p010le", "yuv444p", "gbrp"])
@pytest.mark.parametrize("factor", [2, 4])
def test_one_format_becomes_another(machine, make, reference, source, target, factor):
    check(machine, make, reference, Case(source, target, size=(150, 40), factor=factor, full=True, matrix=9))


@pytest.mark.parametrize("how", [{"dither": True}, {"clip": True}, {"skip": False}], ids=str)
@pytest.mark.parametrize("target", ["nv12", "yuv420p"])
@pytest.mark.parametrize("resampling", [None, cubic(2, 4), cubic(3, 4)], ids=["x4", "x2", "x3"])
def test_dithered_clipped_and_without_a_skip(machine, make, reference, target, resampling, how):
    check(machine, make, reference, Case(target=target, size=(140, 30), factor=4, resampling=resampling, **how))


@pytest.mark.parametrize("resampling", [None, cubic(2, 4), cubic(3, 4)], ids=["x4", "x2", "x3"])
@pytest.mark.parametrize("strip", [1, 7, 16])
def test_in_strips(machine, make, reference, resampling, strip):
    check(machine, make, reference, Case(size=(134, 45), factor=4, resampling=resampling, strip=strip))


@pytest.mark.parametrize("name", ["nv12", "p010le", "yuv420p", "nv24"])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_rows_without_a_gap(machine, make, reference, name, factor):
    """As NVENC takes them."""
    check(machine, make, reference, Case(name, name, size=(37, 29), factor=factor, alignment=1))


@pytest.mark.parametrize("strip", [None, 20])
def test_strips_and_kernels_one_by_one_give_the_whole_pictures_codes(machine, make, reference, strip):
    """As an audited run and one of little memory do."""
    from rave_trio.devices.graphs import Unrecorded

    case = Case(size=(320, 64), features=64, factor=4)
    ends, converting = case.ends(reference), Converting(machine)
    codes, results = noise(reference, ends.source), []
    for player, rows in [(None, None), (Unrecorded(), strip)]:
        make.player = player
        backend = make(case.net, attrs.evolve(case, strip=rows).geometry, ends)
        for _ in range(3):
            done = through(backend, converting.frame(codes, ends.source))
            results.append(converting.codes(done, ends.target, shapes_of(ends.target, reference)))
            done.close()
        backend.close()
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
