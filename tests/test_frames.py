"""A frame owns one picture at a time and gives it back once."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from rave_trio.frames import Frame, PixelFormat, Surface, SurfaceDescriptor, Tensor
from rave_trio.memory import HostPool, Ledger

DESCRIPTOR = SurfaceDescriptor(4, 2, PixelFormat("yuv420p", 8, 1, 1))


class CountingLease:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def frame_of(picture: Surface | Tensor | None) -> Frame:
    return Frame(5, 500, 100, Fraction(1, 1000), True, picture)


def tensor_of(lease: CountingLease) -> Tensor:
    return Tensor(np.zeros((3, 2, 4), np.float32), lease)


def test_a_closed_frame_has_given_its_lease_back_once():
    lease = CountingLease()
    frame = frame_of(tensor_of(lease))
    frame.close()
    frame.close()
    assert lease.closed == 1
    assert frame.picture is None


def test_a_closed_tensor_has_given_its_lease_back_once_and_cannot_be_used():
    lease = CountingLease()
    tensor = tensor_of(lease)
    frame = frame_of(tensor)
    tensor.close()
    tensor.close()
    assert lease.closed == 1
    assert tensor.array is None
    with pytest.raises(TypeError, match="frame 5 does not hold a tensor"):
        _ = frame.tensor


def test_a_closed_surface_lets_go_of_its_native_object():
    surface = Surface(DESCRIPTOR, object())
    surface.close()
    surface.close()
    assert surface.native is None


def test_a_tensor_without_a_lease_closes_too():
    tensor = Tensor(np.zeros((3, 2, 4), np.float32), None)
    tensor.close()
    assert tensor.array is None


def test_a_frame_gives_the_kind_of_picture_that_it_holds():
    surface = Surface(DESCRIPTOR, object())
    array = np.zeros((3, 2, 4), np.float32)
    assert frame_of(surface).surface is surface
    assert frame_of(Tensor(array, None)).tensor is array


@pytest.mark.parametrize("picture", [None, Tensor(np.zeros((3, 2, 4), np.float32), None)])
def test_a_frame_without_a_surface_says_so(picture):
    with pytest.raises(TypeError, match="frame 5 does not hold a surface"):
        _ = frame_of(picture).surface


@pytest.mark.parametrize("picture", [None, Surface(DESCRIPTOR, object())])
def test_a_frame_without_a_tensor_says_so(picture):
    with pytest.raises(TypeError, match="frame 5 does not hold a tensor"):
        _ = frame_of(picture).tensor


def test_a_frame_that_becomes_another_picture_closes_the_old_one_and_keeps_its_time():
    lease = CountingLease()
    frame = frame_of(tensor_of(lease))
    surface = Surface(DESCRIPTOR, object())
    assert frame.become(surface) is frame
    assert lease.closed == 1
    assert frame.surface is surface
    assert (frame.index, frame.pts, frame.duration, frame.time_base, frame.key_frame) == (
        5,
        500,
        100,
        Fraction(1, 1000),
        True,
    )


def test_a_frame_that_becomes_what_it_holds_keeps_it_open():
    lease = CountingLease()
    tensor = tensor_of(lease)
    frame = frame_of(tensor)
    frame.become(tensor)
    assert lease.closed == 0
    assert frame.tensor is tensor.array


def test_a_closed_frame_may_become_a_picture_again():
    frame = frame_of(None)
    surface = Surface(DESCRIPTOR, object())
    assert frame.become(surface).surface is surface


def test_closing_a_frame_gives_its_memory_back_to_the_pool():
    pool = HostPool(Ledger())
    lease = pool.lease(96)
    frame = frame_of(Tensor(lease.array((3, 2, 4), np.float32), lease))
    assert pool.stats().leased == 1
    frame.close()
    assert pool.stats().leased == 0
