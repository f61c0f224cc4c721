"""Ordered dither on the CPU: thresholds in the place of one half."""

from __future__ import annotations

import numpy as np
import pytest

from rave_trio.color import TensorToSurface
from rave_trio.color.dither import CB, CR, SIDE, UNIT, thresholds

MANY_STRIPS = (10_000, 29)
"""Strips of so wide a picture have 12 lines, so they begin anywhere in the matrix."""


def dithered(planes, picture, surface):
    return planes.codes(TensorToSurface(surface, dither=True).convert(planes.tensor(picture)))


def pattern(shape, moved=(0, 0)):
    rows, columns = np.indices(shape)
    return thresholds()[(rows + moved[1]) % SIDE, (columns + moved[0]) % SIDE] / UNIT


def test_every_threshold_occurs_once_and_their_mean_is_one_half():
    assert sorted(thresholds().reshape(-1)) == list(range(1, UNIT, 2))
    assert thresholds().mean() / UNIT == 0.5


def test_neighbours_have_thresholds_far_apart():
    across = np.abs(np.diff(np.tile(thresholds(), 2), axis=1))
    assert across.min() >= UNIT / 4


@pytest.mark.parametrize("size", [(37, 29), MANY_STRIPS], ids=str)
@pytest.mark.parametrize("name", ["yuv420p", "yuv410p", "yuv444p", "gray"])
def test_every_sample_is_the_references_rounded_at_its_own_threshold(reference, planes, name, size):
    surface = reference.descriptor(name, *size, 1, False, "LEFT")
    picture = np.random.default_rng(1).random((3, size[1], size[0]), np.float32)
    exact = reference.to_codes(picture, surface)
    moves = ((0, 0), CB, CR)[: len(exact)]
    for found, plane, moved in zip(dithered(planes, picture, surface), exact, moves, strict=True):
        limit = plane + pattern(plane.shape, moved)
        unclear = np.abs(limit - np.rint(limit)) < 1e-3
        assert (found == np.floor(limit))[~unclear].all()
        assert unclear.mean() < 0.02


def test_a_slope_too_slight_for_the_format_keeps_its_mean(reference, planes):
    surface = reference.descriptor("gray", 512, 64, 1, True)
    slope = np.linspace(100, 102, 512) / 255
    picture = np.broadcast_to(slope, (1, 64, 512)).astype(np.float32)
    (found,) = dithered(planes, picture, surface)
    blocks = found.reshape(8, 8, 64, 8).mean((1, 3))
    assert np.abs(blocks - 255 * slope.reshape(64, 8).mean(1)).max() < 1 / 32
    (plain,) = planes.codes(TensorToSurface(surface).convert(planes.tensor(picture)))
    assert set(np.unique(plain)) == {100, 101, 102}
    assert (np.diff(plain, axis=1) != 0).sum() == 2 * 64, "without it there are two steps"


@pytest.mark.parametrize("name", ["yuv444p", "gray", "gbrp"])
def test_what_is_a_code_value_already_stays_what_it_is(reference, convert, planes, name):
    surface = reference.descriptor(name, 64, 48, 1, True)
    codes = [np.random.default_rng(3).integers(0, 256, (48, 64)) for _ in range(1 if name == "gray" else 3)]
    if name == "yuv444p":
        codes[1][:], codes[2][:] = 110, 140
    rgb = convert.there(codes, surface)
    for before, after in zip(codes, dithered(planes, rgb, surface), strict=True):
        assert (before == after).all()


def test_what_lies_outside_the_codes_is_clipped(reference, planes):
    surface = reference.descriptor("gray", 16, 16, 1, True)
    for value, code in ((-0.5, 0), (1.5, 255), (np.nan, 0), (1, 255)):
        (found,) = dithered(planes, np.full((1, 16, 16), value, np.float32), surface)
        assert (found == code).all()
