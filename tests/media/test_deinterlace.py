"""Interlaced pictures come out whole, one for each that went in, beside what travels with them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.context import Flags
from av.filter import Graph
from av.packet import Packet

from rave_trio import errors
from rave_trio.media.deinterlace import Deinterlacer, supported
from rave_trio.media.picture import all_side_data

WIDTH, HEIGHT = 96, 64

CODECS = {"libx264": {"qp": "0"}, "mpeg2video": {"qscale": "1"}}


def moment(time: int) -> np.ndarray:
    """Grey bars at one moment: upright, so that all lines of a whole picture are equal."""
    row = 128 + 80 * np.sin((np.arange(WIDTH) - 3 * time) / 5)
    return np.repeat(row.astype(np.uint8)[None], HEIGHT, axis=0)


def woven(index: int, order: str) -> np.ndarray:
    """A picture of two fields: lines of two moments, ``tff`` with the top line of the earlier one, or ``bff``."""
    picture = moment(2 * index)
    late = 1 if order == "tff" else 0
    picture[late::2] = moment(2 * index + 1)[late::2]
    return picture


def flagged(frames: Sequence[av.VideoFrame], order: str) -> list[av.VideoFrame]:
    """The frames, marked as pairs of fields as a camera's would be."""
    graph = Graph()
    source = graph.add("buffer", video_size=f"{WIDTH}x{HEIGHT}", pix_fmt="yuv420p", time_base="1/25")
    sink = graph.add("buffersink")
    graph.link_nodes(source, graph.add("setfield", order), sink).configure()
    marked = []
    for frame in frames:
        source.push(frame)
        marked.append(sink.pull())
    return marked


def frames_of(pictures: Sequence[np.ndarray], pixel_format: str = "yuv420p") -> list[av.VideoFrame]:
    """Frames with these luma samples and grey chroma, one after the other."""
    frames = []
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame(WIDTH, HEIGHT, pixel_format)
        for plane in frame.planes[1:]:
            plane.update(bytes([128]) * plane.buffer_size)
        luma = np.zeros((HEIGHT, frame.planes[0].line_size), np.uint8)
        luma[:, :WIDTH] = picture
        frame.planes[0].update(luma.tobytes())
        frame.pts, frame.time_base = index, Fraction(1, 25)
        frames.append(frame)
    return frames


def encode(path: Path, codec: str, frames: Sequence[av.VideoFrame], *, interlaced: bool) -> list[Packet]:
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25, options=CODECS[codec])
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if interlaced:
            stream.codec_context.flags |= int(Flags.interlaced_dct) | int(Flags.interlaced_me)
        packets = [packet for frame in (*frames, None) for packet in stream.encode(frame)]
        out.mux(packets)
    return packets


def interlaced_clip(path: Path, codec: str, order: str, count: int = 6) -> list[av.VideoFrame]:
    """The decoded frames of a video of field pairs."""
    pictures = [woven(index, order) for index in range(count)]
    encode(path, codec, flagged(frames_of(pictures), order), interlaced=True)
    return read(path)


def progressive_clip(path: Path, codec: str, count: int = 6) -> list[av.VideoFrame]:
    encode(path, codec, frames_of([woven(index, "tff") for index in range(count)]), interlaced=False)
    return read(path)


def read(path: Path) -> list[av.VideoFrame]:
    with av.open(path) as source:
        return list(source.decode(video=0))


def through(deinterlacer: Deinterlacer, frames: Sequence[av.VideoFrame]) -> list[tuple[av.VideoFrame, int]]:
    """All that comes out when the frames go in, numbered."""
    done = []
    for index, frame in enumerate(frames):
        done += deinterlacer.push(frame, index)
    return done + deinterlacer.finish()


def samples(frame: av.VideoFrame) -> list[bytes]:
    return [bytes(plane) for plane in frame.planes]


def luma(frame: av.VideoFrame) -> np.ndarray:
    plane = frame.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(HEIGHT, plane.line_size)[:, :WIDTH].astype(int)


def combing(picture: np.ndarray) -> float:
    """How far lines are from the mean of their neighbours, on average."""
    return float(np.abs(picture[1:-1] - (picture[:-2] + picture[2:]) / 2).mean())


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("order", ["tff", "bff"])
@pytest.mark.parametrize("codec", CODECS)
def test_interlaced_pictures_lose_their_combs(tmp_path, codec, order, everything):
    frames = interlaced_clip(tmp_path / "in.mkv", codec, order)
    assert all(frame.interlaced_frame for frame in frames)
    assert min(combing(luma(frame)) for frame in frames) > 25
    done = through(Deinterlacer(everything), frames)
    assert max(combing(luma(frame)) for frame, _ in done) < 0.5
    assert not any(frame.interlaced_frame for frame, _ in done)


@pytest.mark.parametrize("order", ["tff", "bff"])
@pytest.mark.parametrize("codec", CODECS)
def test_a_picture_is_of_the_time_of_its_first_field(tmp_path, codec, order):
    frames = interlaced_clip(tmp_path / "in.mkv", codec, order)
    kept = slice(0 if order == "tff" else 1, None, 2)
    first_fields = [luma(frame)[kept] for frame in frames]
    done = through(Deinterlacer(everything=False), frames)
    for index, (frame, _) in enumerate(done):
        assert np.array_equal(luma(frame)[kept], first_fields[index])
        assert np.abs(luma(frame) - moment(2 * index)).mean() < 2


@pytest.mark.parametrize("codec", CODECS)
def test_pictures_that_are_not_flagged_keep_every_sample(tmp_path, codec):
    frames = progressive_clip(tmp_path / "in.mkv", codec)
    before = [samples(frame) for frame in frames]
    done = through(Deinterlacer(everything=False), frames)
    assert [samples(frame) for frame, _ in done] == before


def test_everything_means_pictures_without_a_flag_too(tmp_path):
    frames = progressive_clip(tmp_path / "in.mkv", "libx264")
    done = through(Deinterlacer(everything=True), frames)
    assert max(combing(luma(frame)) for frame, _ in done) < 0.5


def test_in_a_mixed_video_only_the_flagged_pictures_change(tmp_path):
    interlaced = interlaced_clip(tmp_path / "a.mkv", "libx264", "tff", 3)
    frames = interlaced + progressive_clip(tmp_path / "b.mkv", "libx264", 3)
    before = [samples(frame) for frame in frames]
    after = [samples(frame) for frame, _ in through(Deinterlacer(everything=False), frames)]
    assert [a == b for a, b in zip(after, before, strict=True)] == [False] * 3 + [True] * 3


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_as_many_come_out_as_went_in_and_in_order(everything, count):
    frames = flagged(frames_of([woven(index, "tff") for index in range(count)]), "tff")
    done = through(Deinterlacer(everything), frames)
    assert [envelope for _, envelope in done] == list(range(count))
    for frame, index in done:
        assert np.abs(luma(frame) - moment(2 * index)).mean() < 8  # without neighbours, a picture is of its one field


def test_pictures_come_out_one_behind_with_what_went_in_beside_them():
    deinterlacer: Deinterlacer[str] = Deinterlacer(everything=True)
    first, second = frames_of([woven(0, "tff"), woven(1, "tff")])
    assert deinterlacer.push(first, "first") == []
    assert [envelope for _, envelope in deinterlacer.push(second, "second")] == ["first"]
    assert [envelope for _, envelope in deinterlacer.finish()] == ["second"]


@pytest.mark.parametrize("times", [[7, 3, 3, None, 2**40], [None] * 5, [0, 1, 1000, 1001, 1002]])
def test_times_of_any_kind_stay_with_their_pictures(times):
    frames = frames_of([woven(index, "tff") for index in range(5)])
    for index, frame in enumerate(frames):
        frame.pts, frame.time_base, frame.duration = times[index], Fraction(1, 90000), 100 + index
    done = through(Deinterlacer(everything=True), frames)
    assert [(frame.pts, frame.duration, frame.time_base) for frame, _ in done] == [
        (time, 100 + index, Fraction(1, 90000)) for index, time in enumerate(times)
    ]
    assert [np.abs(luma(frame) - moment(2 * index)).mean() < 8 for frame, index in done] == [True] * 5


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "gray", "yuv444p", "gbrp", "yuva420p"])
@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("tags", [(2, 0, 2, 2), (1, 1, 1, 1), (9, 2, 9, 16), (6, 1, 6, 6)])
def test_colour_tags_and_the_format_stay_as_they_are(pixel_format, everything, tags):
    frames = frames_of([moment(index) for index in range(3)], pixel_format)
    for frame in frames:
        frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = tags
    before = [samples(frame) for frame in frames]
    done = [frame for frame, _ in through(Deinterlacer(everything), frames)]
    for frame in done:
        assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == tags
        assert (frame.format.name, frame.width, frame.height) == (pixel_format, WIDTH, HEIGHT)
    if not everything:
        assert [samples(frame) for frame in done] == before


def test_colour_tags_may_change_within_a_video():
    frames = frames_of([moment(index) for index in range(4)])
    before = [samples(frame) for frame in frames]
    for index, frame in enumerate(frames):
        frame.colorspace, frame.color_range = (1, 1) if index < 2 else (9, 2)
    done = [frame for frame, _ in through(Deinterlacer(everything=False), frames)]
    assert [(frame.colorspace, frame.color_range) for frame in done] == [(1, 1), (1, 1), (9, 2), (9, 2)]
    assert [samples(frame) for frame in done] == before


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_deep_samples_are_deinterlaced_too(order):
    frames = [
        frame.reformat(format="yuv422p10le")
        for frame in flagged(frames_of([woven(index, order) for index in range(4)]), order)
    ]
    done = through(Deinterlacer(everything=True), frames)
    assert {frame.format.name for frame, _ in done} == {"yuv422p10le"}
    for frame, _ in done:
        assert combing(frame.reformat(format="gray").to_ndarray().astype(int)) < 1


def with_captions(packet: Packet, number: int) -> Packet:
    """An MPEG-2 picture with a closed caption pair (ATSC A/53 part 4, 6.2.3) before its first slice."""
    caption = bytes([0x00, 0x00, 0x01, 0xB2]) + b"GA94" + bytes([3, 0x41, 0xFF, 0xFC, 0x80, number, 0xFF])
    data = bytes(packet)
    slices = data.index(b"\x00\x00\x01\x01")
    made = Packet(data[:slices] + caption + data[slices:])
    made.pts, made.dts, made.time_base = packet.pts, packet.dts, packet.time_base
    return made


def captions(frame: av.VideoFrame) -> list[bytes]:
    return [bytes(data) for data in all_side_data(frame) or () if data.type.name == "A53_CC"]


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("order", ["tff", "bff"])
def test_closed_captions_stay_with_their_pictures(tmp_path, order, everything):
    pictures = flagged(frames_of([woven(index, order) for index in range(6)]), order)
    packets = encode(tmp_path / "in.mkv", "mpeg2video", pictures, interlaced=True)
    decoder = av.VideoCodecContext.create("mpeg2video", "r")
    frames = [
        frame for number, packet in enumerate(packets) for frame in decoder.decode(with_captions(packet, 0x41 + number))
    ]
    frames += decoder.decode(None)
    before = [captions(frame) for frame in frames]
    assert sorted(before) == [[bytes([0xFC, 0x80, 0x41 + number])] for number in range(6)]
    assert [captions(frame) for frame, _ in through(Deinterlacer(everything), frames)] == before


def test_key_frames_stay_key_frames(tmp_path):
    frames = interlaced_clip(tmp_path / "in.mkv", "libx264", "tff")
    before = [frame.key_frame for frame in frames]
    assert before == [True] + [False] * 5
    assert [frame.key_frame for frame, _ in through(Deinterlacer(everything=True), frames)] == before


@pytest.mark.parametrize(
    "name", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p12le", "gray", "gbrp"]
)
def test_planar_formats_are_supported(name):
    assert supported(name)


@pytest.mark.parametrize(
    "name", ["nv12", "uyvy422", "rgb24", "p010le", "pal8", "gbrpf32le", "gray10le", "cuda", "none"]
)
def test_other_formats_are_not(name):
    assert not supported(name)


def test_an_unsupported_format_is_refused_by_name():
    with pytest.raises(errors.InputFormatUnsupported, match="pictures in nv12 cannot be deinterlaced"):
        Deinterlacer(everything=False).push(av.VideoFrame(64, 48, "nv12"), None)


def test_a_picture_too_small_for_fields_is_refused():
    with pytest.raises(errors.InputFormatUnsupported, match="64x2 yuv420p cannot be deinterlaced"):
        Deinterlacer(everything=False).push(av.VideoFrame(64, 2, "yuv420p"), None)
