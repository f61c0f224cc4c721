"""What the tags mean, and what their absence means."""

from __future__ import annotations

import numpy as np
import pytest

from rave_trio.color import HD_LINES, matrix_of, range_of
from rave_trio.frames import ColorRange, ColorSpec
from rave_trio.media._libav import describe_format


def test_untagged_video_follows_the_rule_that_players_follow():
    untagged = ColorSpec()
    assert matrix_of(untagged, HD_LINES - 1) == matrix_of(ColorSpec(matrix=6), 576)
    assert matrix_of(untagged, HD_LINES) == matrix_of(ColorSpec(matrix=1), 720)
    assert matrix_of(untagged, 576) != matrix_of(untagged, 720)


@pytest.mark.parametrize("code", [3, 11, 12, 14, 99])
def test_matrices_that_are_not_known_follow_the_same_rule(code):
    for height in (576, 1080):
        assert matrix_of(ColorSpec(matrix=code), height) == matrix_of(ColorSpec(), height)


def test_identity_means_nothing_where_chroma_is_subsampled(reference, convert):
    codes = [np.full(shape, 100 + 20 * i) for i, shape in enumerate([(32, 32), (16, 16), (16, 16)])]
    found = [convert.there(codes, reference.descriptor("yuv420p", 32, 32, matrix)) for matrix in (0, 6)]
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("code", [1, 4, 5, 6, 7, 8, 9, 10])
def test_the_matrices_there_and_back_are_inverse_and_keep_grey_grey(code):
    matrix = matrix_of(ColorSpec(matrix=code), 1080)
    assert matrix.to_rgb @ matrix.from_rgb == pytest.approx(np.eye(3), abs=1e-14)
    assert matrix.from_rgb @ np.ones(3) == pytest.approx([1, 0, 0], abs=1e-15)
    extremes = matrix.from_rgb @ np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1)
    assert extremes[1:].max(axis=1) == pytest.approx([0.5, 0.5])
    assert extremes[1:].min(axis=1) == pytest.approx([-0.5, -0.5])


def test_bt709_is_what_the_book_says():
    assert matrix_of(ColorSpec(matrix=1), 720).to_rgb == pytest.approx(
        np.array([[1, 0, 1.5748], [1, -0.187324, -0.468124], [1, 1.8556, 0]]), abs=1e-6
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("yuv420p", ColorRange.LIMITED),
        ("yuv444p10le", ColorRange.LIMITED),
        ("nv12", ColorRange.LIMITED),
        ("yuvj420p", ColorRange.FULL),
        ("gray10le", ColorRange.FULL),
        ("gbrp", ColorRange.FULL),
        ("pal8", ColorRange.FULL),
    ],
)
def test_an_untagged_range_is_what_the_format_is_used_for_and_a_tagged_one_wins(name, expected):
    layout = describe_format(name)
    assert range_of(ColorSpec(), layout) == expected
    for tagged in (ColorRange.LIMITED, ColorRange.FULL):
        assert range_of(ColorSpec(range=tagged), layout) == tagged
