"""The whole way: a real file in, a real file out, read back and compared."""

from __future__ import annotations

import gc
import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import trio

import rave_trio
from rave_trio import errors


def upscale(source, target, **options):
    return rave_trio.upscale_sync(source, target, **options)


def test_the_real_clip_comes_out_twice_as_large_with_every_frame_and_its_sound(bunny, tmp_path, reading, nearest_x2):
    target = tmp_path / "out.mkv"
    report = upscale(bunny, target, model=str(nearest_x2))
    assert report.frames == 96
    with av.open(target) as result:
        video, audio = result.streams.video[0], result.streams.audio[0]
        assert (video.width, video.height, video.codec_context.name) == (640, 360, "h264")
        assert audio.metadata["language"] == "eng"
        assert result.metadata["title"] == "Big Buck Bunny (excerpt)"
        assert (video.codec_context.colorspace, video.codec_context.color_range) == (1, 1)
    before, after = reading.packets(bunny, 0), reading.packets(target, 0)
    assert (after.times, after.durations) == (before.times, before.durations)
    assert reading.packets(target, 1) == reading.packets(bunny, 1)


def test_the_picture_is_the_inputs_larger_and_sharper_than_interpolation_makes_it(bunny, tmp_path, reading):
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with av.open(bunny) as whole, av.open(source, "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        for index, frame in enumerate(itertools.islice(whole.decode(video=0), 40, 43)):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    upscale(source, target)
    for small, large in zip(reading.frames(source), reading.frames(target), strict=True):
        assert reading.psnr(large.reshape(180, 2, 320, 2, 3).mean(axis=(1, 3)), small) > 27
        interpolated = (
            av.VideoFrame.from_ndarray(small, "rgb24").reformat(640, 360, interpolation="BICUBIC").to_ndarray()
        )
        assert roughness(large) > 1.1 * roughness(interpolated)


def roughness(picture):
    """How far neighbours in a row are from one another, in code values."""
    return np.abs(np.diff(picture.astype(float), axis=1)).mean()


def test_nothing_is_left_beside_the_output(bunny, clip, tmp_path):
    source = clip(frames=3)
    upscale(source, tmp_path / "out.mkv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "out.mkv"]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_each_scale_has_a_shipped_model(clip, tmp_path, scale):
    report = upscale(clip(frames=2), tmp_path / "out.mkv", scale=scale)
    surface = report.plan.encoder.surface
    assert (surface.width, surface.height) == (64 * scale, 48 * scale)
    assert report.plan.models[0].name == f"animevideo-x{scale}"


@pytest.mark.parametrize(
    ("container", "codec", "name"),
    [
        ("mkv", "libx264", "h264"),
        ("mkv", "libx265", "hevc"),
        ("mkv", "libsvtav1", "av1"),
        ("mkv", "ffv1", "ffv1"),
        ("mp4", "libx264", "h264"),
        ("mp4", "libx265", "hevc"),
        ("mp4", "libsvtav1", "av1"),
        ("mov", "libx264", "h264"),
        ("mov", "libx265", "hevc"),
        ("webm", "libsvtav1", "av1"),
    ],
)
def test_each_encoder_goes_into_each_container_that_takes_it(
    clip, tmp_path, nearest_x2, reading, container, codec, name
):
    source = clip(frames=30)
    target = tmp_path / f"out.{container}"
    fast = {"libx264": "ultrafast", "libx265": "ultrafast", "libsvtav1": "12"}.get(codec)
    upscale(source, target, model=str(nearest_x2), codec=codec, preset=fast)
    with av.open(target) as result:
        assert result.streams.video[0].codec_context.codec.canonical_name == name
    assert reading.times(target) == reading.times(source)
    expected = [frame.repeat(2, axis=0).repeat(2, axis=1) for frame in reading.frames(source)]
    for index, frame in enumerate(reading.frames(target)):
        likeness = [reading.psnr(frame, other) for other in expected]
        assert max(likeness) == likeness[index] > 26


def test_webm_gets_av1_unless_asked_otherwise(clip, tmp_path, nearest_x2):
    report = upscale(clip(frames=2), tmp_path / "out.webm", model=str(nearest_x2))
    assert report.plan.encoder.encoder == "libsvtav1"


def test_a_lossless_run_through_a_known_model_gives_the_known_result(clip, tmp_path, nearest_x2, reading):
    source = clip(frames=5, codec="ffv1", pixel_format="yuv444p")
    upscale(source, tmp_path / "out.mkv", model=str(nearest_x2), codec="ffv1", precision="fp32")
    with av.open(source) as before, av.open(tmp_path / "out.mkv") as after:
        for small, large in zip(before.decode(video=0), after.decode(video=0), strict=True):
            assert large.format.name == "yuv444p"
            for plane in range(3):
                a = np.asarray(small.planes[plane]).reshape(-1, small.planes[plane].line_size)[:, :64].astype(int)
                b = np.asarray(large.planes[plane]).reshape(-1, large.planes[plane].line_size)[:, :128].astype(int)
                assert np.abs(a.repeat(2, 0).repeat(2, 1) - b).max() <= 1


def test_any_name_that_a_file_may_have_will_do(clip, tmp_path, nearest_x2, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip("http: Ünïcode [x] 100%d, 'quoted'.mkv", frames=2)
    upscale("http: Ünïcode [x] 100%d, 'quoted'.mkv", "pipe:1.mkv", model=str(nearest_x2))
    assert (tmp_path / "pipe:1.mkv").stat().st_size > 500


def test_ten_bit_input_stays_ten_bit(clip, tmp_path, nearest_x2):
    source = clip(frames=3, codec="libx265", pixel_format="yuv420p10le", options={"x265-params": "log-level=error"})
    report = upscale(source, tmp_path / "out.mkv", model=str(nearest_x2))
    assert report.plan.encoder.surface.pixel_format.name == "yuv420p10le"
    with av.open(tmp_path / "out.mkv") as result:
        assert result.streams.video[0].pix_fmt == "yuv420p10le"


def test_colour_tags_are_kept(clip, tmp_path, nearest_x2):
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
    source = clip(frames=3, codec="ffv1", pixel_format="yuv420p10le", tags=tags)
    upscale(source, tmp_path / "out.mkv", model=str(nearest_x2))
    with av.open(tmp_path / "out.mkv") as result:
        context = result.streams.video[0].codec_context
        assert {name: getattr(context, name) for name in tags} == tags


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_the_nominal_frame_rate_is_the_inputs(clip, tmp_path, nearest_x2, container, codec):
    """Also with a fine time base, which some encoders would write into the stream as the rate."""
    source = clip("in.mp4", frames=6, rate=24, pts=[512 * i for i in range(6)], time_base=Fraction(1, 12288))
    upscale(source, tmp_path / f"out.{container}", model=str(nearest_x2), codec=codec)
    with av.open(tmp_path / f"out.{container}") as result:
        video = result.streams.video[0]
        assert (video.average_rate, video.guessed_rate) == (24, 24)


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_variable_frame_times_are_exact_in_mp4_and_mov(clip, tmp_path, nearest_x2, reading, container):
    pts = [0, 1001, 2002, 2500, 7007, 7008, 9009, 20020, 20021, 30030, 30530, 31031]
    source = clip(f"in.{container}", pts=pts, time_base=Fraction(1, 30000), rate=30)
    target = tmp_path / f"out.{container}"
    upscale(source, target, model=str(nearest_x2))
    assert reading.times(target) == reading.times(source) == [Fraction(p, 30000) for p in pts]


def test_variable_frame_times_are_kept_to_the_millisecond_in_matroska(clip, tmp_path, nearest_x2, reading):
    pts = [0, 40, 41, 200, 1000, 1001, 5000, 5040]
    source = clip(pts=pts, time_base=Fraction(1, 1000))
    upscale(source, tmp_path / "out.mkv", model=str(nearest_x2))
    assert reading.times(tmp_path / "out.mkv") == [Fraction(p, 1000) for p in pts]


def test_sound_subtitles_fonts_chapters_and_tags_come_along(clip, tmp_path, nearest_x2, reading):
    font = bytes(range(256)) * 4
    source = clip(
        frames=50, audio=True, subtitle="Bonjour", attachment=font, chapters=True, title="A film with everything"
    )
    target = tmp_path / "out.mkv"
    upscale(source, target, model=str(nearest_x2))
    with av.open(source) as before, av.open(target) as after:
        assert [s.type for s in after.streams] == [s.type for s in before.streams]
        assert after.metadata["title"] == "A film with everything"
        assert [(c["start"], c["metadata"]) for c in after.chapters()] == [
            (c["start"], c["metadata"]) for c in before.chapters()
        ]
        for one, other in zip(before.streams, after.streams, strict=True):
            assert other.metadata.get("language") == one.metadata.get("language")
            assert other.metadata.get("title") == one.metadata.get("title")
            assert other.disposition == one.disposition
            if one.type == "attachment":
                assert other.data == one.data == font
        kinds = {s.type: s.index for s in before.streams}
    for kind in ("audio", "subtitle"):
        assert reading.packets(target, kinds[kind]) == reading.packets(source, kinds[kind])
    assert b"Bonjour" in reading.packets(target, kinds["subtitle"]).payload


def test_sound_stays_in_step_between_containers(clip, tmp_path, nearest_x2, reading):
    """The source's sound starts before time 0, with the encoder's priming samples; nothing may be shifted for that."""
    source = clip("in.mp4", frames=50, audio=True)
    target = tmp_path / "out.mkv"
    upscale(source, target, model=str(nearest_x2))
    assert reading.times(target) == reading.times(source)
    sound, copy = reading.packets(source, 1), reading.packets(target, 1)
    assert sound.times[0] < 0
    assert copy.payload == sound.payload
    assert max(abs(a - b) for a, b in zip(sound.times, copy.times, strict=True)) <= Fraction(1, 1000)


def test_a_container_that_cannot_hold_a_stream_is_refused_before_the_first_frame(clip, tmp_path):
    source = clip(frames=2, attachment=b"font")
    with pytest.raises(errors.ContainerRejectsStream, match=r"\.mp4 cannot hold stream #1") as caught:
        upscale(source, tmp_path / "out.mp4")
    assert ".mkv" in caught.value.remedy
    assert not (tmp_path / "out.mp4").exists()


def test_odd_sizes_are_kept_whole(clip, tmp_path, reading):
    source = clip(frames=2, width=67, height=45, codec="ffv1")
    upscale(source, tmp_path / "out.mkv")
    assert reading.frames(tmp_path / "out.mkv")[0].shape == (90, 134, 3)
    upscale(source, tmp_path / "lossless.mkv", scale=3, codec="ffv1")
    assert reading.frames(tmp_path / "lossless.mkv")[0].shape == (135, 201, 3)


def test_tiles_make_no_visible_difference(clip, tmp_path, reading):
    source = clip(frames=2, width=150, height=110, codec="ffv1")
    whole = upscale(source, tmp_path / "whole.mkv", codec="ffv1", precision="fp32")
    tiled = upscale(source, tmp_path / "tiled.mkv", codec="ffv1", precision="fp32", tile=80)
    assert (whole.plan.geometries[0].tiles, tiled.plan.geometries[0].tiles) == (1, 6)
    for a, b in zip(reading.frames(tmp_path / "whole.mkv"), reading.frames(tmp_path / "tiled.mkv"), strict=True):
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_an_existing_output_is_kept_unless_overwriting_is_asked_for(clip, tmp_path, nearest_x2):
    source, target = clip(frames=2), tmp_path / "out.mkv"
    target.write_bytes(b"precious")
    with pytest.raises(errors.OutputExists):
        upscale(source, target, model=str(nearest_x2))
    assert target.read_bytes() == b"precious"
    upscale(source, target, model=str(nearest_x2), overwrite=True)
    assert target.stat().st_size > 500


def test_the_plan_is_the_same_every_time(bunny, tmp_path):
    options = rave_trio.UpscaleOptions(bunny, tmp_path / "out.mkv")
    assert rave_trio.make_plan(options)[0] == rave_trio.make_plan(options)[0]


def test_the_report_accounts_for_every_frame_and_every_byte(clip, tmp_path, nearest_x2):
    report = upscale(clip(frames=40), tmp_path / "out.mkv", model=str(nearest_x2))
    assert [stage.frames_out for stage in report.metrics.stages] == [40] * 4
    assert report.ledger.current == 0 < report.ledger.peak
    assert report.pool.leased == 0
    assert report.pool.hit_rate > 0.7
    assert report.metrics.elapsed > 0
    assert report.as_dict()["plan"]["output"]["width"] == 128


def test_a_changing_picture_size_ends_with_an_error_that_names_the_frame(clip, tmp_path, nearest_x2, reading):
    """Two elementary streams of different size, one after the other, are one stream whose size changes."""
    joined = tmp_path / "joined.h264"
    joined.write_bytes(b"".join(clip(f"{w}.h264", frames=3, width=w).read_bytes() for w in (64, 96)))
    with pytest.raises(errors.DecodeError, match="changes to 96x48 yuv420p at frame 3; it began as 64x48") as caught:
        upscale(joined, tmp_path / "out.mkv", model=str(nearest_x2))
    assert (caught.value.stage, caught.value.frame) == ("decode", 3)
    assert not (tmp_path / "out.mkv").exists()
    assert len(reading.frames(tmp_path / "out.partial.mkv")) == 3, "what was before the change is kept"


def test_a_raw_stream_without_times_gets_them_from_its_rate(clip, tmp_path, nearest_x2, reading):
    source = clip("in.h264", frames=6)
    upscale(source, tmp_path / "out.mkv", model=str(nearest_x2))
    assert reading.times(tmp_path / "out.mkv") == [Fraction(40 * i, 1000) for i in range(6)]


async def test_upscale_runs_inside_a_trio_program_beside_other_tasks(clip, tmp_path, nearest_x2):
    seen = []
    async with trio.open_nursery() as nursery:
        report = await rave_trio.upscale(
            clip(frames=12), tmp_path / "out.mkv", model=str(nearest_x2), on_progress=seen.append
        )
        nursery.cancel_scope.cancel()
    assert report.frames == 12
    assert seen
    assert seen[0].phase == "upscale"


async def test_an_error_leaves_no_open_file_behind(clip, tmp_path):
    def open_files() -> list[str]:
        return sorted(str(p.readlink()) for p in Path("/proc/self/fd").iterdir() if p.is_symlink())

    source = clip(frames=4)
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(source.read_bytes()[:-900])
    gc.disable()
    try:
        mine = [name for name in open_files() if str(tmp_path) in name]
        with pytest.raises(errors.RaveError):
            await rave_trio.upscale(broken, tmp_path / "out.mkv")
        assert [name for name in open_files() if str(tmp_path) in name] == mine == []
    finally:
        gc.enable()
