"""Exact sizes on the CPU, against the definition in float64 and against another implementation."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from lanczos_reference import resized

from rave_trio import errors
from rave_trio.frames import Frame, Tensor
from rave_trio.memory import HostPool, Ledger
from rave_trio.resizing.host import HostResizer, Lanczos
from rave_trio.resizing.lanczos import taps

SIZES = [
    ((9, 7), (18, 14)),
    ((18, 14), (9, 7)),
    ((23, 31), (40, 17)),
    ((5, 300), (3, 71)),
    ((1, 1), (4, 5)),
    ((64, 2), (1, 1)),
    ((37, 29), (37, 29)),
    ((37, 29), (37, 80)),
    ((37, 29), (90, 29)),
    ((131, 70), (129, 71)),
]


def by_us(picture: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    made = Lanczos(picture.shape[1:], target)
    result = np.full((len(picture), *target), np.nan, np.float32)
    for before, after in zip(picture, result, strict=True):
        made.plane(before, after)
    return result


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_pictures_are_what_the_definition_says(noise, source, target):
    picture = noise(*source)
    assert abs(by_us(picture, target) - resized(picture, *target)).max() < 3e-6


@pytest.mark.parametrize(("source", "target"), [(7, 19), (19, 7), (1080, 2160), (3840, 1921), (5, 5), (1, 9)])
def test_weights_of_a_sample_add_up_to_one_and_lie_around_it(source, target):
    axis = taps(source, target)
    assert abs(axis.weights.sum(axis=1) - 1).max() < 1e-12
    centre = (np.arange(target) + 0.5) * source / target
    heaviest = axis.first + axis.weights.argmax(axis=1) + 0.5
    assert abs(heaviest - centre).max() <= max(0.5, source / target / 2) + 1e-9


@pytest.mark.parametrize("target", [(6, 50), (100, 100), (33, 9)])
def test_a_flat_picture_stays_flat_to_its_edges(target):
    picture = np.full((3, 20, 30), 0.7, np.float32)
    assert abs(by_us(picture, target) - np.float32(0.7)).max() < 2e-7


def test_the_same_size_is_the_same_picture(noise):
    picture = noise(24, 17)
    assert (by_us(picture, (24, 17)) == picture).all()


def test_fine_detail_does_not_become_coarse_when_pictures_shrink():
    """Stripes a pixel wide, four times smaller: an even grey, where a filter of fixed width leaves stripes."""
    stripes = np.zeros((1, 64, 256), np.float32)
    stripes[:, :, ::2] = 1
    small = by_us(stripes, (16, 61))
    assert abs(small[:, :, 5:-5] - 0.5).max() < 0.02


@pytest.mark.parametrize("target", [(90, 160), (270, 480), (101, 333)])
def test_the_result_looks_like_that_of_libswscale(reading, target):
    """Sanity, not identity: libswscale has integer weights and clips between the axes."""
    height, width = target
    drawn = reading.draw(3, 320, 180)
    frame = av.VideoFrame.from_ndarray(drawn, "rgb24")
    theirs = frame.reformat(width, height, "rgb24", interpolation="LANCZOS").to_ndarray()
    picture = drawn.transpose(2, 0, 1).astype(np.float32) / 255
    ours = np.clip(by_us(picture, target) * 255 + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    assert reading.psnr(ours, theirs) > 45


def frame_of(samples: np.ndarray, index: int = 0) -> Frame:
    return Frame(index, index, 1, Fraction(1, 25), False, Tensor(samples, None))


@pytest.fixture
def pool():
    made = HostPool(Ledger())
    yield made
    assert made.stats().leased == 0
    made.close()


@pytest.mark.parametrize("channels", [1, 3])
def test_frames_come_back_in_order_in_the_new_size(pool, noise, channels):
    resizer = HostResizer((12, 16), (18, 8), pool)
    pictures = [noise(12, 16, seed)[:channels] for seed in range(2)]
    for index, picture in enumerate(pictures):
        resizer.submit(frame_of(picture, index))
    for index, picture in enumerate(pictures):
        done = resizer.collect()
        assert done.index == index
        assert abs(done.tensor - resized(picture, 18, 8)).max() < 3e-6
        done.close()
    resizer.close()


def test_a_frame_for_which_there_is_no_memory_is_closed_and_the_next_is_not_touched(noise):
    pool = HostPool(Ledger(limit=16 << 10))
    resizer = HostResizer((12, 16), (180, 80), pool)
    for index in range(2):
        resizer.submit(frame_of(noise(12, 16), index))
    with pytest.raises(errors.OutOfMemory):
        resizer.collect()
    assert len(resizer._frames) == 1
    resizer.close()
    resizer.close()
    assert pool.stats().leased == 0
    pool.close()
