"""Properties over sizes, formats and sequences of frame times, from file to file."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rave_trio

FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p12le", "gray", "gray12le", "yuv410p")

run_for_real = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def fresh(tmp_path):
    """An empty folder for each example."""

    def make() -> Path:
        folder = tmp_path / "example"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    return make


def write(path, pts, time_base, width, height, pixels, codec="ffv1"):
    exact = {"movie_timescale": str(time_base.denominator)} if path.suffix == ".mov" else {}
    with av.open(path, "w", options=exact) as out:
        stream = out.add_stream(codec, rate=25, options={"bf": "0"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.time_base = time_base
        ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 2).astype(np.uint8)
        for index, at in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(np.roll(ramp, index), "gray").reformat(format=pixels)
            frame.pts, frame.time_base = at, time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@run_for_real
@given(width=st.integers(16, 130), height=st.integers(16, 130), pixels=st.sampled_from(FORMATS))
def test_a_picture_of_any_size_and_format_comes_out_whole(fresh, nearest_x2, width, height, pixels):
    folder = fresh()
    source = write(folder / "in.mkv", range(2), Fraction(1, 25), width, height, pixels)
    report = rave_trio.upscale_sync(
        source, folder / "out.mkv", model=str(nearest_x2), codec="ffv1", precision="fp32", tile=64
    )
    surface = report.plan.encoder.surface
    assert (surface.width, surface.height, surface.pixel_format.name) == (2 * width, 2 * height, pixels)
    assert rave_trio.compare(source, folder / "out.mkv").differences == ()
    before, after = (luma_of(folder / name) for name in ("in.mkv", "out.mkv"))
    assert np.abs(after - before.repeat(2, 0).repeat(2, 1)).max() <= 1


def luma_of(path):
    with av.open(path) as source:
        frame = next(source.decode(video=0))
        kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
        plane = frame.planes[0]
        return np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width].astype(int)


steps = st.one_of(st.integers(1, 5), st.integers(900, 1100), st.integers(10_000, 2_000_000))


@run_for_real
@given(
    start=st.one_of(st.just(0), st.integers(-90_000, 90_000), st.integers(2**32, 2**34)),
    steps=st.lists(steps, min_size=1, max_size=12),
    ticks=st.sampled_from([1000, 30_000, 90_000, 1_000_000]),
    container=st.sampled_from(["mp4", "mov", "mkv"]),
)
def test_frames_at_any_times_come_out_at_those_times(fresh, nearest_x2, reading, start, steps, ticks, container):
    folder = fresh()
    times = [max(start, 0) + sum(steps[:n]) for n in range(len(steps) + 1)]
    source = write(folder / "in.mov", times, Fraction(1, ticks), 32, 32, "yuv420p", codec="libx264")
    target = folder / f"out.{container}"
    rave_trio.upscale_sync(source, target, model=str(nearest_x2), preset="ultrafast", strict=True)
    before, after = reading.times(source), reading.times(target)
    assert before == [Fraction(at, ticks) for at in times]
    allowed = Fraction(1, 2000) if container == "mkv" else 0
    assert len(after) == len(before)
    assert all(abs(a - b) <= allowed for a, b in zip(after, before, strict=True))
    if container != "mkv":
        with av.open(source) as one, av.open(target) as other:
            assert one.streams.video[0].time_base == other.streams.video[0].time_base


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_a_film_of_many_hours_keeps_its_times_beyond_32_bits(fresh, nearest_x2, reading, container):
    """One frame every twenty minutes for eight hours, in microseconds."""
    folder = fresh()
    times = [1_200_000_000 * n for n in range(25)]
    assert times[-1] > 2**34
    source = write(folder / "in.mov", times, Fraction(1, 1_000_000), 32, 32, "yuv420p", codec="libx264")
    target = folder / f"out.{container}"
    rave_trio.upscale_sync(source, target, model=str(nearest_x2), preset="ultrafast")
    assert reading.times(target) == [Fraction(at, 1_000_000) for at in times]
    assert rave_trio.compare(source, target).differences == ()
