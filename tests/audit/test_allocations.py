"""Host memory that is allocated anew while frames flow: seen where it is planted, and only there."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import rave_trio
from rave_trio import running
from rave_trio.audit.allocations import NEARLY, SMALL_CHANGE, AllocationLooks, judge_allocations
from rave_trio.audit.findings import Level
from rave_trio.color.to_surface import TensorToSurface

WIDTH, HEIGHT = 384, 352
PLANE = WIDTH * HEIGHT
"""Bytes of each of the input's, which is 4:4:4."""


@pytest.fixture(scope="module")
def source(session_clip):
    how = {"width": WIDTH, "height": HEIGHT, "pixel_format": "yuv444p", "options": {"preset": "ultrafast"}}
    return session_clip("planes.mkv", frames=90, **how)


@pytest.fixture
def looking(source, nearest_x2, tmp_path, monkeypatch):
    """A run that is looked at often, and what was seen of it."""
    monkeypatch.setattr(running, "INTERVAL", 0.05)

    def run():
        tracemalloc.start()
        try:
            looks = AllocationLooks()
            rave_trio.upscale_sync(
                source,
                tmp_path / "out.mkv",
                model=str(nearest_x2),
                device="cpu",
                preset="ultrafast",
                on_progress=looks,
            )
            return looks.rises
        finally:
            tracemalloc.stop()

    return run


def test_a_run_allocates_no_memory_of_a_planes_size(looking):
    found = judge_allocations(looking(), PLANE)
    assert found.level is Level.PASS, found


def test_an_array_that_is_made_for_every_frame_and_given_back_at_once_is_found(looking, monkeypatch):
    genuine = TensorToSurface.convert

    def wasteful(converter, frame):
        np.empty(PLANE, np.uint8)
        return genuine(converter, frame)

    monkeypatch.setattr(TensorToSurface, "convert", wasteful)
    found = judge_allocations(looking(), PLANE)
    assert found.level is Level.FAIL, found
    assert found.figures["most"] >= NEARLY * PLANE


def test_a_rise_now_and_then_is_a_warning():
    assert judge_allocations([0] * 9 + [10**6], 10**6).level is Level.WARN
    assert judge_allocations([0] * 5 + [10**6] * 5, 10**6).level is Level.FAIL
    assert judge_allocations([int(NEARLY * 10**6) - 1] * 10, 10**6).level is Level.PASS


def test_what_cannot_be_judged_is_a_warning():
    assert "too few" in judge_allocations([0, 0], 10**6).message
    small = judge_allocations([0] * 10, SMALL_CHANGE - 1)
    assert (small.level, "not judged" in small.message) == (Level.WARN, True)
