"""Surfaces to tensors, against the reference in float64."""

from __future__ import annotations

import av
import numpy as np
import pytest

from rave_trio import errors
from rave_trio.color import SurfaceToTensor
from rave_trio.frames import ColorRange, ColorSpec, Frame, Surface, SurfaceDescriptor
from rave_trio.media._libav import describe_format

EXACT = 1e-5
"""Of nominal white: what float32 may lose."""

SIZE = (37, 29)

FORMATS = [
    "yuv420p", "yuv422p", "yuv444p", "gray",
    "yuv420p10le", "yuv422p10le", "yuv444p10le", "gray10le",
    "yuv420p12le", "yuv422p12le", "yuv444p12le", "gray12le",
]  # fmt: skip

RANGES = pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])


def noise(reference, surface, seed=0) -> list[np.ndarray]:
    """Code values without any order, over all that the format can hold."""
    random = np.random.default_rng(seed)
    bits = surface.pixel_format.bit_depth
    return [random.integers(0, 2**bits, shape) for shape in reference.shapes(surface)]


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 8, 9, 10])
@RANGES
@pytest.mark.parametrize("name", FORMATS)
def test_noise_over_all_codes_is_read_as_the_reference_reads_it(reference, convert, name, full, matrix):
    surface = reference.descriptor(name, *SIZE, matrix, full)
    codes = noise(reference, surface, matrix)
    assert np.abs(convert.there(codes, surface) - reference.to_rgb(codes, surface)).max() < EXACT


@pytest.mark.parametrize("name", ["yuv410p", "yuv411p", "yuv440p", "yuv440p12le", "yuv420p14le", "yuv422p16le"])
@RANGES
def test_rarer_subsamplings_and_depths_are_read_as_the_reference_reads_them(reference, convert, name, full):
    surface = reference.descriptor(name, *SIZE, 1, full)
    codes = noise(reference, surface)
    assert np.abs(convert.there(codes, surface) - reference.to_rgb(codes, surface)).max() < EXACT


@RANGES
@pytest.mark.parametrize("name", ["yuv444p", "yuv444p10le"])
def test_planes_tagged_as_identity_hold_green_blue_and_red(reference, convert, name, full):
    surface = reference.descriptor(name, *SIZE, 0, full)
    codes = noise(reference, surface)
    assert np.abs(convert.there(codes, surface) - reference.to_rgb(codes, surface)).max() < EXACT


@pytest.mark.parametrize("name", ["yuv420p", "yuv444p10le", "gray"])
@RANGES
def test_the_grey_ramp_is_grey_and_its_ends_are_black_and_white(reference, convert, name, full):
    surface = reference.descriptor(name, 256, 4, 1, full)
    bits = surface.pixel_format.bit_depth
    unit = 2 ** (bits - 8)
    low, high = (0, 2**bits - 1) if full else (16 * unit, 235 * unit)
    ramp = np.rint(np.linspace(low, high, 256)).astype(int)
    shapes = reference.shapes(surface)
    codes = [np.tile(ramp, (4, 1)), *(np.full(shape, 2 ** (bits - 1)) for shape in shapes[1:])]
    rgb = convert.there(codes, surface)
    assert (rgb[0] == rgb[1]).all()
    assert (rgb[0] == rgb[2]).all()
    assert rgb[:, :, 0] == pytest.approx(0, abs=1e-7)
    assert rgb[:, :, -1] == pytest.approx(1, abs=2e-7)
    assert np.abs(rgb[0, 0] - (ramp - low) / (high - low)).max() < 1e-6


@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("height", [0.75, 1.0])
def test_saturated_bars_are_the_colours_that_they_were_made_of(reference, convert, matrix, height):
    """In 16 bits, where rounding the codes hardly matters."""
    surface = reference.descriptor("yuv444p16le", 64, 8, matrix, False)
    bars = height * np.array([[1, 1, 0, 0, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 1, 0, 1, 0]])
    rgb = np.repeat(bars, 8, axis=1)[:, np.newaxis].repeat(8, axis=1)
    codes = [np.rint(plane).astype(int) for plane in reference.to_codes(rgb, surface)]
    assert np.abs(convert.there(codes, surface) - rgb).max() < 5e-5


def test_a_real_frame_is_read_as_the_reference_reads_it(reference, planes, convert, bunny):
    with av.open(bunny) as source:
        native = next(source.decode(video=0))
    surface = reference.descriptor(native.format.name, native.width, native.height, 6, False)
    frame = Frame(0, 0, 1, native.time_base, True, Surface(surface, native))
    codes = planes.codes(frame)
    assert np.abs(convert.to_tensor(frame) - reference.to_rgb(codes, surface)).max() < EXACT


def test_what_lies_outside_the_nominal_range_survives(reference, convert):
    surface = reference.descriptor("yuv444p", 16, 16, 1, False)
    codes = [np.full((16, 16), value) for value in (254, 128, 128)]
    assert convert.there(codes, surface) == pytest.approx((254 - 16) / 219)
    codes[0][:] = 1
    assert convert.there(codes, surface) == pytest.approx((1 - 16) / 219)


def test_the_tensor_is_planar_float32_in_leased_memory(reference, planes, convert):
    surface = reference.descriptor("yuv420p", 64, 48)
    frame = planes.frame(noise(reference, surface), surface)
    read = SurfaceToTensor(surface, convert.pool).convert(frame)
    assert read is frame
    assert read.tensor.shape == (3, 48, 64)
    assert read.tensor.dtype == np.float32
    assert read.tensor.flags.c_contiguous
    assert convert.pool.stats().leased == 1
    read.close()


def test_one_converter_gives_the_same_for_the_same_frame_whatever_came_between(reference, planes, convert):
    surface = reference.descriptor("yuv420p", 1500, 400, 1, False)
    converter = SurfaceToTensor(surface, convert.pool)
    found = []
    for seed in (1, 2, 1):
        codes = noise(reference, surface, seed)
        frame = converter.convert(planes.frame(codes, surface))
        found.append(frame.tensor.copy())
        frame.close()
    assert np.abs(found[0] - reference.to_rgb(codes, surface)).max() < EXACT
    assert (found[0] == found[2]).all()


def test_a_picture_of_another_size_is_refused_and_stays_the_callers(reference, planes, convert):
    surface = reference.descriptor("yuv420p", 37, 29)
    frame = planes.frame(noise(reference, surface), surface)
    other = SurfaceDescriptor(64, 64, describe_format("yuv420p"))
    with pytest.raises(errors.DecodeError, match="changes to 37x29 yuv420p at frame 0; it began as 64x64"):
        SurfaceToTensor(other, convert.pool).convert(frame)
    assert frame.surface.native is not None


def test_a_frame_that_cannot_be_read_leaves_no_lease_behind(convert):
    surface = SurfaceDescriptor(64, 64, describe_format("yuv420p"), ColorSpec(range=ColorRange.LIMITED))
    other = av.VideoFrame(32, 32, "gray")  # not what its descriptor says
    before = convert.pool.stats().leased
    with pytest.raises(ValueError, match="strides"):
        convert.to_tensor(Frame(0, 0, 1, 1, True, Surface(surface, other)))
    assert convert.pool.stats().leased == before
