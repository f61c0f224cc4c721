"""Inputs and names at the edge of what is usual: nothing is lost, nothing fails at the very end."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.packet import Packet

import rave_trio
from rave_trio import errors
from rave_trio.media.decoder import LibavDecoder
from rave_trio.media.probe import probe
from rave_trio.media.publish import _Joins

KEEP = {"avoid_negative_ts": "disabled"}


@pytest.fixture
def upscale(nearest_x2, tmp_path):
    def run(source, name="out.mkv", **options):
        return rave_trio.upscale_sync(source, tmp_path / name, model=str(nearest_x2), **options)

    return run


@pytest.mark.parametrize("name", ["film%d.mkv", "clip%03d.mp4", "100%.mkv"])
def test_a_percent_sign_in_a_videos_name_is_just_that(clip, upscale, tmp_path, name):
    upscale(clip(frames=3), name)
    assert (tmp_path / name).stat().st_size > 500
    with pytest.raises(errors.OutputExists):
        upscale(clip(frames=3), name)


def with_texts(source, target, codec, lines):
    with av.open(source) as before, av.open(target, "w") as after:
        video = after.add_stream_from_template(before.streams.video[0], opaque=True)
        stream = after.add_stream(codec)
        stream.codec_context.subtitle_header = b"[Script Info]\n[Events]\nFormat: Layer, Text\n"
        stream.time_base = Fraction(1, 1000)
        for index, line in enumerate(lines):
            packet = Packet(line)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = 40 * index
            packet.duration = 30
            after.mux_one(packet)
        for packet in before.demux(video=0):
            if packet.size:
                packet.stream = video
                after.mux_one(packet)
    return target


def test_a_text_that_is_no_event_is_left_out_and_told(clip, upscale, tmp_path):
    lines = [b"0,0,Default,,0,0,0,,good", b"not,an,event"]
    source = with_texts(clip("plain.mkv", frames=10), tmp_path / "in.mkv", "ass", lines)
    report = upscale(source, "out.mp4")
    assert any("1 texts are left out" in note for note in report.notes)


def test_an_unforeseen_failure_of_publishing_keeps_the_frames(clip, upscale, tmp_path, monkeypatch, reading):
    from rave_trio import delivery

    genuine = delivery.publish

    def publish(what, target, **how):
        if target.name == "out.mp4":
            raise IndexError("nobody thought of this")
        return genuine(what, target, **how)

    monkeypatch.setattr(delivery, "publish", publish)
    with pytest.raises(errors.StageCrashed, match=r"nobody thought of this; 5 finished frames are in") as caught:
        upscale(clip(frames=5), "out.mp4")
    assert caught.value.exit_code == 51
    assert len(reading.frames(tmp_path / "out.partial.mkv")) == 5


def remux(source, target, change, **options):
    """The packets of ``source`` in another file, each changed on the way; None leaves it out."""
    with av.open(source) as before, av.open(target, "w", options=options or KEEP) as after:
        copies = {s.index: after.add_stream_from_template(s, opaque=True) for s in before.streams}
        for packet in before.demux():
            if packet.size:
                stream = copies[packet.stream.index]
                changed = change(packet)
                if changed is not None:
                    changed.stream = stream
                    after.mux_one(changed)
    return target


def later(seconds):
    def change(packet):
        ticks = int(seconds / packet.time_base)
        packet.pts += ticks
        packet.dts = packet.pts if packet.dts is None else packet.dts + ticks
        return packet

    return change


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_a_file_that_starts_late_is_whole(clip, upscale, tmp_path, container):
    whole = clip("whole.mp4", frames=50, audio=True, options={"bf": "0"})
    source = remux(whole, tmp_path / f"in.{container}", later(10))
    assert upscale(source, strict=True).frames == 50
    assert rave_trio.compare(source, tmp_path / "out.mkv").same


def test_an_empty_picture_in_a_sequence_is_named(tmp_path, upscale, reading):
    with av.open(tmp_path / "%d.png", "w", format="image2") as out:
        stream = out.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "rgb24"
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(reading.draw(index, 32, 16), "rgb24")
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    (tmp_path / "3.png").write_bytes(b"")
    with pytest.raises(errors.InputEmpty, match=r"3\.png is empty"):
        upscale(tmp_path / "%d.png")


def test_a_sound_stream_without_any_packet_is_nothing_to_fail_for(clip, upscale, tmp_path):
    def picture_only(packet):
        return packet if packet.stream.type == "video" else None

    source = remux(clip("whole.mkv", frames=20, audio=True), tmp_path / "in.mkv", picture_only)
    report = upscale(source, "out.mp4")
    assert report.frames == 20
    assert "stream #1 (audio) has no packets and is left out" in report.notes


def test_a_cover_that_is_no_picture_is_refused_before_the_first_frame(clip, upscale, tmp_path):
    with av.open(clip("plain.mkv", frames=5)) as before, av.open(tmp_path / "in.mkv", "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0], opaque=True)
        after.add_attachment("cover.jpg", "image/jpeg", b"no picture at all")
        for packet in before.demux(video=0):
            if packet.size:
                packet.stream = stream
                after.mux_one(packet)
    with pytest.raises(errors.ContainerRejectsStream, match="cover"):
        upscale(tmp_path / "in.mkv", "out.mp4")
    upscale(tmp_path / "in.mkv", "out.mp4", drop_unsupported=True)


def test_deinterlacing_a_video_of_nothing_but_damage_is_an_error_like_any(clip, upscale, tmp_path):
    def zeroed(packet):
        made = Packet(bytes(packet.size))
        made.pts, made.dts, made.time_base = packet.pts, packet.dts, packet.time_base
        return made

    source = remux(clip("whole.mp4", frames=5, codec="libx265"), tmp_path / "in.mp4", zeroed)
    with pytest.raises(errors.InputError):
        upscale(source, deinterlace="bwdif")


def test_a_tiny_interlaced_video_is_left_as_it_is(tmp_path, upscale):
    with av.open(tmp_path / "in.mkv", "w") as out:
        stream = out.add_stream("mpeg2video", rate=25, options={"flags": "+ilme+ildct"})
        stream.width, stream.height, stream.pix_fmt = 16, 2, "yuv420p"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((2, 16), 90, np.uint8), "gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    report = upscale(tmp_path / "in.mkv", codec="ffv1")
    assert (report.frames, report.findings.deinterlaced) == (3, False)


@pytest.mark.parametrize("container", ["mkv", "mp4", "mov"])
def test_joined_recordings_keep_sound_and_picture_together(clip, upscale, tmp_path, container, reading):
    """The first piece has two seconds of sound and four of picture; the second begins with both at once."""
    with av.open(clip("whole.ts", frames=100, audio=True)) as source:
        shortest = next(p.pts for p in source.demux(audio=0) if p.size) + 2 * 90_000
    short = remux(
        clip("a.ts", frames=100, audio=True),
        tmp_path / "short.ts",
        lambda p: None if p.stream.type == "audio" and p.pts > shortest else p,
        mpegts_copyts="1",
    )
    joined = tmp_path / "joined.ts"
    joined.write_bytes(short.read_bytes() + clip("b.ts", frames=100, audio=True).read_bytes())
    report = upscale(joined, f"out.{container}")
    assert report.frames == 200
    picture = reading.times(tmp_path / f"out.{container}")
    sound = reading.packets(tmp_path / f"out.{container}", 1).times
    silence = max(range(1, len(sound)), key=lambda i: sound[i] - sound[i - 1])
    assert sound[silence] - sound[silence - 1] > 1.8, "the two seconds without sound are still there"
    assert abs(sound[silence] - picture[100]) < Fraction(1, 10), "the second piece's sound begins with its picture"


@pytest.mark.parametrize("container", ["mkv", "mp4", "mov"])
def test_joined_recordings_that_overlap_a_little_come_through(clip, upscale, tmp_path, reading, container):
    first = clip("a.ts", frames=50, audio=True)
    second = remux(clip("b.ts", frames=50, audio=True), tmp_path / "later.ts", later(1.8), mpegts_copyts="1")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    upscale(joined, f"out.{container}")
    times = reading.times(tmp_path / f"out.{container}")
    assert len(times) == len(set(times)) == 100
    assert times == sorted(times)


def test_the_last_sound_is_not_cut_off_where_its_length_is_unknown(clip, upscale, tmp_path):
    source = tmp_path / "in.mkv"
    with av.open(clip("plain.mkv", frames=10)) as before, av.open(source, "w") as after:
        video = after.add_stream_from_template(before.streams.video[0], opaque=True)
        sound = after.add_stream("alac", rate=48000, layout="stereo")
        packets = [p for p in before.demux(video=0) if p.size]
        for packet in packets:
            packet.stream = video
            packet.dts = packet.pts if packet.dts is None else packet.dts
        for start in range(0, 5 * 4096, 4096):
            frame = av.AudioFrame.from_ndarray(np.full((2, 4096), 1000, np.int16), format="s16p", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            packets += sound.encode(frame)
        packets += sound.encode(None)
        after.mux(sorted(packets, key=lambda p: p.dts * p.time_base))
    upscale(source, "out.mp4")

    def samples(path):
        with av.open(path) as container:
            return sum(frame.samples for frame in container.decode(audio=0))

    assert samples(tmp_path / "out.mp4") == samples(source)


def test_ffv1_damage_is_found_by_its_checksums(clip, tmp_path):
    def spoil(packet):
        if packet.pts != 400:
            return packet
        data = bytearray(bytes(packet))
        data[len(data) // 2] ^= 4
        made = Packet(bytes(data))
        made.pts, made.dts, made.time_base, made.is_keyframe = packet.pts, packet.dts, packet.time_base, True
        return made

    whole = clip("whole.mkv", frames=20, codec="ffv1", options={"level": "3", "slicecrc": "1"})
    decoder = LibavDecoder(probe(remux(whole, tmp_path / "in.mkv", spoil)))
    count = 0
    while decoder.read() is not None:
        count += 1
    assert count == 20
    assert decoder.findings.repeated_at == [0.4]


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("in.mov", "png", "rgb24"), ("in.mkv", "ffv1", "gray"), ("in.mkv", "ffv1", "yuv444p")],
)
def test_full_range_formats_are_written_in_full_range(clip, upscale, tmp_path, reading, name, codec, pixels):
    source = clip(name, frames=2, codec=codec, pixel_format=pixels)
    upscale(source, codec="libx264", pixel_format="yuvj420p", crf=1)
    before, after = reading.frames(source)[0], reading.frames(tmp_path / "out.mkv")[0]
    reduced = after.reshape(48, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(reduced - before).mean() < 3


def test_pictures_that_stay_under_other_numbers_are_told(clip, upscale, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "009.png").write_bytes(b"old")
    report = upscale(clip(frames=3), "out/%03d.png", overwrite=True)
    assert any("other numbers" in note for note in report.plan.notes)


def test_streams_that_nothing_announces_are_told(clip, upscale, tmp_path):
    """An FLV file whose header speaks of video alone, with sound from the middle on."""
    with_sound = clip("sound.flv", frames=100, audio=True, codec="flv", options={"b": "4M", "qmin": "1"}).read_bytes()
    assert with_sound[4] == 5
    source = tmp_path / "in.flv"
    source.write_bytes(with_sound[:4] + b"\x01" + with_sound[5:])
    report = upscale(source)
    with av.open(report.output) as result:
        kinds = [stream.type for stream in result.streams]
    assert sorted(kinds) == ["audio", "video"] or any("begin late" in note for note in report.notes)


def test_frames_that_matroska_cannot_tell_apart_are_told(clip, upscale):
    source = clip("in.mov", frames=4, pts=[0, 5, 9, 1000], time_base=Fraction(1, 90_000))
    assert any("2 frames follow another within a millisecond" in note for note in upscale(source).notes)
    assert not upscale(source, "out.mov").notes


def test_frames_are_kept_even_if_the_other_streams_cannot_be_planned_again(
    clip, upscale, tmp_path, monkeypatch, reading
):
    from rave_trio import delivery

    def refuse(*arguments, **options):
        raise errors.ContainerRejectsStream("not together")

    genuine = delivery.publish

    def publish(what, target, **how):
        if target.name == "out.mp4":
            raise errors.MuxError("the disk went away")
        return genuine(what, target, **how)

    monkeypatch.setattr(delivery, "plan_carriage", refuse)
    monkeypatch.setattr(delivery, "publish", publish)
    with pytest.raises(errors.MuxError, match="5 finished frames are in"):
        upscale(clip(frames=5), "out.mp4")
    assert len(reading.frames(tmp_path / "out.partial.mkv")) == 5


def test_a_programs_own_error_is_not_called_ours(clip, upscale):
    def on_plan(plan):
        raise LookupError("the program's own")

    with pytest.raises(LookupError, match="the program's own"):
        upscale(clip(frames=2), on_plan=on_plan)


def test_a_packet_of_the_first_piece_that_comes_after_the_join_stays_with_its_piece():
    """Also where the second piece begins at exactly 0."""
    joins = _Joins((Fraction(4),))

    def moved(time, is_video):
        packet = Packet(b"x")
        packet.time_base, packet.pts, packet.dts = Fraction(1, 10), 10 * time, 10 * time
        joins.move(packet, is_video=is_video)
        return packet.pts // 10

    assert [moved(0, True), moved(3, True), moved(0, True)] == [0, 3, 4]
    assert (moved(4, False), moved(0, False)) == (4, 4)
