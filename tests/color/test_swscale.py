"""Surfaces to tensors and back, against a reference in float64."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from rave_trio import errors
from rave_trio.color import SurfaceToTensor, TensorToSurface
from rave_trio.color.swscale import matrix_of
from rave_trio.frames import ColorRange, ColorSpec, Frame, Surface, SurfaceDescriptor, Tensor
from rave_trio.media._libav import describe_format
from rave_trio.memory import HostPool, Ledger

KR_KB = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Luma coefficients of BT.709, BT.601 and BT.2020 (ITU-T H.273, table 4)."""

SIZE = (37, 29)


@pytest.fixture
def pool():
    made = HostPool(Ledger())
    yield made
    assert made.stats().leased == 0
    made.close()


def flat(name: str, values: tuple[int, int, int], color: ColorSpec) -> Frame:
    """A frame of one colour."""
    width, height = SIZE
    layout = describe_format(name)
    native = av.VideoFrame(width, height, name)
    for plane, value in zip(native.planes, values, strict=True):
        np.frombuffer(plane, np.uint8 if layout.bit_depth == 8 else np.uint16)[:] = value
    return Frame(0, 0, 1, Fraction(1, 25), True, Surface(SurfaceDescriptor(width, height, layout, color), native))


def reference(values: tuple[int, int, int], bits: int, matrix: int, full: bool) -> np.ndarray:
    """R, G, B in [0, 1], in float64."""
    kr, kb = KR_KB[matrix]
    step = 2 ** (bits - 8)
    y, cb, cr = (float(v) for v in values)
    y = y / (2**bits - 1) if full else (y - 16 * step) / (219 * step)
    cb, cr = ((c - 128 * step) / ((2**bits - 1) if full else 224 * step) for c in (cb, cr))
    r, b = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return np.array([r, (y - kr * r - kb * b) / (1 - kr - kb), b])


@pytest.mark.parametrize("matrix", KR_KB)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p12le"])
def test_colours_are_the_references_within_one_code_value_and_come_back(pool, matrix, full, name):
    bits = describe_format(name).bit_depth
    color = ColorSpec(matrix=matrix, range=ColorRange.FULL if full else ColorRange.LIMITED)
    random = np.random.default_rng(matrix)
    for _ in range(10):
        step = 2 ** (bits - 8)
        luma, chroma = random.integers(70 * step, 180 * step), random.integers(112 * step, 144 * step, 2)
        values = (int(luma), int(chroma[0]), int(chroma[1]))
        frame = flat(name, values, color)
        descriptor = frame.surface.descriptor
        frame = SurfaceToTensor(descriptor, pool).convert(frame)
        expected = reference(values, bits, matrix, full)
        assert frame.tensor.shape == (3, SIZE[1], SIZE[0])
        assert frame.tensor.dtype == np.float32
        assert np.abs(frame.tensor.reshape(3, -1).T - expected).max() < 1 / 255
        frame = TensorToSurface(descriptor).convert(frame)
        back = [
            np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16)[0].astype(int)
            for plane in frame.surface.native.planes
        ]
        # libswscale converts full range in 15 bits: up to one 8-bit code is lost, whatever the depth.
        assert np.abs(np.array(back) - values).max() <= (2 ** (bits - 8) if full else 0)
        frame.close()


def test_untagged_video_follows_the_rule_that_players_follow():
    untagged = ColorSpec()
    assert matrix_of(untagged, 576) == matrix_of(ColorSpec(matrix=6), 576)
    assert matrix_of(untagged, 720) == matrix_of(ColorSpec(matrix=1), 720)
    assert matrix_of(untagged, 576) != matrix_of(untagged, 720)


def test_values_outside_the_range_are_clipped_not_wrapped(pool):
    lease = pool.lease(3 * 4 * 8 * 8)
    array = lease.array((3, 8, 8), np.float32)
    array[:, :, :4], array[:, :, 4:] = -0.5, 1.5
    target = SurfaceDescriptor(8, 8, describe_format("yuv444p"), ColorSpec(matrix=1))
    frame = TensorToSurface(target).convert(Frame(0, 0, 1, Fraction(1), False, Tensor(array, lease)))
    luma = np.frombuffer(frame.surface.native.planes[0], np.uint8).reshape(8, -1)
    assert abs(int(luma[0, 0]) - 16) <= 1
    assert abs(int(luma[0, 7]) - 235) <= 1


def test_a_grey_tensor_becomes_a_grey_picture(pool):
    lease = pool.lease(4 * 8 * 8)
    array = lease.array((1, 8, 8), np.float32)
    array[:] = 0.5
    target = SurfaceDescriptor(8, 8, describe_format("yuv444p"), ColorSpec(matrix=1))
    frame = TensorToSurface(target).convert(Frame(0, 0, 1, Fraction(1), False, Tensor(array, lease)))
    y, cb, cr = (np.frombuffer(plane, np.uint8)[0] for plane in frame.surface.native.planes)
    assert abs(int(y) - 126) <= 1
    assert (cb, cr) == (128, 128)


def test_a_picture_of_another_size_is_refused_and_stays_the_callers(pool):
    frame = flat("yuv420p", (100, 128, 128), ColorSpec())
    other = SurfaceDescriptor(64, 64, describe_format("yuv420p"))
    with pytest.raises(errors.DecodeError, match="changes to 37x29 yuv420p at frame 0; it began as 64x64"):
        SurfaceToTensor(other, pool).convert(frame)
    assert frame.surface.native is not None
