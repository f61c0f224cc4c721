"""Two files compared: copies in which one thing is broken differ in that thing and no other."""

from __future__ import annotations

import json
import random
import struct
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.packet import Packet
from av.stream import Disposition

import rave_trio
from rave_trio import errors
from rave_trio.media import probe
from rave_trio.media._libav import demux
from rave_trio.media.compare.tracks import plain_text

INTRA = {"g": "1", "preset": "ultrafast"}
"""Every frame a key frame, so that any may be taken out."""

FONT = bytes(range(256))
CHAPTERS = [
    {"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}},
    {"id": 2, "start": 500, "end": 1000, "time_base": Fraction(1, 1000), "metadata": {"title": "Two"}},
]


def copy(
    source,
    target,
    *,
    stream=lambda stream: None,
    packet=lambda packet, number: packet,
    tags=None,
    chapters=None,
    streams=lambda streams: streams,
    attachments=(),
):
    """A copy of ``source``, its times untouched.

    ``stream`` may change a new stream and ``packet`` a packet, or drop it by returning None; ``streams`` chooses and
    orders; ``tags`` and ``attachments`` (name, type, bytes) are added, and ``chapters`` replace the source's.
    """
    options = {"avoid_negative_ts": "disabled"}
    if target.suffix != ".mkv":
        options["movie_timescale"] = "48000"  # or the starts of the streams are rounded to milliseconds
    with av.open(source) as before, av.open(target, "w", options=options) as after:
        after.metadata.update({**before.metadata, **(tags or {})})
        after.set_chapters(before.chapters() if chapters is None else chapters)
        for name, kind, data in attachments:
            after.add_attachment(name, kind, data)
        copies = {}
        for old in streams([old for old in before.streams if old.type != "data"]):
            new = after.add_stream_from_template(old, opaque=True)
            if old.type != "attachment":
                new.metadata.update(old.metadata)
                if "name" in old.metadata:  # as MP4 and MOV call a title that they are given
                    new.metadata["title"] = old.metadata["name"]
                new.disposition = old.disposition
                stream(new)
                copies[old.index] = new
        found = {index: [] for index in copies}
        for each in demux(before):
            if each.size and each.stream.index in found:
                found[each.stream.index].append(each)
        kept = []
        for index, packets in found.items():
            with_decode_times(packets)
            for each in filter(None, [packet(each, number) for number, each in enumerate(packets)]):
                each.stream = copies[index]
                kept.append(each)
        for each in sorted(kept, key=lambda each: each.dts * each.time_base):
            after.mux_one(each)
    return target


def with_decode_times(packets):
    """Matroska states none for the first packets of a stream that may be reordered."""
    for packet, following in reversed(list(zip(packets, [*packets[1:], None], strict=True))):
        if packet.dts is None:
            packet.dts = packet.pts if following is None else following.dts - packet.duration


@pytest.fixture(scope="module")
def film(session_clip):
    """Video, sound, a subtitle, a font, two chapters and a title."""
    return session_clip(
        "film.mkv",
        frames=25,
        options=INTRA,
        audio=True,
        subtitle="Bonjour",
        attachment=FONT,
        chapters=True,
        title="A film",
    )


@pytest.fixture
def altered(film, tmp_path):
    """Compare the film with a copy of it in which something is changed."""

    def compare(name="copy.mkv", **changes):
        return rave_trio.compare(film, copy(film, tmp_path / name, **changes))

    return compare


def named(comparison):
    return {difference.what: (difference.source, difference.result) for difference in comparison.differences}


def refilled(packet, data):
    """The packet with other bytes."""
    other = Packet(data)
    other.stream, other.time_base = packet.stream, packet.time_base
    other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
    other.is_keyframe = packet.is_keyframe
    return other


def only(kind, change):
    """``change`` for the streams of that kind."""
    return lambda stream: change(stream) if stream.type == kind else None


def of(kind, change):
    """``change`` for the packets of that kind of stream."""
    return lambda packet, number: change(packet, number) if packet.stream.type == kind else packet


def test_an_upscaled_clip_is_the_same_but_for_its_size(bunny, tmp_path, nearest_x2):
    target = tmp_path / "out.mkv"
    rave_trio.upscale_sync(bunny, target, model=str(nearest_x2), preset="ultrafast")
    comparison = rave_trio.compare(bunny, target)
    assert comparison.differences == ()
    assert comparison.same
    assert (comparison.scale, comparison.frames, comparison.largest_time_error) == (2, 96, 0)


def test_an_upscaled_film_has_everything_that_the_film_had(film, tmp_path, nearest_x2):
    target = tmp_path / "out.mkv"
    rave_trio.upscale_sync(film, target, model=str(nearest_x2), preset="ultrafast")
    assert rave_trio.compare(film, target).differences == ()


def test_a_file_is_the_same_as_itself_and_as_its_copy(film, altered):
    assert rave_trio.compare(film, film).same
    comparison = altered()
    assert comparison.differences == ()
    assert comparison.information == ()
    assert comparison.scale == 1


def test_what_was_found_can_be_written_as_json(altered):
    comparison = altered(tags={"title": "Another film"})
    written = json.loads(json.dumps(comparison.as_dict()))
    assert written["same"] is False
    assert written["differences"] == [{"what": "tag title", "source": "A film", "result": "Another film"}]


def test_a_lost_frame_is_counted_and_found(altered):
    comparison = altered(packet=of("video", lambda packet, number: None if number == 10 else packet))
    assert named(comparison) == {"video frames": (25, 24)}
    assert "video frame 10 is at 0.4 s in the source and at 0.44 s in the result" in comparison.information


def shifted(seconds, first=0):
    def shift(packet, number):
        if number >= first:
            packet.pts += int(seconds / packet.time_base)
            packet.dts = packet.pts
        return packet

    return shift


def test_a_frame_that_is_late_is_found(altered):
    late = of("video", lambda packet, number: shifted(Fraction(1, 100))(packet, number) if number == 7 else packet)
    comparison = altered(packet=late)
    assert named(comparison) == {
        "video frame times": ("0.28 s at frame 7", "0.29 s, the first of 1 that differ"),
    }
    assert comparison.largest_time_error == 0.01


def test_a_last_frame_that_is_shown_longer_is_found(altered):
    def longer(packet, number):
        if number == 24:
            packet.duration = 80
        return packet

    assert named(altered(packet=of("video", longer))) == {"video last frame's duration": ("0.04 s", "0.08 s")}


def test_sound_that_is_out_of_step_is_found(altered):
    comparison = altered(packet=of("audio", shifted(Fraction(50, 1000))))
    assert set(named(comparison)) == {"audio #1 times"}
    assert comparison.largest_time_error == 0.05


def test_sound_that_changed_is_found(altered):
    def silenced(packet, number):
        return packet if number != 20 else refilled(packet, bytes(packet.size))

    assert set(named(altered(packet=of("audio", silenced)))) == {"audio #1 payload"}


def test_lost_sound_is_found(altered):
    comparison = altered(packet=of("audio", lambda packet, number: packet if number < 30 else None))
    assert named(comparison) == {"audio #1 packets": (48, 30)}


def test_priming_before_time_0_may_be_missing(altered):
    comparison = altered(packet=of("audio", lambda packet, number: packet if number else None))
    assert comparison.differences == ()
    assert comparison.information == ("audio #1 packets of priming before time 0: 1 became 0",)


@pytest.mark.parametrize(
    ("kind", "key", "value", "difference"),
    [
        ("audio", "language", "swe", {"audio #1 language": ("nor", "swe")}),
        ("audio", "title", "Music", {"audio #1 title": ("Commentary", "Music")}),
        ("subtitle", "language", "deu", {"subtitle #2 language": ("fra", "deu")}),
        ("video", "comment", "Mine", {"video tag comment": (None, "Mine")}),
        ("video", "DURATION", "never", {}),
        ("subtitle", "language", "fre", {}),
        ("audio", "language", "und", {"audio #1 language": ("nor", None)}),
        ("audio", "handler_name", "SoundHandler", {}),
        ("audio", "handler_name", "Core Media Audio", {"audio #1 tag handler_name": (None, "Core Media Audio")}),
    ],
)
def test_a_changed_label_is_named(altered, kind, key, value, difference):
    assert named(altered(stream=only(kind, lambda stream: stream.metadata.update({key: value})))) == difference


def test_a_changed_disposition_is_named(altered):
    def comment(stream):
        stream.disposition = Disposition.default | Disposition.comment

    comparison = altered(stream=only("audio", comment))
    assert named(comparison) == {"audio #1 disposition": (None, "comment, default")}


@pytest.mark.parametrize("kind", ["audio", "subtitle"])
def test_a_lost_stream_is_named_and_nothing_else(altered, kind):
    comparison = altered(streams=lambda streams: [stream for stream in streams if stream.type != kind])
    assert (
        named(comparison)
        == {
            "audio": {"audio #1": ("aac nor Commentary", None)},
            "subtitle": {"subtitle #2": ("subrip fra", None)},
        }[kind]
    )


def test_an_additional_stream_is_named(altered, film, tmp_path):
    less = copy(film, tmp_path / "less.mkv", streams=lambda streams: [s for s in streams if s.type != "audio"])
    assert named(rave_trio.compare(less, film)) == {"audio #1 of the result": (None, "aac nor Commentary")}


def test_another_order_of_the_streams_is_one_difference(altered):
    comparison = altered(streams=lambda streams: [streams[0], streams[2], streams[1], streams[3]])
    assert named(comparison) == {"order of the streams": ("audio #1, subtitle #2", "subtitle #2, audio #1")}


def test_a_lost_attachment_is_named(altered):
    comparison = altered(streams=lambda streams: [stream for stream in streams if stream.type != "attachment"])
    assert set(named(comparison)) == {"attachment font.ttf"}
    assert named(comparison)["attachment font.ttf"][1] is None


@pytest.mark.parametrize("attachment", [("font.ttf", "font/ttf", FONT[::-1]), ("font.ttf", "font/otf", FONT)])
def test_an_attachment_that_changed_is_named(altered, attachment):
    comparison = altered(
        streams=lambda streams: [stream for stream in streams if stream.type != "attachment"], attachments=[attachment]
    )
    assert set(named(comparison)) == {"attachment font.ttf"}
    before, after = named(comparison)["attachment font.ttf"]
    assert None not in (before, after)


@pytest.mark.parametrize(
    ("chapters", "difference"),
    [
        ([CHAPTERS[0]], {"chapters": (2, 1)}),
        (
            [CHAPTERS[0], {**CHAPTERS[1], "metadata": {"title": "Deux"}}],
            {"chapter 2 title": ("Two", "Deux")},
        ),
        ([{**CHAPTERS[0], "end": 400}, CHAPTERS[1]], {"chapter 1 end": ("0.5 s", "0.4 s")}),
        ([CHAPTERS[0], {**CHAPTERS[1], "start": 501}], {}),
    ],
)
def test_a_changed_chapter_is_named(altered, chapters, difference):
    assert named(altered(chapters=chapters)) == difference


def test_a_lost_tag_is_named(altered, film, tmp_path):
    tagged = copy(film, tmp_path / "tagged.mkv", tags={"Artist": "Somebody", "encoder": "Something"})
    assert named(rave_trio.compare(tagged, film)) == {"tag artist": ("Somebody", None)}


def test_a_time_of_creation_may_be_written_differently(film, tmp_path):
    one, other = (
        copy(film, tmp_path / f"{number}.mkv", tags={"comment": "x", "creation_time": written})
        for number, written in enumerate(["2020-05-01T10:00:00.000000Z", "2020-05-01T12:00:00+02:00"])
    )
    assert rave_trio.compare(one, other).differences == ()


@pytest.mark.parametrize(
    ("name", "value", "difference"),
    [
        ("colorspace", 9, {"video colour matrix": (2, 9)}),
        ("color_primaries", 9, {"video colour primaries": (2, 9)}),
        ("color_trc", 16, {"video colour transfer": (2, 16)}),
        ("color_range", 2, {"video colour range": ("limited", "full")}),
        ("color_range", 1, {}),
    ],
)
def test_a_changed_property_of_the_picture_is_named(clip, tmp_path, name, value, difference):
    source = clip(frames=2, codec="ffv1")
    changed = copy(source, tmp_path / "copy.mkv", stream=lambda stream: setattr(stream.codec_context, name, value))
    assert named(rave_trio.compare(source, changed)) == difference


def test_another_shape_of_the_pixels_is_named(clip):
    square, wide = clip(frames=2), clip("wide.mkv", frames=2, tags={"sample_aspect_ratio": Fraction(4, 3)})
    assert named(rave_trio.compare(square, wide)) == {"video shape": ("64x48 in pixels of 1", "64x48 in pixels of 4/3")}


def test_a_picture_that_was_turned_or_mirrored_is_named(clip, tmp_path):
    source = clip("in.mp4", frames=2)
    turned = copy(source, tmp_path / "turned.mp4", stream=lambda stream: stream.set_display_rotation(90))
    flipped = copy(source, tmp_path / "flipped.mp4", stream=lambda stream: stream.set_display_rotation(0, hflip=True))
    assert named(rave_trio.compare(source, turned)) == {
        "video display matrix": ("turned by 0 degrees", "turned by 270 degrees")
    }
    assert named(rave_trio.compare(source, flipped)) == {
        "video display matrix": ("turned by 0 degrees", "turned by 180 degrees and mirrored")
    }
    assert rave_trio.compare(turned, copy(turned, tmp_path / "copy.mkv")).same


@pytest.mark.parametrize(
    ("width", "height", "scale", "differences"),
    [(128, 96, 2, set()), (192, 144, 3, set()), (128, 144, None, {"video shape"}), (96, 72, None, set())],
)
def test_the_scale_is_a_whole_number_and_the_same_both_ways_and_the_shape_stays(
    clip, width, height, scale, differences
):
    source, result = clip(frames=2), clip("large.mkv", frames=2, width=width, height=height)
    comparison = rave_trio.compare(source, result)
    assert comparison.scale == scale
    assert set(named(comparison)) == differences


@pytest.mark.parametrize(
    ("before", "after", "differences"),
    [
        ("yuv420p10le", "yuv420p", {"video bit depth": (10, 8)}),
        ("yuv444p", "yuv420p", {"video chroma subsampling": ("4:4:4", "4:2:0")}),
        ("yuva420p", "yuv420p", {"video alpha": ("yes", "no")}),
        ("bgr0", "yuv444p", {}),
        ("yuv420p", "bgr0", {}),
        ("gray", "yuv420p", {}),
    ],
)
def test_a_poorer_pixel_format_is_a_difference_and_another_one_is_not(clip, before, after, differences):
    one, other = (clip(f"{name}.mkv", frames=2, codec="ffv1", pixel_format=name) for name in (before, after))
    comparison = rave_trio.compare(one, other)
    assert named(comparison) == differences
    assert f"pixel format: {before} became {after}" in comparison.information


HDR = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"


def test_hdr_metadata_is_read_and_its_loss_is_named(clip):
    def encoded(name, parameters):
        return clip(
            name,
            frames=2,
            codec="libx265",
            pixel_format="yuv420p10le",
            options={"x265-params": f"log-level=error:{parameters}"},
        )

    source, flat = encoded("in.mkv", HDR), encoded("flat.mkv", "annexb=1")
    other = encoded("other.mkv", HDR.replace("13250", "13251").replace("1000,400", "1000,300"))
    assert rave_trio.compare(source, source).same
    assert named(rave_trio.compare(source, flat)) == {
        "video mastering display": ("0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.0001, 1000", None),
        "video content light level": ("1000, 400", None),
    }
    assert named(rave_trio.compare(source, other)) == {"video content light level": ("1000, 400", "1000, 300")}


def captioned(text):
    """Puts closed captions (ATSC A/53 in an SEI message of H.264) before the first picture."""
    pairs = b"".join(b"\xfc" + text[at : at + 2].encode() for at in range(0, len(text), 2))
    payload = b"\xb5\x00\x31GA94\x03" + bytes([0x40 | len(text) // 2, 0xFF]) + pairs + b"\xff"
    unit = b"\x06\x04" + bytes([len(payload)]) + payload + b"\x80"

    def insert(packet, number):
        if number:
            return packet
        return refilled(packet, struct.pack(">I", len(unit)) + unit + bytes(packet))

    return insert


def test_closed_captions_that_were_lost_or_changed_are_named(clip, tmp_path):
    plain = clip(frames=2, options=INTRA)
    one, other = (copy(plain, tmp_path / f"{text}.mkv", packet=captioned(text)) for text in ("abcd", "abce"))
    assert rave_trio.compare(one, one).same
    assert set(named(rave_trio.compare(one, plain))) == {"video closed captions"}
    assert set(named(rave_trio.compare(one, other))) == {"video closed captions"}


def test_interlaced_frames_are_reported_and_no_difference(clip):
    one = clip(frames=3, options={"x264-params": "tff=1", "preset": "ultrafast"})
    comparison = rave_trio.compare(one, clip("out.mkv", frames=3))
    assert comparison.same
    assert "interlaced frames: 3 of 3 in the source, 0 of 3 in the result" in comparison.information


def test_times_are_exact_in_mp4_and_rounded_to_the_millisecond_in_matroska(clip, tmp_path):
    pts = [0, 1001, 2002, 2500, 7007, 7008, 9009]
    source = clip("in.mp4", pts=pts, time_base=Fraction(1, 30000), rate=30, options={**INTRA, "bf": "0"})
    rounded = rave_trio.compare(source, copy(source, tmp_path / "copy.mkv"))
    assert rounded.differences == ()
    assert 0.0004 < rounded.largest_time_error <= 0.0005
    moved = copy(source, tmp_path / "moved.mp4", packet=shifted(Fraction(1, 30000), first=6))
    comparison = rave_trio.compare(source, moved)
    assert "video frame times" in named(comparison)
    assert comparison.largest_time_error == pytest.approx(1 / 30000)


def test_sound_is_the_same_in_every_container_that_can_hold_it(clip, tmp_path):
    source = clip("in.mp4", frames=25, audio=True, chapters=True, title="A film")
    for extension in ("mkv", "mov", "mp4"):
        comparison = rave_trio.compare(source, copy(source, tmp_path / f"copy.{extension}"))
        assert comparison.differences == (), extension


def test_the_default_stream_that_mp4_makes_is_no_difference(altered, clip, tmp_path):
    source = clip(frames=5, audio=True)
    comparison = rave_trio.compare(source, copy(source, tmp_path / "copy.mp4"))
    assert comparison.differences == ()
    assert len([line for line in comparison.information if "is default" in line]) == 2


def test_sound_from_a_transport_stream_is_the_same_without_its_headers(clip, tmp_path):
    source = clip("in.ts", frames=25, audio=True)
    assert rave_trio.compare(source, copy(source, tmp_path / "copy.mkv")).differences == ()


def with_sound(target, codec, layout="stereo"):
    """A clip of a second with a tone of that codec."""
    with av.open(target, "w") as out:
        video = out.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream(codec, rate=48000, layout=layout)
        packets = []
        for number in range(25):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += video.encode(frame)
        size = 1152
        for at in range(0, 48000 - size, size):
            frame = av.AudioFrame(sound.codec_context.format.name, layout, size)
            for plane in frame.planes:
                plane.update((bytes(range(120)) * plane.buffer_size)[at : at + plane.buffer_size])
            frame.sample_rate, frame.pts, frame.time_base = 48000, at, Fraction(1, 48000)
            packets += sound.encode(frame)
        packets += video.encode(None) + sound.encode(None)
        out.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return target


def test_mpeg_sound_is_the_same_where_the_container_does_not_say_which_layer_it_is(tmp_path):
    source = with_sound(tmp_path / "in.mkv", "mp2")
    in_mp4 = copy(source, tmp_path / "copy.mp4")
    assert rave_trio.compare(source, in_mp4).differences == ()
    assert rave_trio.compare(in_mp4, copy(in_mp4, tmp_path / "back.mkv")).differences == ()
    assert "audio #1 codec" in named(rave_trio.compare(source, with_sound(tmp_path / "mp3.mkv", "libmp3lame")))


def test_mp3_sound_is_the_same_without_the_header_that_avi_gives_it(tmp_path):
    source = with_sound(tmp_path / "in.avi", "libmp3lame")
    assert rave_trio.compare(source, copy(source, tmp_path / "copy.mp4")).differences == ()


def test_uncompressed_sound_may_be_cut_into_packets_anywhere(tmp_path):
    source = with_sound(tmp_path / "in.mov", "pcm_s16le")

    def halved(target, change=lambda data: data, late=0):
        with av.open(source) as before, av.open(target, "w") as after:
            copies = [after.add_stream_from_template(stream, opaque=True) for stream in before.streams]
            for new in copies:
                new.disposition = Disposition.default
            packets = []
            for packet in before.demux():
                if packet.size and packet.stream.type == "video":
                    packet.stream = copies[0]
                    packets.append(packet)
                elif packet.size:
                    data, half = bytes(packet), packet.size // 2
                    for at, piece in ((0, data[:half]), (half, data[half:])):
                        made = refilled(packet, change(piece))
                        made.duration = half // 4
                        made.pts = made.dts = packet.pts + at // 4 + late
                        made.stream = copies[1]
                        packets.append(made)
            for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
                after.mux_one(packet)
        return rave_trio.compare(source, target)

    assert halved(tmp_path / "halved.mkv").differences == ()
    assert set(named(halved(tmp_path / "late.mkv", late=4800))) == {"audio #1 times"}
    assert set(named(halved(tmp_path / "other.mkv", change=lambda data: data[::-1]))) == {"audio #1 packets"}


@pytest.mark.parametrize(("codec", "extension"), [("libx264", "ts"), ("libx264", "avi"), ("libx265", "ts")])
def test_a_further_video_is_the_same_with_lengths_in_the_place_of_start_codes(tmp_path, codec, extension):
    source = two_videos(tmp_path / f"in.{extension}", [(64, 48), (32, 32)], codec)
    for container in ("mkv", "mp4"):
        comparison = rave_trio.compare(source, copy(source, tmp_path / f"copy.{container}"))
        assert [line for line in named(comparison) if line.startswith("video #1")] == []
    other = copy(source, tmp_path / "other.mkv", packet=lambda p, n: refilled(p, bytes(p)[:-1] + b"!") if n == 2 else p)
    assert "video #1 payload" in named(rave_trio.compare(source, other))


EVENTS = [(40, 100, "Bonjour"), (300, 500, "deux\nlignes é"), (1200, 400, "<i>fin</i>")]


def subtitled(target, codec, events):
    """A clip with a text subtitle of that codec."""
    with av.open(target, "w") as out:
        video = out.add_stream("libx264", rate=25, options=INTRA)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        text = out.add_mux_stream(codec)
        text.time_base = Fraction(1, 1000)
        packets = []
        for number in range(50):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        for start, duration, line in events:
            data = line.encode()
            packet = Packet(struct.pack(">H", len(data)) + data if codec == "mov_text" else data)
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = start
            packet.duration = duration
            packets.append(packet)
        out.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return target


def test_a_converted_subtitle_is_compared_by_its_texts(tmp_path):
    plain = [(*when, line.replace("<i>", "").replace("</i>", "")) for *when, line in EVENTS]
    source = subtitled(tmp_path / "in.mkv", "subrip", EVENTS)
    same = rave_trio.compare(source, subtitled(tmp_path / "out.mp4", "mov_text", plain))
    assert same.differences == ()
    assert "subtitle #1 was converted from subrip to mov_text" in same.information
    wrong = [plain[0], (300, 500, "trois lignes"), (1230, 300, "fin")]
    assert named(rave_trio.compare(source, subtitled(tmp_path / "wrong.mp4", "mov_text", wrong))) == {
        "subtitle #1 texts": (r"'deux\nlignes é' at 0.3 s", "'trois lignes', the first of 1 that differ"),
        "subtitle #1 times": ("1.2 s at text 2", "1.23 s, the first of 1 that differ"),
        "subtitle #1 ends": ("1.6 s at text 2", "1.53 s, the first of 1 that differ"),
    }
    fewer = subtitled(tmp_path / "fewer.mp4", "mov_text", plain[:2])
    assert named(rave_trio.compare(source, fewer)) == {"subtitle #1 texts": (3, 2)}


def test_a_blank_line_in_a_converted_subtitle_hides_nothing_after_it(tmp_path, nearest_x2):
    source = subtitled(tmp_path / "in.mkv", "subrip", [(40, 900, "one\n\nother"), (1000, 500, "last")])
    rave_trio.upscale_sync(source, tmp_path / "out.mp4", model=str(nearest_x2), preset="ultrafast")
    assert rave_trio.compare(source, tmp_path / "out.mp4").differences == ()
    less = subtitled(tmp_path / "less.mp4", "mov_text", [(40, 900, "one"), (1000, 500, "last")])
    assert "subtitle #1 texts" in named(rave_trio.compare(source, less))


OVERLAPPING = [(40, 900, "one"), (500, 1000, "two\nlines"), (600, 100, "one"), (1700, 100, "last")]


def test_texts_that_were_merged_where_they_overlap_show_the_same(tmp_path, nearest_x2):
    source = subtitled(tmp_path / "in.mkv", "subrip", OVERLAPPING)
    rave_trio.upscale_sync(source, tmp_path / "out.mp4", model=str(nearest_x2), preset="ultrafast")
    comparison = rave_trio.compare(source, tmp_path / "out.mp4")
    assert comparison.differences == ()
    assert comparison.largest_time_error < 0.001
    pieces = [(40, 460, "one"), (500, 440, "one\ntwo\nlines"), (940, 560, "two\nlines"), (1700, 100, "last")]
    assert rave_trio.compare(source, subtitled(tmp_path / "pieces.mp4", "mov_text", pieces)).differences == ()
    for name, at, piece in [
        ("less", 1, (500, 440, "two\nlines")),
        ("late", 1, (520, 420, "one\ntwo\nlines")),
        ("other", 3, (1700, 100, "lost")),
    ]:
        wrong = [*pieces[:at], piece, *pieces[at + 1 :]]
        assert not rave_trio.compare(source, subtitled(tmp_path / f"{name}.mp4", "mov_text", wrong)).same, name


def test_a_drawing_is_nothing_to_read(tmp_path, nearest_x2):
    drawings = [r"{\p1}m 0 0 l 10 0 10 10{\p0}", r"{\p1}m 0 0{\p0}Read"]
    events = [(500 * n, 400, f"{n},0,Default,,0,0,0,,{drawing}") for n, drawing in enumerate(drawings)]
    source = subtitled(tmp_path / "in.mkv", "ass", events)
    for name in ("out.mp4", "out.mkv"):
        rave_trio.upscale_sync(source, tmp_path / name, model=str(nearest_x2), preset="ultrafast")
        assert rave_trio.compare(source, tmp_path / name).differences == (), name
    fewer = copy(source, tmp_path / "fewer.mkv", packet=of("subtitle", lambda p, n: p if n else None))
    assert "subtitle #1 packets" in named(rave_trio.compare(source, fewer))


def test_the_gaps_between_mp4_subtitles_do_not_count(tmp_path):
    source = subtitled(tmp_path / "in.mp4", "mov_text", EVENTS)
    packed = copy(
        source, tmp_path / "out.mp4", packet=of("subtitle", lambda packet, _: packet if packet.size > 2 else None)
    )
    assert rave_trio.compare(source, packed).differences == ()


def test_styles_and_comments_are_no_text():
    assert plain_text("0,0,Default,,0,0,0,,{\\b1}bold{\\b0}\\Nand, {note}plain\\h") == "bold\nand, plain"
    assert plain_text(r"0,0,Default,,0,0,0,,\{{}so{\p1}m 0 0{\p0}} it is") == "{so} it is"


@pytest.fixture(scope="module")
def pictures():
    """Two JPEG pictures."""
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 32, 32, "yuvj420p", Fraction(1, 25)
    made = []
    for shade in (40, 200):
        frame = av.VideoFrame(32, 32, "yuvj420p")
        for plane in frame.planes:
            plane.update(bytes([shade]) * plane.buffer_size)
        frame.pts = shade
        made += [bytes(packet) for packet in encoder.encode(frame)]
    return made


def test_cover_art_is_compared_by_its_bytes(clip, tmp_path, pictures):
    bare = clip(frames=2)
    front, back = (
        copy(bare, tmp_path / f"{number}.mkv", attachments=[("cover.jpg", "image/jpeg", picture)])
        for number, picture in enumerate(pictures)
    )
    assert rave_trio.compare(front, front).same
    assert set(named(rave_trio.compare(front, bare))) == {"cover art"}
    assert set(named(rave_trio.compare(front, back))) == {"cover art"}


def test_a_timecode_is_the_same_as_a_track_and_as_a_tag(clip, tmp_path):
    bare = clip("in.mov", frames=5)

    def with_timecode(stream):
        stream.metadata["timecode"] = "01:00:00:00"

    track = copy(bare, tmp_path / "track.mov", stream=with_timecode)
    tag = copy(bare, tmp_path / "tag.mkv", stream=with_timecode)
    comparison = rave_trio.compare(track, tag)
    assert comparison.differences == ()
    assert "timecode 01:00:00:00 was converted from a track to a tag" in comparison.information
    assert named(rave_trio.compare(track, bare)) == {"timecode": ("01:00:00:00", None)}


def two_videos(target, sizes, codec="ffv1"):
    with av.open(target, "w") as out:
        packets = []
        for width, height in sizes:
            options = {"bf": "0", "x265-params": "log-level=none"} if codec != "ffv1" else {}
            video = out.add_stream(codec, rate=25, options=options)
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            for number in range(3):
                frame = av.VideoFrame(width, height, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes([100 + number]) * plane.buffer_size)
                frame.pts, frame.time_base = number, Fraction(1, 25)
                packets += video.encode(frame)
            packets += video.encode(None)
        out.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return target


def test_the_video_that_was_upscaled_can_be_named(tmp_path):
    source = two_videos(tmp_path / "in.mkv", [(64, 48), (32, 16)])
    result = two_videos(tmp_path / "out.mkv", [(64, 48), (64, 32)])
    comparison = rave_trio.compare(source, result, video_stream=1)
    assert comparison.differences == ()
    assert comparison.scale == 2
    other = rave_trio.compare(source, result)
    assert other.scale == 1
    assert "video #1 payload" in named(other)


def test_a_frame_that_cannot_be_decoded_is_a_difference(altered):
    def spoiled(packet, number):
        return packet if number != 5 else refilled(packet, b"\x00\x00\x00\x01nothing that is a picture")

    comparison = altered(packet=of("video", spoiled))
    assert set(named(comparison)) == {"video frames", "damage"}
    source, result = named(comparison)["damage"]
    assert source is None
    assert "packets of the video that cannot be decoded: 1, the first after frame 4 at 0.16 s" in result


def test_a_frame_that_the_decoder_had_to_mend_is_a_difference_in_the_result_alone(film, altered, tmp_path):
    def scratched(packet, number):
        data = bytes(packet)
        return packet if number != 5 else refilled(packet, data[: len(data) // 2] + data[len(data) // 2 :][::-1])

    comparison = altered(packet=of("video", scratched))
    assert named(comparison) == {"video damaged frames": (0, 1)}
    other_way = rave_trio.compare(comparison.result, film)
    assert other_way.differences == ()
    assert other_way.information == ("video frames that are damaged in the source: 1",)


def test_a_file_that_is_cut_short_is_a_difference_even_to_itself(film, tmp_path):
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(film.read_bytes()[:-20])
    assert named(rave_trio.compare(film, cut))["damage"] == (None, "the file ends before its container says")
    assert "damage" in named(rave_trio.compare(cut, cut))


def test_times_that_are_no_times_are_not_compared(clip):
    """AVI states none, and what libav makes of reordered frames jumps; a raw stream has none at all."""
    result = clip(frames=12)
    for name in ("in.avi", "in.h264"):
        comparison = rave_trio.compare(clip(name, frames=12), result)
        assert comparison.differences == (), name
        assert any(line.startswith("frame times are not compared") for line in comparison.information), name


def test_a_file_that_cannot_be_used_is_an_error(film, tmp_path):
    (tmp_path / "text.mkv").write_text("no video")
    sound = copy(film, tmp_path / "sound.mkv", streams=lambda streams: [s for s in streams if s.type == "audio"])
    for other, error in [
        (tmp_path / "missing.mkv", errors.InputNotFound),
        (tmp_path, errors.InputIsDirectory),
        (tmp_path / "text.mkv", errors.InputNotMedia),
        (sound, errors.InputHasNoVideo),
    ]:
        with pytest.raises(error, match=Path(other).name):
            rave_trio.compare(film, other)
        with pytest.raises(error):
            rave_trio.compare(other, film)


def test_a_stream_that_is_no_video_is_a_usage_error(film):
    with pytest.raises(errors.UsageError, match=r"stream #1 of .* is not video"):
        rave_trio.compare(film, film, video_stream=1)


def test_a_stream_that_begins_late_and_is_not_in_the_result_is_a_difference(tmp_path, monkeypatch):
    """Nothing in an FLV file's header says that there is sound, and none is found where libav looks for it."""
    source = tmp_path / "late.flv"
    with av.open(source, "w") as out:
        video = out.add_stream("libx264", rate=25, options={**INTRA, "qp": "0"})
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        sound = out.add_stream("libmp3lame", rate=44100, layout="mono")
        packets = []
        noise = random.Random(1).randbytes(80000)
        for number in range(150):
            frame = av.VideoFrame(320, 240, "yuv420p")
            for plane in frame.planes:
                shift = 7 * number % 256
                plane.update(noise[shift : shift + plane.buffer_size])
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += video.encode(frame)
        frame = av.AudioFrame(sound.codec_context.format.name, "mono", 1152)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = 44100, 44100 * 5, Fraction(1, 44100)
        packets += sound.encode(frame) + video.encode(None) + sound.encode(None)
        out.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    with source.open("r+b") as file:
        file.seek(4)
        file.write(b"\x01")  # video alone
    result = copy(source, tmp_path / "out.mkv")
    assert named(rave_trio.compare(source, result)) == {"audio #1": ("mp3", None)}
    monkeypatch.setattr(probe, "FAR_SIGHTED", {})  # as if it began later still
    assert named(rave_trio.compare(source, result)) == {"streams that begin late": ("there", None)}


def test_pictures_that_cannot_be_read_are_counted(clip, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    with av.open(clip(frames=4)) as video:
        for number, frame in enumerate(video.decode(video=0)):
            encoder = av.CodecContext.create("png", "w")
            encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "rgb24"
            encoder.time_base = Fraction(1, 25)
            (folder / f"{number}.png").write_bytes(bytes(encoder.encode(frame.reformat(format="rgb24"))[0]))
    (folder / "2.png").write_bytes(b"no picture")
    found = named(rave_trio.compare(folder / "%d.png", clip("out.mkv", frames=3)))
    assert found["damage"][0].startswith("of 4 pictures ")
