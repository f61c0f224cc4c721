"""Key frames whose headers tell a change of size."""

from __future__ import annotations

import av
import pytest

from rave_trio.media.nvdec_headers import headers_of, size_in

CODECS = [
    ("libx264", "ts", "h264"),
    ("libx265", "ts", "hevc"),
    ("mpeg2video", "ts", "mpeg2video"),
    ("mpeg1video", "mpg", "mpeg1video"),
    ("mpeg4", "ts", "mpeg4"),
    ("libvpx", "webm", "vp8"),
    ("libvpx-vp9", "webm", "vp9"),
]


def key_frames(path):
    with av.open(path) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size and packet.is_keyframe]


@pytest.mark.parametrize(("encoder", "container", "codec"), CODECS)
def test_headers_are_the_same_as_long_as_the_size_is(clip, encoder, container, codec):
    options = {"g": "4", "bf": "0"} if not encoder.startswith("libvpx") else {"g": "4", "deadline": "realtime"}
    small, large = (
        key_frames(clip(f"{width}.{container}", frames=10, width=width, height=48, codec=encoder, options=options))
        for width in (64, 96)
    )
    assert len(small) >= 2
    headers = {headers_of(codec, data) for data in small}
    assert len(headers) == 1
    assert headers != {b""}
    assert headers_of(codec, large[0]) not in headers
    assert [size_in(codec, data) for data in (small[0], large[0])] == [(64, 48), (96, 48)]


def test_a_packet_that_is_no_picture_has_no_size():
    assert size_in("h264", bytes(100)) is None
