"""Pictures with alpha are laid over a colour, or refused."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from rave_trio import errors
from rave_trio.color import SurfaceToTensor
from rave_trio.frames import Frame, Surface

SIZE = (34, 18)

BACKGROUND = (0.25, 0.5, 1.0)


def with_alpha(surface, alpha: np.ndarray) -> tuple[Frame, np.ndarray]:
    """A picture of noise, and its R, G, B as H x W x 3 in [0, 1]; by way of libav's own conversion from RGBA."""
    pixels = np.random.default_rng(1).integers(0, 256, (*alpha.shape, 4), np.uint8)
    pixels[..., 3] = alpha
    native = av.VideoFrame.from_ndarray(pixels, "rgba").reformat(format=surface.pixel_format.name, threads=1)
    return Frame(0, 0, 1, Fraction(1), True, Surface(surface, native)), pixels[..., :3] / 255


@pytest.fixture
def alpha() -> np.ndarray:
    found = np.random.default_rng(2).integers(0, 256, (SIZE[1], SIZE[0]), np.uint8)
    found[:4], found[4:8] = 0, 255
    return found


@pytest.mark.parametrize("name", ["rgba", "bgra", "argb", "abgr", "gbrap"])
def test_straight_alpha_is_laid_over_the_background(reference, convert, alpha, name):
    frame, rgb = with_alpha(reference.descriptor(name, *SIZE), alpha)
    share = alpha[..., np.newaxis] / 255
    expected = rgb * share + np.array(BACKGROUND) * (1 - share)
    found = convert.to_tensor(frame, BACKGROUND)
    assert np.abs(found.transpose(1, 2, 0) - expected).max() < 1e-6
    assert (found[:, :4] == np.array(BACKGROUND, np.float32).reshape(3, 1, 1)).all()


@pytest.mark.parametrize("name", ["yuva420p", "yuva422p10le", "yuva444p12le", "yuva444p16le"])
def test_opaque_yuv_is_what_it_is_without_alpha_and_clear_yuv_is_the_background(reference, planes, convert, name):
    surface = reference.descriptor(name, *SIZE, 1, False)
    plain = reference.descriptor(name.replace("yuva", "yuv"), *SIZE, 1, False)
    bits = surface.pixel_format.bit_depth
    codes = [np.random.default_rng(i).integers(0, 2**bits, s) for i, s in enumerate(reference.shapes(plain))]
    share = np.zeros((SIZE[1], SIZE[0]), int)
    share[:9] = 2**bits - 1
    found = convert.to_tensor(planes.frame([*codes, share], surface), BACKGROUND)
    assert (found[:, :9] == convert.there(codes, plain)[:, :9]).all()
    assert (found[:, 9:] == np.array(BACKGROUND, np.float32).reshape(3, 1, 1)).all()


def test_grey_with_alpha_takes_the_colour_of_what_is_behind(convert, reference):
    surface = reference.descriptor("ya8", 16, 16)
    native = av.VideoFrame(16, 16, "ya8")
    rows = np.frombuffer(native.planes[0], np.uint8).reshape(16, -1)
    rows[:, 0:32:2], rows[:, 1:32:2] = 255, 51
    found = convert.to_tensor(Frame(0, 0, 1, Fraction(1), True, Surface(surface, native)), BACKGROUND)
    assert found[:, 0, 0] == pytest.approx([0.2 + 0.8 * c for c in BACKGROUND])


def test_pictures_without_alpha_do_not_see_the_background(reference, convert, planes):
    surface = reference.descriptor("yuv420p", 32, 32)
    codes = [np.random.default_rng(1).integers(0, 256, shape) for shape in reference.shapes(surface)]
    assert (convert.to_tensor(planes.frame(codes, surface), BACKGROUND) == convert.there(codes, surface)).all()


@pytest.mark.parametrize("name", ["rgba", "yuva420p", "ya16le", "gbrap12le"])
def test_alpha_without_a_background_is_refused(reference, convert, name):
    with pytest.raises(errors.InputFormatUnsupported, match=f"{name} has an alpha channel"):
        SurfaceToTensor(reference.descriptor(name, 32, 32), convert.pool)
