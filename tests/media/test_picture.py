"""What pictures say of themselves that libav knows and that PyAV has a name for in some versions only."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import pytest
from av.sidedata.sidedata import Type

import rave_trio
from rave_trio.media.probe import probe

WHAT_IS_LOST = "EXIF data" if "EXIF" in Type.__members__ else "side data of a kind that cannot be read"

ORIENTATION, SHORT, TURNED = 0x112, 3, 6


@pytest.fixture
def photographs(tmp_path):
    """JPEG pictures with EXIF data, as cameras write them."""
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 32, 32, "yuvj420p", Fraction(1, 25)
    frame = av.VideoFrame(32, 32, "yuvj420p")
    frame.pts = 0
    picture = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    directory = struct.pack("<HHHIHHI", 1, ORIENTATION, SHORT, 1, TURNED, 0, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + directory
    for number in range(3):
        segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        (tmp_path / f"{number}.jpg").write_bytes(picture[:2] + segment + picture[2:])
    return tmp_path / "%d.jpg"


def test_pictures_with_exif_data_can_be_used_and_what_is_lost_is_named(photographs):
    video = probe(photographs).video
    assert video.hdr is None
    assert video.uncarried == (WHAT_IS_LOST,)


def test_what_cannot_be_compared_is_said(photographs):
    comparison = rave_trio.compare(photographs, photographs)
    assert comparison.same
    assert f"source: {WHAT_IS_LOST} is not compared" in comparison.information
