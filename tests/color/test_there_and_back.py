"""What is read and written again without a network in between is what it was."""

from __future__ import annotations

import av
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from rave_trio.color import strips

DEPTHS = {8: "", 9: "9le", 10: "10le", 12: "12le", 14: "14le", 16: "16le"}

RANGES = pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])


def smooth(shape: tuple[int, int], low: int, high: int, phase: float) -> np.ndarray:
    """Chroma without edges."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    wave = 0.5 + 0.5 * np.sin(x / 9 + phase) * np.cos(y / 7 - phase)
    return np.rint(low + (high - low) * wave).astype(int)


@pytest.mark.parametrize("matrix", [0, 1, 4, 6, 7, 8, 9])
@pytest.mark.parametrize("bits", DEPTHS)
@RANGES
def test_444_comes_back_code_for_code(reference, convert, bits, full, matrix):
    surface = reference.descriptor(f"yuv444p{DEPTHS[bits]}", 67, 34, matrix, full)
    random = np.random.default_rng(bits)
    codes = [random.integers(0, 2**bits, shape) for shape in reference.shapes(surface)]
    for before, after in zip(codes, convert.back(convert.there(codes, surface), surface), strict=True):
        assert (before == after).all()


@pytest.mark.parametrize("bits", DEPTHS)
@pytest.mark.parametrize("family", ["yuv420p", "yuv422p"])
@RANGES
def test_flat_chroma_under_noisy_luma_comes_back_code_for_code(reference, convert, family, bits, full):
    surface = reference.descriptor(f"{family}{DEPTHS[bits]}", 67, 35, 1, full)
    random = np.random.default_rng(bits)
    codes = [random.integers(0, 2**bits, shape) for shape in reference.shapes(surface)]
    for plane in codes[1:]:
        plane[:] = random.integers(0, 2**bits)
    for before, after in zip(codes, convert.back(convert.there(codes, surface), surface), strict=True):
        assert (before == after).all()


@pytest.mark.parametrize("location", ["LEFT", "CENTER", "TOP_LEFT", "TOP", "BOTTOM_LEFT", "BOTTOM"])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv420p10le", "yuv411p", "yuv440p"])
def test_smooth_chroma_comes_back_within_two_codes(reference, convert, name, location):
    surface = reference.descriptor(name, 130, 98, 1, False, location)
    unit = 2 ** (surface.pixel_format.bit_depth - 8)
    shapes = reference.shapes(surface)
    codes = [smooth(shape, 40 * unit, 200 * unit, i) for i, shape in enumerate(shapes)]
    after = convert.back(convert.there(codes, surface), surface)
    assert (after[0] == codes[0]).all()
    for i in (1, 2):
        difference = np.abs(after[i] - codes[i])[2:-2, 2:-2]
        assert difference.mean() <= unit
        assert difference.max() <= 2 * unit


def test_a_real_frame_comes_back_but_for_little_of_its_chroma(reference, planes, convert, bunny):
    with av.open(bunny) as source:
        native = next(source.decode(video=0))
    surface = reference.descriptor("yuv420p", native.width, native.height, 6, False)
    codes = [
        np.frombuffer(plane, np.uint8).reshape(height, -1)[:, :width].astype(int)
        for plane, (height, width) in zip(native.planes, reference.shapes(surface), strict=True)
    ]
    after = convert.back(convert.there(codes, surface), surface)
    assert (after[0] == codes[0]).all()
    for i in (1, 2):
        assert np.abs(after[i] - codes[i]).mean() < 1


@pytest.mark.parametrize("bits", DEPTHS)
@RANGES
@pytest.mark.parametrize("family", ["gray", "gbrp"])
def test_grey_and_rgb_come_back_code_for_code(reference, planes, convert, family, bits, full):
    surface = reference.descriptor(f"{family}{DEPTHS[bits]}", 67, 34, 1, full)
    random = np.random.default_rng(bits)
    codes = [random.integers(0, 2**bits, (34, 67)) for _ in range(1 if family == "gray" else 3)]
    written = convert.to_surface(convert.there(codes, surface), surface).surface.native
    for plane, before in zip(written.planes, codes, strict=True):
        rows = np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16).reshape(34, -1)[:, :67]
        assert (rows == before).all()


@pytest.mark.parametrize("lines", [4, 8, 20])
@pytest.mark.parametrize("location", ["LEFT", "TOP_LEFT", "BOTTOM"])
@pytest.mark.parametrize("name", ["yuv420p", "yuv410p", "yuv440p", "yuv422p10le", "yuv444p"])
def test_the_strips_that_pictures_are_cut_into_leave_no_seams(reference, convert, monkeypatch, name, location, lines):
    monkeypatch.setattr(strips, "STRIP_BYTES", 4 * 61 * lines)
    surface = reference.descriptor(name, 61, 47, 1, False, location)
    random = np.random.default_rng(lines)
    codes = [random.integers(0, 2**surface.pixel_format.bit_depth, shape) for shape in reference.shapes(surface)]
    rgb = convert.there(codes, surface)
    assert np.abs(rgb - reference.to_rgb(codes, surface)).max() < 1e-5
    for found, exact in zip(convert.back(rgb, surface), reference.to_codes(rgb, surface), strict=True):
        assert np.abs(found - np.clip(exact, 0, 2**surface.pixel_format.bit_depth - 1)).max() < 0.51


@given(
    width=st.integers(16, 130),
    height=st.integers(16, 130),
    family=st.sampled_from(["yuv420p", "yuv422p", "yuv444p"]),
    bits=st.sampled_from([8, 10, 12]),
    location=st.sampled_from(["LEFT", "CENTER", "TOP_LEFT", "TOP", "BOTTOM_LEFT", "BOTTOM"]),
    full=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_size_is_read_and_written_as_the_reference_does(
    reference, convert, width, height, family, bits, location, full, seed
):
    surface = reference.descriptor(f"{family}{DEPTHS[bits]}", width, height, 1, full, location)
    random = np.random.default_rng(seed)
    codes = [random.integers(0, 2**bits, shape) for shape in reference.shapes(surface)]
    rgb = convert.there(codes, surface)
    assert np.abs(rgb - reference.to_rgb(codes, surface)).max() < 1e-5
    after = convert.back(rgb, surface)
    assert (after[0] == codes[0]).all()
    for found, exact in zip(after, reference.to_codes(rgb, surface), strict=True):
        assert np.abs(found - np.clip(exact, 0, 2**bits - 1)).max() < 0.51
