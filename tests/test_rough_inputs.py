"""Inputs as they are found in the wild: RGB, turned, reordered, joined, cut, and more than a container can hold."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

import rave_trio
from rave_trio import errors


@pytest.fixture
def upscale(tmp_path, nearest_x2):
    """Run with the model whose result is known."""

    def run(source, name="out.mkv", **options):
        return rave_trio.upscale_sync(source, tmp_path / name, model=str(nearest_x2), **options)

    return run


def remux(source, target, prepare=lambda stream: None):
    """The first stream of ``source`` in another file, its new stream prepared by the caller."""
    with av.open(source) as before, av.open(target, "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        prepare(stream)
        for packet in before.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                after.mux(packet)
    return target


@pytest.mark.parametrize("encoder", ["libx264", "libx265", "libsvtav1", "ffv1"])
@pytest.mark.parametrize("pixels", ["bgr24", "bgr0", "gray", "yuvj420p", "yuv444p"])
def test_the_picture_has_the_inputs_colours_whatever_they_are_made_of(
    clip, tmp_path, reading, upscale, encoder, pixels
):
    codec = {"bgr24": "libx264rgb", "yuvj420p": "mjpeg"}.get(pixels, "ffv1")
    source = clip(frames=2, codec=codec, pixel_format=pixels)
    upscale(source, codec=encoder, preset="12" if encoder == "libsvtav1" else None)
    before, after = reading.frames(source)[0], reading.frames(tmp_path / "out.mkv")[0]
    difference = after.reshape(48, 2, 64, 2, 3).mean(axis=(1, 3)) - before
    # The mean tells a wrong matrix or range from the losses of compression and of subsampled chroma.  Untagged grey is
    # limited range here and full range in libav's conversion to RGB.
    assert np.abs(difference.mean(axis=(0, 1))).max() < (12 if pixels == "gray" else 2)


@pytest.mark.parametrize("rotation", [90, -90, 180])
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_a_phones_rotation_is_kept(clip, tmp_path, upscale, rotation, container):
    turned = remux(clip("upright.mp4"), tmp_path / "turned.mp4", lambda stream: stream.set_display_rotation(rotation))
    upscale(turned, f"out.{container}")
    with av.open(turned) as before, av.open(tmp_path / f"out.{container}") as after:
        first, second = next(before.decode(video=0)), next(after.decode(video=0))
        assert first.rotation == second.rotation != 0
        assert (second.width, second.height) == (128, 96)


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])
def test_reordered_frames_in_avi_come_out_in_order_and_evenly(clip, tmp_path, reading, upscale, name):
    """AVI has no presentation times; what libav makes of them jumps back and forth."""
    upscale(clip("in.avi", frames=20), name)
    times = reading.times(tmp_path / name)
    assert len(times) == 20
    assert times == sorted(set(times))
    assert abs((times[-1] - times[0]) - Fraction(19, 25)) <= Fraction(2, 25)


def test_joined_recordings_go_on_where_the_first_ends(clip, tmp_path, reading, upscale):
    piece = clip("piece.ts", frames=50, audio=True).read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(piece + piece)
    report = upscale(joined)
    times = reading.times(tmp_path / "out.mkv")
    assert len(times) == report.frames == 100
    assert times == sorted(set(times))
    assert 3.9 < times[-1] - times[0] < 4.2
    assert abs(reading.packets(tmp_path / "out.mkv", 1).times[-1] - times[-1]) < Fraction(1, 5)
    assert any("moved behind" in note for note in report.notes)


def test_what_the_muxer_itself_refuses_is_refused_by_the_plan(clip, tmp_path, upscale):
    source = clip(frames=30, audio=True)
    with pytest.raises(errors.ContainerRejectsStream, match=r"stream #1 \(audio, aac\)") as caught:
        upscale(source, "out.webm")
    assert ".mkv" in caught.value.remedy
    with pytest.raises(errors.ContainerRejectsStream, match="the video as av1"):
        upscale(clip("silent.mkv", frames=2), "out.mov", codec="libsvtav1", preset="12")


@pytest.fixture
def sound_that_cannot_be_written(monkeypatch):
    from rave_trio.media import publish

    genuine = publish._source_packets

    def refuse(what, source, routes):
        if routes:
            raise errors.MuxError("the sound cannot be written")
        return genuine(what, source, routes)

    monkeypatch.setattr(publish, "_source_packets", refuse)


def test_a_partial_file_whose_sound_cannot_be_written_keeps_the_picture(
    clip, tmp_path, reading, upscale, sound_that_cannot_be_written
):
    cut = tmp_path / "cut.mkv"
    whole = clip(frames=30, audio=True).read_bytes()
    cut.write_bytes(whole[: len(whole) - 400])
    with pytest.raises(errors.InputTruncated, match=r"out\.partial\.mkv, the picture alone"):
        upscale(cut, "out.mp4")
    assert reading.frames(tmp_path / "out.partial.mkv")


def test_a_publishing_that_fails_keeps_the_picture(clip, tmp_path, reading, upscale, sound_that_cannot_be_written):
    with pytest.raises(errors.MuxError, match=r"30 finished frames are in .*out\.partial\.mkv, the picture alone"):
        upscale(clip(frames=30, audio=True), "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    assert reading.times(tmp_path / "out.partial.mkv") == [Fraction(40 * i, 1000) for i in range(30)]


def test_a_file_that_comes_into_being_meanwhile_is_kept_and_so_is_the_result(clip, tmp_path, upscale, monkeypatch):
    from rave_trio import delivery

    genuine = delivery.publish

    def publish(what, target, **how):
        if target.name == "out.mp4":
            target.write_bytes(b"precious")
        return genuine(what, target, **how)

    monkeypatch.setattr(delivery, "publish", publish)
    with pytest.raises(errors.OutputExists, match=r"5 finished frames are in .*out\.partial\.mkv$"):
        upscale(clip(frames=5, audio=True), "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    with av.open(tmp_path / "out.partial.mkv") as kept:
        assert [stream.type for stream in kept.streams] == ["video", "audio"]


def test_a_second_partial_file_does_not_replace_the_first(bunny, tmp_path, upscale):
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(bunny.read_bytes()[:100_000])
    (tmp_path / "out.partial.mkv").write_bytes(b"precious")
    with pytest.raises(errors.InputTruncated, match=r"out\.partial-2\.mkv"):
        upscale(cut)
    assert (tmp_path / "out.partial.mkv").read_bytes() == b"precious"


def test_a_file_that_lost_only_its_very_end_is_still_called_truncated(clip, tmp_path, upscale):
    whole = clip("whole.mkv", frames=30).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[:-20])
    with pytest.raises(errors.InputTruncated):
        upscale(cut)


@pytest.mark.parametrize("wrong", [{"scale": "2"}, {"crf": 17.5}, {"tile": -1}, {"precision": "int4"}, {"codec": "x"}])
def test_a_wrong_option_of_a_program_is_a_usage_error(clip, upscale, wrong):
    with pytest.raises(errors.UsageError):
        upscale(clip(frames=1), **wrong)
