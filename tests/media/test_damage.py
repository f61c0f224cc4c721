"""Damaged packets, codec by codec: the frame before is shown again, in time and counted, or a strict run ends."""

from __future__ import annotations

import random
from fractions import Fraction

import av
import pytest
from av.packet import Packet

import rave_trio
from rave_trio import errors
from rave_trio.media.decoder import LibavDecoder
from rave_trio.media.probe import probe

QUIET = {"libx265": {"x265-params": "log-level=none"}, "ffv1": {"level": "3", "slicecrc": "1"}}

HEADERS = {"libx264": 5, "libx265": 4, "libvpx-vp9": 0}
"""Bytes at the beginning of a packet that are left as they are; of the other codecs' packets, a third."""

CODECS = [
    ("libx264", "yuv420p", "mkv"),
    ("libx264", "yuv420p", "mp4"),
    ("libx264", "yuv420p", "ts"),
    ("libx265", "yuv420p", "mkv"),
    ("mpeg2video", "yuv420p", "ts"),
    ("mpeg4", "yuv420p", "mp4"),
    ("libvpx-vp9", "yuv420p", "webm"),
    ("ffv1", "yuv420p", "mkv"),
    ("prores_ks", "yuv422p10le", "mov"),
    ("mjpeg", "yuvj420p", "mov"),
]


def packets_of(source):
    with av.open(source) as container:
        return [p for p in container.demux(video=0) if p.size]


@pytest.fixture
def damaged(clip, tmp_path):
    """A clip of 40 frames, the packets with these positions overwritten with noise.

    Only where headers are hit can every decoder tell: noise in arithmetic code is some picture too.
    """

    def make(codec, pixels, container, positions=(20,)):
        whole = clip(
            f"whole.{container}", frames=40, width=160, height=96, codec=codec, pixel_format=pixels,
            options=QUIET.get(codec),
        )  # fmt: skip
        noise = random.Random(7)
        broken = tmp_path / f"broken.{container}"
        with av.open(whole) as before, av.open(broken, "w") as after:
            stream = after.add_stream_from_template(before.streams.video[0], opaque=True)
            position = 0
            for packet in before.demux(video=0):
                if not packet.size:
                    continue
                if position in positions:
                    packet = spoilt(packet, noise, keep=HEADERS.get(codec, packet.size // 3))
                packet.stream = stream
                after.mux_one(packet)
                position += 1
        return broken

    return make


def spoilt(packet, noise, keep):
    data = bytearray(bytes(packet))
    for at in range(keep, len(data)):
        data[at] = noise.randrange(1, 256)
    made = Packet(bytes(data))
    made.pts, made.dts, made.duration, made.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    made.is_keyframe = packet.is_keyframe
    return made


def frames_of(source, **how):
    decoder = LibavDecoder(probe(source), **how)
    frames = []
    while (frame := decoder.read()) is not None:
        frames.append(frame)
    decoder.close()
    return frames, decoder


@pytest.mark.parametrize(("codec", "pixels", "container"), CODECS)
def test_a_damaged_packet_costs_no_frame_and_no_time(damaged, codec, pixels, container):
    source = damaged(codec, pixels, container)
    frames, decoder = frames_of(source)
    expected = sorted(p.pts for p in packets_of(source.with_name(f"whole.{container}")))
    assert [frame.pts for frame in frames] == expected
    assert decoder.defect is None
    assert decoder.findings.repeated_frames >= 1
    times = {round(float(pts * frames[0].time_base), 6) for pts in expected}
    assert set(decoder.findings.repeated_at) <= times


@pytest.mark.parametrize(("codec", "pixels", "container"), CODECS)
def test_a_strict_reading_ends_at_the_damage(damaged, codec, pixels, container):
    source = damaged(codec, pixels, container)
    frames, decoder = frames_of(source, strict=True)
    assert isinstance(decoder.defect, errors.DecodeError)
    assert 0 < len(frames) < 40


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video", "libvpx-vp9", "ffv1"])
@pytest.mark.parametrize("frames", [1, 2, 40])
def test_nothing_is_found_in_a_sound_file(clip, codec, frames):
    source = clip(frames=frames, codec=codec, options=QUIET.get(codec))
    read, decoder = frames_of(source, strict=True)
    assert len(read) == frames
    assert decoder.defect is None
    assert decoder.findings.repeated_frames == 0


def test_the_frame_before_is_shown_again(damaged, tmp_path, nearest_x2, reading):
    source = damaged("mjpeg", "yuvj420p", "mov")
    report = rave_trio.upscale_sync(source, tmp_path / "out.mov", model=str(nearest_x2), crf=1)
    assert report.findings.repeated_at == [0.8]
    assert report.as_dict()["input"]["repeated_frames"] == 1
    shown = reading.frames(tmp_path / "out.mov")
    assert len(shown) == 40
    assert reading.times(tmp_path / "out.mov") == [Fraction(i, 25) for i in range(40)]
    assert reading.psnr(shown[20], shown[19]) > 40
    assert reading.psnr(shown[21], shown[20]) < 35


def test_damage_at_the_end_is_repeated_too(damaged):
    frames, decoder = frames_of(damaged("mjpeg", "yuvj420p", "mkv", positions=(38, 39)))
    assert len(frames) == 40
    assert decoder.findings.repeated_at == [1.52, 1.56]


def test_a_file_without_presentation_times_keeps_its_count(damaged):
    frames, decoder = frames_of(damaged("mjpeg", "yuvj420p", "avi", positions=(7, 8)))
    assert len(frames) == 40
    assert decoder.findings.repeated_frames == 2
