"""What PyAV's versions tell differently, or not at all, is told alike."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import av.logging
import pytest

from rave_trio.media._libav import demux, fraction, has_late_streams

ALWAYS = (0, 10)
SHORT_SIGHTED = {"probesize": "50000"}


@pytest.fixture
def programme_stream(tmp_path):
    """Makes ten seconds of an MPEG programme stream, whose header announces nothing, with a sound for each span."""

    def make(*spans: tuple[int, int]) -> Any:
        path = tmp_path / "in.mpg"
        with av.open(path, "w", format="vob") as out:
            video = out.add_stream("mpeg2video", rate=25, options={"g": "1"})
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            sounds = [out.add_stream("mp2", rate=48000, layout="mono") for _ in spans]
            packets = []
            for index in range(250):
                frame = av.VideoFrame(64, 48, "yuv420p")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                packets += video.encode(frame)
            for sound, (start, end) in zip(sounds, spans, strict=True):
                for at in range(start * 48000, end * 48000, 1152):
                    tone = av.AudioFrame(sound.codec_context.format.name, "mono", 1152)
                    tone.planes[0].update(bytes(tone.planes[0].buffer_size))
                    tone.sample_rate, tone.pts, tone.time_base = 48000, at, Fraction(1, 48000)
                    packets += sound.encode(tone)
            for stream in (video, *sounds):
                packets += stream.encode(None)
            out.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
        return path

    return make


def late_in(path: Any) -> bool:
    with av.open(path, options=SHORT_SIGHTED) as container:
        assert not has_late_streams(container)
        for _ in demux(container):
            pass
        return has_late_streams(container)


def test_a_stream_that_begins_late_beside_one_of_its_kind_is_noticed(programme_stream):
    assert late_in(programme_stream(ALWAYS, (3, 4)))


def test_streams_that_are_known_are_not_late(programme_stream):
    assert not late_in(programme_stream(ALWAYS, ALWAYS))


def test_a_tag_that_looks_like_a_stream_is_none(clip, tmp_path):
    with av.open(clip()) as given, av.open(tmp_path / "out.flv", "w") as out:
        out.metadata["title"] = "one\n  Stream #0:7: Audio"
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    assert not late_in(tmp_path / "out.flv")


def test_the_log_is_as_it_was(programme_stream):
    before = av.logging.get_level()
    late_in(programme_stream(ALWAYS, (3, 4)))
    assert av.logging.get_level() == before


def test_ratios_are_fractions_or_nothing(programme_stream):
    with av.open(programme_stream(ALWAYS)) as container:
        video = container.streams.video[0]
        assert type(fraction(video.time_base)) is Fraction
        assert fraction(video.time_base) == Fraction(1, 90000)
    assert fraction(av.VideoFrame(16, 16, "gray").time_base) is None
    assert fraction(None) is None
