"""Text subtitles change their codec with the container and keep what they say, and when."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import attrs
import av
import numpy as np
import pytest
from av.packet import Packet

from rave_trio import errors
from rave_trio.media.subtitles import SubtitleConverter, converted_codec, lossy

SECOND = 1000
"""In Matroska's time base."""

ASS = """[Script Info]
ScriptType: v4.00+
PlayResX: 640
PlayResY: 360

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,20,&H00FFFFFF,&H000000FF,&H00000000,&H00000000,0,0,0,0,100,100,0,0,1,2,2,2,10,10,10,1
Style: Thought,Times,24,&H0000FFFF,&H000000FF,&H00000000,&H00000000,0,-1,0,0,100,100,0,0,1,2,2,8,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


@attrs.frozen
class Shown:
    """One text as read back: seconds, and libav's ASS without its first fields."""

    start: Fraction
    end: Fraction
    ass: str

    @property
    def text(self) -> str:
        return "".join(part.split("}", 1)[-1] for part in self.ass.split("{")).replace("\\N", "\n")


def cue(start: float, end: float, text: str) -> Shown:
    return Shown(Fraction(round(start * SECOND), SECOND), Fraction(round(end * SECOND), SECOND), text)


def read_texts(path: Path) -> list[Shown]:
    """Every text that a player finds in the file's subtitle stream, without MP4's fillers of gaps."""
    found = []
    with av.open(path) as source:
        for packet in source.demux(subtitles=0):
            texts = [] if packet.pts is None else packet.decode()
            start = None if packet.pts is None else packet.pts * packet.time_base
            for rect in texts:
                end = start + (packet.duration or 0) * packet.time_base
                found.append(Shown(start, end, rect.ass.decode().split(",", 8)[8]))
    return found


def spoken(shown: Sequence[Shown]) -> list[tuple[float, float, str]]:
    return [(float(one.start), float(one.end), one.text) for one in shown]


def text_in_matroska(path: Path, cues: Sequence[tuple[int, int | None, str | bytes]], codec: str = "subrip") -> Path:
    """A stream of cues (start, end, text) in milliseconds, packet by packet; no end means no duration."""
    with av.open(path, "w") as out:
        stream = out.add_mux_stream(codec)
        stream.time_base = Fraction(1, SECOND)
        for start, end, text in cues:
            packet = Packet(text if isinstance(text, bytes) else text.encode())
            packet.stream, packet.time_base = stream, Fraction(1, SECOND)
            packet.pts = packet.dts = start
            packet.duration = 0 if end is None else end - start
            out.mux(packet)
    return path


def script_in_matroska(path: Path, script: str, format: str) -> Path:
    """A subtitle file, read by libav and put into Matroska."""
    with av.open(io.BytesIO(script.encode()), format=format) as source, av.open(path, "w") as out:
        stream = out.add_stream_from_template(source.streams.subtitles[0])
        for packet in source.demux():
            if packet.pts is not None:
                packet.stream = stream
                out.mux(packet)
    return path


def converted(
    source: Path, target: Path, *, height: int | None = None, video_rate: int | None = None, seconds: int = 0
) -> Path:
    """The file's subtitles in the codec of the other container, beside a video of ``seconds`` if a rate is given."""
    muxer = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov", ".webm": "webm"}[target.suffix]
    with av.open(source) as given, av.open(target, "w", format=muxer) as out:
        subtitles = given.streams.subtitles[0]
        codec = converted_codec(subtitles.codec_context.codec.canonical_name, muxer)
        assert codec is not None
        video = out.add_stream("libx264", rate=video_rate, options={"preset": "ultrafast"}) if video_rate else None
        converter = SubtitleConverter(subtitles, out, codec, height=height)
        if video is not None:
            video.width, video.height = 32, 32
        waiting = list(given.demux(subtitles))
        for index in range(seconds * (video_rate or 0)):
            now = Fraction(index, video_rate or 1)
            while waiting and (waiting[0].pts is None or waiting[0].pts * waiting[0].time_base <= now):
                out.mux(converter.convert(waiting.pop(0)))
            out.mux(converter.advance(now))
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, video_rate or 1)
            out.mux(video.encode(frame))
        for packet in waiting:
            out.mux(converter.convert(packet))
        out.mux(converter.finish())
        if video is not None:
            out.mux(video.encode(None))
    return target


SRT = """1
00:00:00,000 --> 00:00:01,501
From the very beginning

2
00:00:01,501 --> 00:00:04,007
<i>Two lines</i>,
the second <b>bold</b>

3
00:00:04,500 --> 00:00:06,000
Größe, žluťoučký, 日本語, مرحبا, 🎬

4
00:59:59,999 --> 01:00:03,000
After a long gap
"""

SRT_SPOKEN = [
    (0.0, 1.501, "From the very beginning"),
    (1.501, 4.007, "Two lines,\nthe second bold"),
    (4.5, 6.0, "Größe, žluťoučký, 日本語, مرحبا, 🎬"),
    (3599.999, 3603.0, "After a long gap"),
]


@pytest.mark.parametrize("extension", ["mp4", "mov"])
def test_subrip_goes_through_mp4_and_back_with_texts_and_times_unchanged(tmp_path, extension):
    first = script_in_matroska(tmp_path / "first.mkv", SRT, "srt")
    assert spoken(read_texts(first)) == SRT_SPOKEN
    there = converted(first, tmp_path / f"there.{extension}")
    assert spoken(read_texts(there)) == SRT_SPOKEN
    back = converted(there, tmp_path / "back.mkv")
    assert read_texts(back) == read_texts(first)
    with av.open(back) as result:
        assert result.streams.subtitles[0].codec_context.codec.canonical_name == "subrip"


def test_italics_bold_and_line_breaks_survive_the_way_there_and_back(tmp_path):
    first = script_in_matroska(tmp_path / "first.mkv", SRT, "srt")
    back = converted(converted(first, tmp_path / "there.mp4"), tmp_path / "back.mkv")
    with av.open(back) as result:
        written = [bytes(packet).decode() for packet in result.demux() if packet.pts is not None]
    assert written[1] == "<i>Two lines</i>,\nthe second <b>bold</b>"


def test_beside_a_video_every_text_keeps_its_time(tmp_path):
    cues = [(0, 400, "a"), (400, 900, "b"), (900, 1600, "c"), (2000, 2500, "d")]
    first = text_in_matroska(tmp_path / "first.mkv", cues)
    result = converted(first, tmp_path / "there.mp4", video_rate=25, seconds=8)
    assert spoken(read_texts(result)) == [(start / SECOND, end / SECOND, text) for start, end, text in cues]


def test_texts_that_follow_at_once_have_no_empty_sample_between_them(tmp_path):
    first = text_in_matroska(tmp_path / "first.mkv", [(0, 400, "a"), (400, 900, "b"), (900, 1600, "c")])
    result = converted(first, tmp_path / "there.mp4", video_rate=25, seconds=5)
    with av.open(result) as found:
        samples = [bytes(packet) for packet in found.demux(subtitles=0) if packet.pts is not None]
    assert [sample[2:] for sample in samples] == [b"a", b"b", b"c"]


def test_packets_keep_the_times_and_the_time_base_of_the_source(tmp_path):
    first = converted(script_in_matroska(tmp_path / "first.mkv", SRT, "srt"), tmp_path / "there.mp4")
    with av.open(first) as source, av.open(io.BytesIO(), "w", format="matroska") as out:
        converter = SubtitleConverter(source.streams.subtitles[0], out, "subrip")
        for packet in source.demux():
            for made in converter.convert(packet):
                assert (made.pts, made.dts, made.duration) == (packet.pts, packet.dts, packet.duration)
                assert made.time_base == packet.time_base == source.streams.subtitles[0].time_base
        assert converter.finish() == []


def test_ass_becomes_text_with_its_emphasis_and_both_lines(tmp_path):
    script = ASS + (
        "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,One, with a comma\\Nand {\\b1}two{\\b0}\n"
        "Dialogue: 0,0:00:03.00,0:00:04.00,Thought,,0,0,0,,A thought{nobody reads this}\n"
        "Dialogue: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,{\\pos(10,20)\\fad(100,100)}Placed\\hhere\n"
        "Dialogue: 0,0:00:07.00,0:00:08.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100{\\p0}\n"
        "Dialogue: 0,0:00:09.00,0:00:10.00,Default,,0,0,0,,{\\k20}ka{\\k30}ra{\\k20}o{\\k20}ke\n"
    )
    result = converted(script_in_matroska(tmp_path / "first.mkv", script, "ass"), tmp_path / "there.mp4")
    shown = read_texts(result)
    assert spoken(shown) == [
        (1.0, 2.0, "One, with a comma\nand two"),
        (3.0, 4.0, "A thought"),
        (5.0, 6.0, "Placed\N{NO-BREAK SPACE}here"),
        (9.0, 10.0, "karaoke"),
    ]
    assert "{\\b1}two" in shown[0].ass
    assert "{\\i1}" in shown[1].ass


def test_overlapping_texts_are_shown_together_while_they_overlap(tmp_path):
    first = text_in_matroska(
        tmp_path / "first.mkv", [(0, 5000, "long"), (3000, 6000, "<i>late</i>"), (8000, 9000, "x")]
    )
    shown = read_texts(converted(first, tmp_path / "there.mp4"))
    assert spoken(shown) == [(0.0, 3.0, "long"), (3.0, 5.0, "long\nlate"), (5.0, 6.0, "late"), (8.0, 9.0, "x")]
    assert shown[1].ass.startswith("long\\N{\\i1}late")


def test_a_text_within_another_interrupts_it_only_for_its_time(tmp_path):
    first = text_in_matroska(tmp_path / "first.mkv", [(0, 9000, "sign"), (2000, 3000, "word"), (2000, 3000, "other")])
    assert spoken(read_texts(converted(first, tmp_path / "there.mp4"))) == [
        (0.0, 2.0, "sign"),
        (2.0, 3.0, "sign\nword\nother"),
        (3.0, 9.0, "sign"),
    ]


def test_layers_of_the_same_text_are_shown_once(tmp_path):
    script = ASS + (
        "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\blur3}Title\n"
        "Dialogue: 1,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\bord0}Title\n"
    )
    result = converted(script_in_matroska(tmp_path / "first.mkv", script, "ass"), tmp_path / "there.mp4")
    assert spoken(read_texts(result)) == [(1.0, 2.0, "Title")]


def test_each_of_two_styles_keeps_its_emphasis_when_they_are_shown_together(tmp_path):
    script = ASS + (
        "Dialogue: 0,0:00:01.00,0:00:03.00,Thought,,0,0,0,,slanted\n"
        "Dialogue: 0,0:00:01.00,0:00:03.00,Default,,0,0,0,,upright\n"
    )
    result = converted(script_in_matroska(tmp_path / "first.mkv", script, "ass"), tmp_path / "there.mp4")
    (shown,) = read_texts(result)
    assert shown.text == "slanted\nupright"
    slanted, upright = shown.ass.split("upright")[0].split("\\N")
    assert "\\i1" in slanted
    assert "{\\r}" in slanted + upright


def test_a_text_out_of_order_is_shown_late_but_shown(tmp_path):
    first = text_in_matroska(tmp_path / "first.mkv", [(4000, 5000, "a"), (4500, 4900, "b"), (6000, 6500, "early")])
    with av.open(first) as source, av.open(tmp_path / "there.mp4", "w") as out:
        converter = SubtitleConverter(source.streams.subtitles[0], out, "mov_text")
        for packet in source.demux():
            if packet.pts == 6000:
                packet.pts = packet.dts = 2000
            out.mux(converter.convert(packet))
        out.mux(converter.finish())
    assert spoken(read_texts(tmp_path / "there.mp4")) == [
        (4.0, 4.5, "a"),
        (4.5, 4.9, "a\nb\nearly"),
        (4.9, 5.0, "a\nearly"),
    ]


def test_a_text_without_a_duration_lasts_until_the_next_and_the_last_for_five_seconds(tmp_path):
    first = text_in_matroska(tmp_path / "first.mkv", [(1000, None, "a"), (3000, None, "b")])
    assert spoken(read_texts(converted(first, tmp_path / "there.mp4"))) == [(1.0, 3.0, "a"), (3.0, 8.0, "b")]


def test_lines_behind_a_blank_line_are_kept(tmp_path):
    first = text_in_matroska(tmp_path / "first.mkv", [(0, 1000, "above\r\n\r\n<i>below</i>\r\n")])
    assert [shown.text for shown in read_texts(converted(first, tmp_path / "there.mp4"))] == ["above\n\nbelow"]


def test_texts_that_show_nothing_are_dropped(tmp_path):
    first = text_in_matroska(tmp_path / "first.mkv", [(0, 1000, "<i></i>"), (1000, 2000, " "), (2000, 3000, "seen")])
    assert spoken(read_texts(converted(first, tmp_path / "there.mp4"))) == [(2.0, 3.0, "seen")]


@pytest.mark.parametrize("extension", ["mp4", "webm"])
def test_braces_angle_brackets_and_ampersands_are_text(tmp_path, extension):
    first = text_in_matroska(tmp_path / "first.mkv", [(0, 1000, "{1 < 2} & 3 &amp; R&B")])
    result = converted(first, tmp_path / f"there.{extension}")
    (shown,) = read_texts(result)
    assert shown.ass.replace("\\{{}", "{") == "{1 < 2} & 3 &amp; R&B"


def test_subrip_and_mov_text_become_webvtt_in_webm(tmp_path):
    first = script_in_matroska(tmp_path / "first.mkv", SRT, "srt")
    there = converted(first, tmp_path / "there.mp4")
    for source in (first, there):
        result = converted(source, tmp_path / "result.webm")
        assert spoken(read_texts(result)) == SRT_SPOKEN
        assert "{\\i1}Two lines{\\i0}" in read_texts(result)[1].ass


def test_webvtt_becomes_mov_text(tmp_path):
    script = "WEBVTT\n\n00:01.000 --> 00:02.000 line:10%\n<v Ann>Hi &amp; <i>bye</i>\n"
    first = script_in_matroska(tmp_path / "first.mkv", script, "webvtt")
    (shown,) = read_texts(converted(first, tmp_path / "there.mp4"))
    assert (shown.text, shown.start, shown.end) == ("Hi & bye", 1, 2)


def test_the_font_that_an_mp4_states_is_not_repeated_in_every_text(tmp_path):
    script = ASS.replace("Arial,20", "Comic,33").replace("0,0,0,0,100", "-1,0,0,0,100", 1)
    script += "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,Word\n"
    there = converted(script_in_matroska(tmp_path / "first.mkv", script, "ass"), tmp_path / "there.mp4")
    with av.open(converted(there, tmp_path / "back.mkv")) as result:
        written = [bytes(packet).decode() for packet in result.demux() if packet.pts is not None]
    assert written == ["<b>Word</b>"]


def test_fonts_are_scaled_to_the_height_of_the_picture(tmp_path):
    first = script_in_matroska(tmp_path / "first.mkv", SRT, "srt")  # libav lays SubRip out on 288 lines, at size 16
    with av.open(converted(first, tmp_path / "there.mp4", height=1080)) as result:
        description = result.streams.subtitles[0].codec_context.extradata
    assert description is not None
    assert description[25] == 1080 * 16 // 288


def test_a_damaged_text_is_refused_and_the_next_one_converted(tmp_path):
    first = text_in_matroska(tmp_path / "first.mkv", [(1000, 2000, b"\xff\xfe\xfd"), (3000, 4000, "whole")])
    with av.open(first) as source, av.open(io.BytesIO(), "w", format="mp4") as out:
        converter = SubtitleConverter(source.streams.subtitles[0], out, "mov_text")
        damaged, whole, flush = source.demux()
        with pytest.raises(errors.DecodeError, match=r"subtitle stream #0 at 1\.00 s"):
            converter.convert(damaged)
        assert converter.convert(whole) == converter.convert(flush) == []
        (packet,) = converter.finish()
        assert b"whole" in bytes(packet)


def test_texts_come_out_soon_after_their_end_when_the_other_streams_go_on(tmp_path):
    first = text_in_matroska(tmp_path / "first.mkv", [(1000, 2000, "only")])
    with av.open(first) as source, av.open(io.BytesIO(), "w", format="mp4") as out:
        converter = SubtitleConverter(source.streams.subtitles[0], out, "mov_text")
        assert converter.convert(next(source.demux())) == []
        assert converter.advance(Fraction(2)) == []
        assert [packet.pts for packet in converter.advance(Fraction(5))] == [1000]
        assert converter.finish() == []


@pytest.mark.parametrize(
    ("codec", "muxer", "target"),
    [
        ("mov_text", "matroska", "subrip"),
        ("subrip", "matroska", None),
        ("ass", "matroska", None),
        ("subrip", "mp4", "mov_text"),
        ("ass", "mov", "mov_text"),
        ("webvtt", "mp4", "mov_text"),
        ("mov_text", "mp4", None),
        ("mov_text", "webm", "webvtt"),
        ("subrip", "webm", "webvtt"),
        ("webvtt", "webm", None),
        ("ass", "webm", None),
        ("hdmv_pgs_subtitle", "mp4", None),
    ],
)
def test_each_container_has_its_text_codec(codec, muxer, target):
    assert converted_codec(codec, muxer) == target


def test_what_a_viewer_loses_is_said():
    assert lossy("ass", "mov_text") == "positions, fonts and effects"
    assert lossy("subrip", "mov_text") is None
    assert lossy("mov_text", "subrip") is None
