"""Batch and streams are measured once on a real GPU, and remembered."""

from __future__ import annotations

import time

import attrs
import pytest
from cuda_rigs import open_gpu

import rave_trio

LONGEST = 30.0
"""Seconds that finding out may take at most, libraries' first use of the GPU included.  It should be below 3."""


@pytest.mark.parametrize("height", [180, 1080])
def test_auto_measures_once_and_remembers(clip, tmp_path, monkeypatch, record_property, height):
    open_gpu().close()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = clip(frames=2, width=height * 16 // 9, height=height)
    options = rave_trio.UpscaleOptions(source, tmp_path / "out.mkv", device="cuda", backend="onnxruntime")
    one_by_one = attrs.evolve(options, batch=1, streams=1)
    rave_trio.make_plan(one_by_one)  # asks the chip's video engines, which is remembered too

    def planned(options):
        began = time.perf_counter()
        plan, _ = rave_trio.make_plan(options)
        return plan, time.perf_counter() - began

    _, planning = planned(one_by_one)
    first, measuring = planned(options)
    again, remembering = planned(options)
    assert first.tuning is not None
    assert first.tuning.failure is None
    record_property("tuning", first.tuning.text())
    record_property("seconds", measuring - planning)
    assert first.tuning.speeds[0].per_second > 0
    assert (first.batch, first.streams) == (first.tuning.best.batch, first.tuning.best.streams)
    assert again.tuning == first.tuning
    assert (again.batch, again.streams) == (first.batch, first.streams)
    assert measuring < LONGEST
    assert remembering < measuring
