"""What the user may ask of the picture, and what the picture says of itself: format, alpha, scan, streams, HDR."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.filter import Graph

import rave_trio
from rave_trio import errors
from rave_trio.media.probe import probe


@pytest.fixture
def upscale(nearest_x2, tmp_path):
    def run(source, name="out.mkv", **options):
        return rave_trio.upscale_sync(source, tmp_path / name, model=str(nearest_x2), **options)

    return run


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [("libx264", "yuv420p"), ("libx264", "yuv422p10le"), ("libx264", "yuv444p"), ("ffv1", "gray"), ("ffv1", "bgr0")],
)
def test_the_pixel_format_can_be_chosen(clip, upscale, tmp_path, codec, pixels):
    upscale(clip(frames=2), codec=codec, pixel_format=pixels)
    with av.open(tmp_path / "out.mkv") as result:
        assert result.streams.video[0].pix_fmt == pixels


def test_a_pixel_format_that_the_encoder_lacks_is_refused_with_those_it_has(clip, upscale):
    with pytest.raises(errors.UsageError, match="libx264 has no pixel format 'yuv420p12le'") as caught:
        upscale(clip(frames=2), pixel_format="yuv420p12le")
    assert "yuv420p10le" in caught.value.remedy


def transparent(path, codec="png", frames=3):
    """Left half opaque red, right half transparent green."""
    array = np.zeros((32, 48, 4), np.uint8)
    array[:, :24] = (255, 0, 0, 255)
    array[:, 24:] = (0, 255, 0, 0)
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "rgba" if codec == "png" else "yuva420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(array, "rgba").reformat(format=stream.pix_fmt)
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_transparent_pictures_are_refused_and_say_what_to_do(upscale, tmp_path):
    with pytest.raises(errors.InputFormatUnsupported, match="alpha channel") as caught:
        upscale(transparent(tmp_path / "in.mov"))
    assert "--background" in caught.value.remedy


@pytest.mark.parametrize(
    ("background", "expected"),
    [("black", (0, 0, 0)), ("white", (255, 255, 255)), ("grey", (128, 128, 128)), ("#2040c0", (32, 64, 192))],
)
def test_transparent_pictures_are_laid_on_a_colour(upscale, tmp_path, reading, background, expected):
    (tmp_path / "out").mkdir()
    upscale(transparent(tmp_path / "in.mov"), "out/%d.png", background=background, precision="fp32")
    shown = reading.frames(tmp_path / "out" / "1.png")[0].astype(int)
    assert np.abs(shown[10, 20] - (255, 0, 0)).max() <= 1
    assert np.abs(shown[10, 80] - expected).max() <= 1


def test_a_colour_that_is_none_is_a_usage_error(upscale, tmp_path, clip):
    for source in (transparent(tmp_path / "in.mov"), clip(frames=2)):
        with pytest.raises(errors.UsageError, match="no colour 'plaid'"):
            upscale(source, background="plaid")


def test_a_gif_comes_out_with_its_times(upscale, tmp_path, reading):
    source = tmp_path / "in.gif"
    with av.open(source, "w") as out:
        stream = out.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "rgb8"
        for index, at in enumerate((0, 1, 3, 7)):
            frame = av.VideoFrame.from_ndarray(reading.draw(index, 48, 32), "rgb24").reformat(format="rgb8")
            frame.pts, frame.time_base = at, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    report = upscale(source, "out.mp4", background="white")
    assert report.frames == 4
    assert reading.times(tmp_path / "out.mp4") == reading.times(source)


@pytest.fixture
def interlaced(tmp_path):
    """A bar that moves between the fields of every frame, coded as fields, top field first."""

    def make(name="in.mkv", frames=12, flagged=True):
        flags = Graph()
        source = flags.add("buffer", video_size="64x48", pix_fmt="yuv420p", time_base="1/25", pixel_aspect="1/1")
        marked = flags.add("setfield", "tff" if flagged else "prog")
        flags.link_nodes(source, marked, flags.add("buffersink")).configure()
        with av.open(tmp_path / name, "w") as out:
            options = {"qmin": "1", "b": "4M", **({"flags": "+ilme+ildct"} if flagged else {})}
            stream = out.add_stream("mpeg2video", rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for index in range(frames):
                grey = np.full((48, 64), 40, np.uint8)
                for field in (0, 1):
                    left = 4 + 4 * index + 2 * field
                    grey[field::2, left : left + 8] = 220
                frame = av.VideoFrame.from_ndarray(grey, "gray").reformat(format="yuv420p")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                source.push(frame)
                out.mux(stream.encode(flags.pull()))
            out.mux(stream.encode(None))
        return tmp_path / name

    return make


def combing(path):
    """How much lines differ from the mean of their neighbours, on average over a file of doubled lines."""
    found = []
    with av.open(path) as source:
        for frame in list(source.decode(video=0))[2:-2]:
            luma = frame.to_ndarray(format="gray").astype(float)[::2]
            found.append(np.abs(luma[1:-1] - (luma[:-2] + luma[2:]) / 2).mean())
    return np.mean(found)


def test_frames_that_are_flagged_interlaced_are_deinterlaced_unasked(interlaced, upscale, tmp_path, reading):
    source = interlaced()
    assert probe(source).video.interlaced
    report = upscale(source)
    assert report.frames == 12
    assert report.findings.interlaced_frames == 12
    assert any("flagged interlaced" in note for note in report.plan.notes)
    assert "12 interlaced frames were deinterlaced" in report.notes
    assert reading.times(tmp_path / "out.mkv") == reading.times(source)
    left = upscale(source, "left.mkv", deinterlace="off")
    assert "12 interlaced frames were left as they are" in left.notes
    assert combing(tmp_path / "out.mkv") < combing(tmp_path / "left.mkv") / 4
    assert rave_trio.compare(source, tmp_path / "out.mkv").same


def test_frames_without_a_flag_are_left_alone_unless_told(interlaced, upscale, tmp_path):
    source = interlaced(flagged=False)
    report = upscale(source)
    assert report.findings.interlaced_frames == 0
    told = upscale(source, "told.mkv", deinterlace="bwdif")
    assert told.frames == 12
    assert combing(tmp_path / "told.mkv") < combing(tmp_path / "out.mkv") / 4


def test_a_format_that_cannot_be_deinterlaced_is_refused_when_asked_for(clip, upscale):
    source = clip("in.mov", frames=3, codec="rawvideo", pixel_format="uyvy422")
    with pytest.raises(errors.InputFormatUnsupported, match="64x48 uyvy422, which cannot be deinterlaced"):
        upscale(source, deinterlace="bwdif")


def test_the_stream_to_upscale_can_be_chosen_and_the_other_is_copied(made, upscale, tmp_path):
    source = made("further_video")
    upscale(source, video_stream=1)
    with av.open(tmp_path / "out.mkv") as result:
        sizes = [(stream.width, stream.height) for stream in result.streams.video]
        assert sizes == [(64, 48), (64, 64)]
    assert rave_trio.compare(source, tmp_path / "out.mkv", video_stream=1).same
    for wrong in (2, 7):
        with pytest.raises(errors.UsageError, match="is not video"):
            upscale(source, "other.mkv", video_stream=wrong)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_hdr_metadata_goes_into_every_encoder_that_can_hold_it(made, upscale, tmp_path, codec, container):
    report = upscale(made("hdr"), f"out.{container}", codec=codec, preset="12" if codec == "libsvtav1" else "ultrafast")
    assert rave_trio.compare(made("hdr"), tmp_path / f"out.{container}").differences == ()
    assert any("HDR (PQ)" in note and "SDR" in note for note in report.plan.notes)


def test_hdr_is_encoded_as_hevc_unless_asked_otherwise_and_apple_can_play_it(made, upscale, tmp_path):
    report = upscale(made("hdr"), "out.mp4")
    assert report.plan.encoder.encoder == "libx265"
    with av.open(tmp_path / "out.mp4") as result:
        assert result.streams.video[0].codec_context.codec_tag == "hvc1"
    assert rave_trio.compare(made("hdr"), tmp_path / "out.mp4").same


def test_an_encoder_that_cannot_hold_hdr_metadata_says_so(made, upscale):
    report = upscale(made("hdr"), codec="ffv1")
    assert any("mastering display" in note for note in report.plan.notes)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_captions_stay_with_their_frames(made, upscale, tmp_path, codec):
    upscale(made("captions"), codec=codec, preset="ultrafast")
    assert rave_trio.compare(made("captions"), tmp_path / "out.mkv").same


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1"])
@pytest.mark.parametrize("siting", ["left", "center", "topleft", "top"])
def test_the_chroma_location_is_kept(clip, upscale, tmp_path, codec, siting):
    source = clip(frames=2, options={"chroma_sample_location": siting})
    upscale(source, codec=codec)
    before, after = probe(source).video.surface.color, probe(tmp_path / "out.mkv").video.surface.color
    assert before.chroma_location == after.chroma_location != 0


def test_a_sample_aspect_ratio_that_av1_cannot_hold_is_refused_where_the_container_cannot_either(made, upscale):
    with pytest.raises(errors.ContainerRejectsStream, match="sample aspect ratio 16/11"):
        upscale(made("sample_aspect"), codec="libsvtav1", preset="12")
    report = upscale(made("sample_aspect"), "out.mp4", codec="libsvtav1", preset="12")
    assert rave_trio.compare(made("sample_aspect"), report.output).same


def joined(first, second, target):
    target.write_bytes(first.read_bytes() + second.read_bytes())
    return target


def test_a_change_of_size_ends_the_run_and_names_the_frame(clip, upscale, tmp_path):
    source = joined(clip("a.ts", frames=10), clip("b.ts", frames=10, width=96), tmp_path / "in.ts")
    with pytest.raises(errors.DecodeError, match="changes to 96x48 yuv420p at frame 10; it began as 64x48") as caught:
        upscale(source)
    assert "split the input" in caught.value.remedy


def test_a_change_of_pixel_format_ends_the_run_and_names_the_frame(clip, upscale, tmp_path):
    source = joined(clip("a.ts", frames=10), clip("b.ts", frames=10, pixel_format="yuv422p"), tmp_path / "in.ts")
    with pytest.raises(errors.DecodeError, match="changes to 64x48 yuv422p at frame 10"):
        upscale(source)


def test_a_change_of_sample_aspect_ends_the_run_and_names_the_frame(clip, upscale, tmp_path):
    wide = {"sample_aspect_ratio": Fraction(4, 3)}
    source = joined(clip("a.ts", frames=10), clip("b.ts", frames=10, tags=wide), tmp_path / "in.ts")
    with pytest.raises(errors.DecodeError, match="aspect ratio changes from 1 to 4/3 at frame 10"):
        upscale(source)


def planes_of(path):
    with av.open(path) as result:
        frames = [frame.to_ndarray().astype(int) for frame in result.decode(video=0)]
    return np.stack(frames)


def test_eight_bits_are_dithered_where_that_is_asked_for(clip, upscale, tmp_path):
    plain = upscale(clip(frames=2), "plain.mkv", codec="ffv1", pixel_format="yuv420p")
    dithered = upscale(clip(frames=2), "dithered.mkv", codec="ffv1", pixel_format="yuv420p", dither=True)
    again = upscale(clip(frames=2), "again.mkv", codec="ffv1", pixel_format="yuv420p", dither=True)
    assert (plain.plan.dither, dithered.plan.dither) == (False, True)
    assert dithered.plan.as_dict()["output"]["dither"] is True
    difference = planes_of(dithered.output) - planes_of(plain.output)
    assert set(np.unique(difference)) == {-1, 0, 1}
    assert (planes_of(again.output) == planes_of(dithered.output)).all()


def test_more_than_eight_bits_are_not_dithered_and_the_plan_says_so(clip, upscale):
    report = upscale(clip(frames=2), codec="ffv1", pixel_format="yuv420p10le", dither=True)
    assert not report.plan.dither
    assert "not dithered: yuv420p10le has 10 bits, which show no steps" in report.plan.notes
