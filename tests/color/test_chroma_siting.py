"""Chroma is interpolated where it lies."""

from __future__ import annotations

import numpy as np
import pytest

LOCATIONS = ["LEFT", "CENTER", "TOP_LEFT", "TOP", "BOTTOM_LEFT", "BOTTOM"]

SHIFTS = {
    "LEFT": (0.0, 0.5),
    "CENTER": (0.5, 0.5),
    "TOP_LEFT": (0.0, 0.0),
    "TOP": (0.5, 0.0),
    "BOTTOM_LEFT": (0.0, 1.0),
    "BOTTOM": (0.5, 1.0),
}
"""How far right of and below the first luma sample of its group chroma lies in 4:2:0, in luma samples (H.273)."""


def red_ramp(convert, reference, location: str, axis: int) -> np.ndarray:
    """What Cr that grows by 2 a sample along one axis adds to red, in codes of Cr, along that axis."""
    surface = reference.descriptor("yuv420p", 64, 64, 1, True, location)
    codes = [np.full((64, 64), 128), np.full((32, 32), 128), np.full((32, 32), 0)]
    codes[2][:] = 90 + 2 * np.arange(32).reshape((-1, 1) if axis == 0 else (1, -1))
    rgb = convert.there(codes, surface).astype(float)
    cr = (rgb[0] - 128 / 255) / (2 * (1 - 0.2126)) * 255 + 128
    return cr[:, 32] if axis == 0 else cr[32]


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("axis", [1, 0], ids=["across", "down"])
def test_a_ramp_lies_where_the_location_says(convert, reference, location, axis):
    ramp = red_ramp(convert, reference, location, axis)
    shift = SHIFTS[location][1 - axis]
    expected = 90 + np.arange(64) - shift
    assert np.abs(ramp - expected)[4:-4].max() < 1e-3


def test_untagged_chroma_lies_left(convert, reference):
    for axis in (0, 1):
        assert (red_ramp(convert, reference, "UNSPECIFIED", axis) == red_ramp(convert, reference, "LEFT", axis)).all()


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv440p", "yuv411p", "yuv410p"])
def test_there_and_back_with_the_same_location_does_not_shift_a_ramp(convert, reference, name, location):
    surface = reference.descriptor(name, 96, 96, 1, True, location)
    _, (height, width), _ = reference.shapes(surface)
    y, x = np.mgrid[0:height, 0:width]
    codes = [np.full((96, 96), 128), 60 + x, 60 + y]
    after = convert.back(convert.there(codes, surface), surface)
    for found, before in zip(after[1:], codes[1:], strict=True):
        assert (found == before)[4:-4, 4:-4].all()


def test_there_and_back_with_another_location_moves_a_ramp_by_the_difference(convert, reference):
    """Left to centred: each sample is taken half a luma sample further right."""
    left, center = (reference.descriptor("yuv420p10le", 64, 64, 1, True, location) for location in ("LEFT", "CENTER"))
    codes = [np.full((64, 64), 512), np.full((32, 32), 512), np.tile(400 + 8 * np.arange(32), (32, 1))]
    after = convert.back(convert.there(codes, left), center)
    assert (after[2] - codes[2] == 2)[:, 4:-4].all()


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "yuv411p", "yuv410p", "yuv420p16le"])
@pytest.mark.parametrize("location", LOCATIONS)
def test_flat_chroma_is_interpolated_to_itself(convert, reference, name, location):
    surface = reference.descriptor(name, 67, 35, 1, True, location)
    highest = 2**surface.pixel_format.bit_depth - 1
    codes = [np.full(shape, highest // 3) for shape in reference.shapes(surface)]
    rgb = convert.there(codes, surface)
    assert np.abs(rgb - rgb[:, :1, :1]).max() < 5e-7


def test_beyond_the_edges_the_outermost_chroma_goes_on(convert, reference):
    surface = reference.descriptor("yuv420p", 17, 17, 1, True)
    codes = [np.full((17, 17), 128), np.full((9, 9), 128), np.full((9, 9), 128)]
    codes[2][:, 7:] = 200
    rgb = convert.there(codes, surface)
    exact = reference.to_rgb(codes, surface)
    assert np.abs(rgb - exact).max() < 1e-5
    assert rgb[0, :, 16] == pytest.approx(128 / 255 + 2 * (1 - 0.2126) * 72 / 255, abs=0.03)
