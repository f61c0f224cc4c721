"""Tensors to surfaces: rounded once, clipped to what the format holds."""

from __future__ import annotations

import numpy as np
import pytest

from rave_trio import errors
from rave_trio.color import TensorToSurface
from rave_trio.media._libav import describe_format

SIZE = (37, 29)

RANGES = pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(1).random((3, SIZE[1], SIZE[0]), np.float32)


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 8, 9, 10])
@RANGES
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p", "gray", "yuv420p10le", "yuv422p12le", "gray10le"])
def test_every_sample_is_the_references_rounded_once(reference, convert, picture, name, full, matrix):
    surface = reference.descriptor(name, *SIZE, matrix, full)
    for found, exact in zip(convert.back(picture, surface), reference.to_codes(picture, surface), strict=True):
        assert np.abs(found - exact).max() < 0.505


@pytest.mark.parametrize("name", ["yuv410p", "yuv411p", "yuv440p", "yuv420p14le", "yuv422p16le", "yuv444p16le"])
@pytest.mark.parametrize("location", ["LEFT", "CENTER", "TOP_LEFT", "TOP", "BOTTOM_LEFT", "BOTTOM"])
def test_every_subsampling_and_siting_is_written_as_the_reference_writes_it(
    reference, convert, picture, name, location
):
    surface = reference.descriptor(name, *SIZE, 1, False, location)
    for found, exact in zip(convert.back(picture, surface), reference.to_codes(picture, surface), strict=True):
        assert np.abs(found - exact).max() < (0.55 if surface.pixel_format.bit_depth == 16 else 0.51)


def test_planes_tagged_as_identity_get_green_blue_and_red(reference, convert, picture):
    surface = reference.descriptor("yuv444p", *SIZE, 0, True)
    green, blue, red = convert.back(picture, surface)
    assert (np.stack([red, green, blue]) == np.floor(255 * picture + np.float32(0.5))).all()


@pytest.mark.parametrize(("height", "matrix"), [(576, 6), (720, 1)])
def test_untagged_pictures_get_the_matrix_that_players_assume(reference, convert, height, matrix):
    picture = np.random.default_rng(2).random((3, height, 32), np.float32)
    tagged, untagged = (reference.descriptor("yuv444p", 32, height, m) for m in (matrix, 2))
    for a, b in zip(convert.back(picture, tagged), convert.back(picture, untagged), strict=True):
        assert (a == b).all()


@RANGES
@pytest.mark.parametrize("name", ["yuv444p", "yuv420p10le", "gray12le"])
def test_values_outside_the_range_are_clipped_to_the_code_range_not_wrapped(reference, convert, name, full):
    surface = reference.descriptor(name, 16, 16, 1, full)
    bits = surface.pixel_format.bit_depth
    picture = np.zeros((3, 16, 16), np.float32)
    picture[:, :, :4], picture[:, :, 4:8], picture[:, :, 8:12], picture[:, :, 12:] = -0.5, 1.5, -0.05, 1.05
    luma = convert.back(picture, surface)[0]
    exact = reference.to_codes(picture, surface)[0]
    assert (luma == np.floor(np.clip(exact, 0, 2**bits - 1) + 0.5)).all()
    assert luma[0, 0] == 0
    assert luma[0, 4] == 2**bits - 1


@pytest.mark.parametrize("name", ["yuv420p", "yuv444p10le", "gbrp", "gray", "rgb24"])
def test_what_is_not_a_number_is_black_and_what_is_infinite_is_clipped(reference, convert, name):
    surface = reference.descriptor(name, 32, 32)
    picture = np.full((3, 32, 32), 0.5, np.float32)
    black, spoilt = picture.copy(), picture.copy()
    black[:, 8:16, 8:16] = 0
    spoilt[:, 8:16, 8:16] = np.nan
    expected, found = (convert.to_tensor(convert.to_surface(p, surface)) for p in (black, spoilt))
    assert (found == expected).all()
    spoilt[:, 8:16, 8:16] = np.inf
    spoilt[:, 20:, 20:] = -np.inf
    bright = convert.to_surface(spoilt, surface).surface.native
    first = np.frombuffer(bright.planes[0], np.uint8 if surface.pixel_format.bit_depth == 8 else np.uint16)
    assert first.max() == 2**surface.pixel_format.bit_depth - 1
    spoilt[0] = np.finfo(np.float32).max
    convert.to_surface(spoilt, surface)


def test_codes_halfway_between_two_are_rounded_up(reference, convert):
    surface = reference.descriptor("gray", 16, 16)
    picture = np.full((1, 16, 16), 0.5, np.float32)
    assert (convert.back(picture, surface)[0] == 128).all()


@pytest.mark.parametrize("name", ["yuv444p", "yuv420p10le"])
def test_a_grey_tensor_becomes_a_grey_picture(reference, convert, name):
    surface = reference.descriptor(name, 32, 32)
    unit = 2 ** (surface.pixel_format.bit_depth - 8)
    y, cb, cr = convert.back(np.full((1, 32, 32), 0.5, np.float32), surface)
    assert (y == np.floor(125.5 * unit + 0.5)).all()
    assert (cb == 128 * unit).all()
    assert (cr == 128 * unit).all()


@pytest.mark.parametrize("name", ["gbrp", "rgb24", "bgr0", "rgb48be", "gbrp12le", "rgba", "gbrap10le", "rgb565le"])
def test_pictures_can_be_written_in_rgb(reference, convert, name):
    surface = reference.descriptor(name, *SIZE)
    picture = np.random.default_rng(3).random((3, SIZE[1], SIZE[0]), np.float32)
    written = convert.to_surface(picture, surface)
    again = convert.to_tensor(written, (0.0, 0.0, 0.0))
    assert (
        np.abs(again - picture).max()
        <= 0.5 / (2 ** (5 if name == "rgb565le" else describe_format(name).bit_depth) - 1) + 1e-6
    )


def test_bytes_that_belong_to_nothing_are_zero_and_alpha_is_opaque(reference, convert):
    picture = np.ones((3, 29, 37), np.float32)
    padded = convert.to_surface(picture, reference.descriptor("bgr0", 37, 29)).surface.native
    rows = np.frombuffer(padded.planes[0], np.uint8).reshape(29, -1)[:, : 4 * 37].reshape(29, 37, 4)
    assert (rows[..., :3] == 255).all()
    assert (rows[..., 3] == 0).all()
    clear = convert.to_surface(picture, reference.descriptor("yuva444p10le", 37, 29)).surface.native
    assert (np.frombuffer(clear.planes[3], np.uint16).reshape(29, -1)[:, :37] == 1023).all()


def test_the_frame_carries_the_descriptors_tags(reference, convert):
    surface = reference.descriptor("yuv420p", 32, 32, 9, False)
    native = convert.to_surface(np.zeros((3, 32, 32)), surface).surface.native
    assert (native.colorspace, native.color_range, native.color_primaries, native.color_trc) == (9, 1, 2, 2)


def test_a_tensor_of_another_size_is_refused_and_stays_the_callers(reference, planes):
    frame = planes.tensor(np.zeros((3, 32, 32)))
    with pytest.raises(ValueError, match=r"shape \(3, 32, 32\) is no 64x32 picture"):
        TensorToSurface(reference.descriptor("yuv420p", 64, 32)).convert(frame)
    assert frame.tensor is not None


@pytest.mark.parametrize("name", ["pal8", "monow", "rgb96le"])
def test_formats_that_cannot_be_written_are_refused(reference, name):
    with pytest.raises(errors.InputFormatUnsupported, match=name):
        TensorToSurface(reference.descriptor(name, 32, 32))
