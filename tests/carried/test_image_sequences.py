"""Numbered pictures in and out."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

import rave_trio
from rave_trio import errors
from rave_trio.media.sequence import ImageSequence


@pytest.fixture
def pictures(tmp_path, reading):
    """Write numbered PNG files and return their pattern."""

    def make(numbers, folder="in", pattern="%05d.png", size=(40, 24), pixels="rgb24"):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        for number in numbers:
            picture(place / (pattern % number), reading.draw(number, *size), pixels)
        return place / pattern

    return make


def picture(path, array, pixels):
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = array.shape[1], array.shape[0], pixels
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(array, "rgb24").reformat(format=pixels)
    frame.pts = 0
    path.write_bytes(b"".join(bytes(packet) for packet in context.encode(frame) + context.encode(None)))


@pytest.fixture
def upscale(nearest_x2):
    def run(source, target, **options):
        return rave_trio.upscale_sync(source, target, model=str(nearest_x2), **options)

    return run


def pixels_of(path):
    with av.open(path) as source:
        return next(source.decode(video=0)).to_ndarray(format="rgb24")


def test_pictures_become_pictures_with_the_same_numbers_and_exactly_the_pixels_of_the_model(
    pictures, upscale, tmp_path
):
    source = pictures(range(7, 12))
    (tmp_path / "out").mkdir()
    report = upscale(source, tmp_path / "out" / "%05d.png")
    assert report.frames == 5
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{n:05}.png" for n in range(7, 12)]
    for number in range(7, 12):
        before, after = (pixels_of(p / f"{number:05}.png") for p in (tmp_path / "in", tmp_path / "out"))
        assert np.array_equal(after, before.repeat(2, axis=0).repeat(2, axis=1))


def test_sixteen_bit_pictures_stay_so(pictures, upscale, tmp_path):
    (tmp_path / "out").mkdir()
    report = upscale(pictures(range(1, 3), pixels="rgb48be"), tmp_path / "out" / "%d.png", precision="fp32")
    assert report.plan.encoder.surface.pixel_format.name == "rgb48be"


def test_pictures_become_a_video_of_the_rate_that_is_asked_for(pictures, upscale, tmp_path, reading):
    upscale(pictures(range(1, 7)), tmp_path / "out.mkv", frame_rate="24000/1001", codec="ffv1")
    with av.open(tmp_path / "out.mkv") as result:
        assert abs(result.streams.video[0].average_rate - Fraction(24000, 1001)) < Fraction(1, 20)
    times = reading.times(tmp_path / "out.mkv")
    assert len(times) == 6
    assert all(abs(t - Fraction(1001 * i, 24000)) <= Fraction(1, 2000) for i, t in enumerate(times))


def test_a_video_becomes_pictures_numbered_from_one(clip, upscale, tmp_path):
    (tmp_path / "out").mkdir()
    upscale(clip(frames=3), tmp_path / "out" / "frame-%04d.png")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"frame-{n:04}.png" for n in (1, 2, 3)]


def test_sound_is_refused_by_pictures_unless_it_may_be_dropped(clip, upscale, tmp_path):
    source = clip(frames=10, audio=True)
    (tmp_path / "out").mkdir()
    with pytest.raises(errors.ContainerRejectsStream, match="stream #1 \\(audio, aac\\)"):
        upscale(source, tmp_path / "out" / "%d.png")
    upscale(source, tmp_path / "out" / "%d.png", drop_unsupported=True)
    assert len(list((tmp_path / "out").iterdir())) == 10


def test_a_missing_picture_is_named(pictures, upscale, tmp_path):
    with pytest.raises(errors.InputTruncated, match=r"00003\.png is missing between 00002\.png and 00004\.png"):
        upscale(pictures([1, 2, 4]), tmp_path / "out.mkv")


def test_a_pattern_that_names_nothing_is_not_found(upscale, tmp_path):
    with pytest.raises(errors.InputNotFound, match="no file that"):
        upscale(tmp_path / "%05d.png", tmp_path / "out.mkv")


def test_a_damaged_picture_is_the_one_before_again(pictures, upscale, tmp_path, reading):
    source = pictures(range(1, 6))
    broken = source.with_name("00003.png")
    broken.write_bytes(broken.read_bytes()[:40] + b"\0" * 200)
    report = upscale(source, tmp_path / "out.mkv", codec="ffv1")
    assert report.frames == 5
    assert report.findings.repeated_at == [0.08]
    shown = reading.frames(tmp_path / "out.mkv")
    assert np.array_equal(shown[2], shown[1])


def test_a_picture_of_another_size_ends_the_run_with_its_number(pictures, upscale, tmp_path):
    pictures([3], size=(60, 24))
    source = pictures([1, 2, 4])
    with pytest.raises(errors.DecodeError, match="changes to 60x24 rgb24 at frame 2"):
        upscale(source, tmp_path / "out.mkv", codec="ffv1")


def test_pictures_that_exist_are_not_replaced_unasked(pictures, upscale, tmp_path):
    source = pictures(range(1, 4))
    target = pictures([2], folder="out")
    before = target.with_name("00002.png").read_bytes()
    with pytest.raises(errors.OutputExists, match=r"00002\.png exists already"):
        upscale(source, target)
    assert target.with_name("00002.png").read_bytes() == before
    upscale(source, target, overwrite=True)
    assert sorted(p.name for p in target.parent.iterdir()) == ["00001.png", "00002.png", "00003.png"]


def test_pictures_are_never_written_over_the_input(pictures, upscale):
    source = pictures(range(1, 4))
    with pytest.raises(errors.OutputIsInput):
        upscale(source, source, overwrite=True)


def test_a_stopped_run_keeps_what_it_has_under_partial_names(pictures, upscale, tmp_path):
    source = pictures(range(1, 4))
    source.with_name("00003.png").write_bytes(b"no picture")
    (tmp_path / "out").mkdir()
    with pytest.raises(errors.DecodeError, match=r"%05d\.partial\.png"):
        upscale(source, tmp_path / "out" / "%05d.png", strict=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["00001.partial.png", "00002.partial.png"]


def test_a_folder_with_a_percent_sign_is_just_a_folder(pictures, upscale, tmp_path):
    source = pictures(range(1, 4), folder="100% %d")
    assert upscale(source, tmp_path / "out.mkv").frames == 3


def test_a_rate_is_for_pictures_only_and_must_be_one(clip, upscale, tmp_path):
    with pytest.raises(errors.UsageError, match="image sequence"):
        upscale(clip(frames=2), tmp_path / "out.mkv", frame_rate=24)
    for wrong in ("fast", 0, "1/0", float("inf")):
        with pytest.raises(errors.UsageError, match="no frame rate"):
            upscale(clip(frames=2), tmp_path / "out.mkv", frame_rate=wrong)


def test_a_single_picture_is_asked_for_as_a_sequence(clip, upscale, tmp_path):
    with pytest.raises(errors.ContainerUnsupported, match="numbered pictures"):
        upscale(clip(frames=2), tmp_path / "out.png")


@pytest.mark.parametrize(
    ("name", "number", "file"),
    [
        ("%05d.png", 12, "00012.png"),
        ("a-%d.png", 12, "a-12.png"),
        ("%3d.png", 5, "5.png"),
        ("x%03dy.png", 1234, "x1234y.png"),
    ],
)
def test_patterns_name_files_as_printf_does(tmp_path, name, number, file):
    sequence = ImageSequence.of(tmp_path / name)
    assert sequence.path(number) == tmp_path / file
    (tmp_path / file).write_bytes(b"x")
    assert sequence.numbers() == [number]


def test_a_file_of_that_very_name_is_a_file(tmp_path):
    (tmp_path / "%05d.png").write_bytes(b"x")
    assert ImageSequence.of(tmp_path / "%05d.png") is None
