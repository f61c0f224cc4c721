"""Tiles cover a picture, each pixel is kept once, and nothing is kept near a cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rave_trio.inference.tiling import Span, spans, tiles

LENGTHS = st.integers(1, 5000)
SIZES = st.integers(1, 600)
OVERLAPS = st.integers(0, 80)
PERIODS = st.sampled_from([1, 2, 3, 4, 8, 64])


@st.composite
def cuts(draw):
    """A length, a size, an overlap and a period that go together, and the spans they make."""
    length, size, overlap, period = draw(LENGTHS), draw(SIZES), draw(OVERLAPS), draw(PERIODS)
    assume(length <= size or size - 2 * overlap >= period)
    return length, size, overlap, period, spans(length, size, overlap, period)


@given(cuts())
def test_every_pixel_is_kept_once(cut):
    length, *_, made = cut
    kept = [pixel for span in made for pixel in range(span.keep, span.end)]
    assert kept == list(range(length))


@given(cuts())
def test_what_is_kept_lies_inside_its_tile_and_away_from_its_cuts(cut):
    length, size, overlap, _, made = cut
    for span in made:
        assert 0 <= span.start <= span.keep < span.end <= span.start + size
        assert span.start == 0 or span.keep - span.start >= overlap
        assert span.start + size >= length or span.start + size - span.end >= overlap


@given(cuts())
def test_tiles_start_at_multiples_of_the_period_and_reach_less_than_one_past_the_edge(cut):
    length, size, _, period, made = cut
    for span in made:
        assert span.start % period == 0
        assert span.start + size < max(length, size) + period


@given(cuts())
def test_there_is_no_tile_too_many(cut):
    length, size, overlap, period, made = cut
    # One tile fewer cannot do, even if each but the first starts as late as it may.
    step = (size - 2 * overlap) // period * period
    assert len(made) == 1 or (len(made) - 2) * step + size < length


@given(OVERLAPS, st.data())
def test_a_tile_too_small_for_the_overlap_is_refused_by_name(overlap, data):
    size = data.draw(st.integers(0, 2 * overlap))
    with pytest.raises(ValueError, match=f"^a tile of {size} is too small for an overlap of {overlap} on each side$"):
        spans(size + data.draw(LENGTHS), size, overlap)


def test_a_picture_that_fits_is_one_span():
    assert spans(100, 100, 99) == spans(100, 128, 99) == (Span(0, 0, 100),)


def test_tiles_go_row_by_row():
    made = list(tiles(10, 20, 6, 12, 1))
    assert [(tile.rows, tile.columns) for tile in made] == list(itertools.product(spans(10, 6, 1), spans(20, 12, 1)))
