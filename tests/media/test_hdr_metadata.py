"""Static HDR metadata is read from frames and written by the encoders that can."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import av
import numpy as np
import pytest

from rave_trio.media.hdr import ContentLight, HdrMetadata, MasteringDisplay, encoder_params, read

P3_DISPLAY = MasteringDisplay(
    primaries=(
        (Fraction(68, 100), Fraction(32, 100)),
        (Fraction(265, 1000), Fraction(69, 100)),
        (Fraction(15, 100), Fraction(6, 100)),
    ),
    white_point=(Fraction(3127, 10000), Fraction(329, 1000)),
    min_luminance=Fraction(5, 1000),
    max_luminance=Fraction(1000),
)
LIGHT = ContentLight(1000, 400)
BOTH = HdrMetadata(P3_DISPLAY, LIGHT)

FAST = {
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=error"},
    "libsvtav1": {"preset": "13", "svtav1-params": "lp=1"},
    "ffv1": {},
}


def encode(path: Any, encoder: str, hdr: HdrMetadata | None, *, format: str | None = None) -> Any:
    """Four 10-bit PQ frames, with the metadata's options beside those that are there already."""
    options = dict(FAST[encoder])
    for name, value in (encoder_params(encoder, hdr) if hdr else {}).items():
        options[name] = f"{options[name]}:{value}" if name in options else value
    with av.open(path, "w", format=format) as out:
        stream = out.add_stream(encoder, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 16, 1
        for index in range(4):
            picture = np.full((64, 64, 3), 50 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p10le")
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def read_first(path: Path) -> HdrMetadata | None:
    with av.open(path) as source:
        return read(next(source.decode(video=0)))


def remux(source: Path, target: Path) -> Path:
    with av.open(source) as given, av.open(target, "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0], opaque=True)
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return target


def differences(found: HdrMetadata | None, wanted: HdrMetadata) -> list[float]:
    """By how much each number is off."""

    def numbers(hdr: HdrMetadata) -> list[Fraction]:
        display = hdr.mastering
        places = [*display.primaries, display.white_point]
        return [*(n for place in places for n in place), display.min_luminance, display.max_luminance]

    assert found is not None
    return [abs(float(a - b)) for a, b in zip(numbers(found), numbers(wanted), strict=True)]


@pytest.mark.parametrize("extension", ["mkv", "mp4"])
@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
def test_h264_and_h265_give_back_the_same_metadata(tmp_path, encoder, extension):
    assert read_first(encode(tmp_path / f"out.{extension}", encoder, BOTH)) == BOTH


@pytest.mark.parametrize("extension", ["mkv", "mp4"])
def test_av1_gives_back_the_metadata_within_its_steps(tmp_path, extension):
    found = read_first(encode(tmp_path / f"out.{extension}", "libsvtav1", BOTH))
    *colours, least, greatest = differences(found, BOTH)
    assert max(colours) <= 1 / 2**17
    assert least <= 1 / 2**15
    assert greatest <= 1 / 2**9
    assert found.light == LIGHT


@pytest.mark.parametrize("encoder", ["libx264", "libx265", "libsvtav1"])
def test_light_levels_go_without_a_display(tmp_path, encoder):
    hdr = HdrMetadata(None, LIGHT)
    assert read_first(encode(tmp_path / "out.mkv", encoder, hdr)) == hdr


@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
def test_a_display_goes_without_light_levels(tmp_path, encoder):
    hdr = HdrMetadata(P3_DISPLAY, None)
    assert read_first(encode(tmp_path / "out.mkv", encoder, hdr)) == hdr


def test_a_display_goes_without_light_levels_in_av1(tmp_path):
    found = read_first(encode(tmp_path / "out.mkv", "libsvtav1", HdrMetadata(P3_DISPLAY, None)))
    assert found is not None
    assert found.light is None
    assert found.mastering is not None


@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
@pytest.mark.parametrize(
    "known",
    [
        MasteringDisplay(primaries=P3_DISPLAY.primaries, white_point=P3_DISPLAY.white_point),
        MasteringDisplay(min_luminance=Fraction(1, 100), max_luminance=Fraction(4000)),
        attrs.evolve(P3_DISPLAY, min_luminance=Fraction(0)),
    ],
    ids=["colours only", "luminances only", "black of no light"],
)
def test_what_is_known_of_a_display_is_kept(tmp_path, encoder, known):
    hdr = HdrMetadata(known, LIGHT)
    assert read_first(encode(tmp_path / "out.mkv", encoder, hdr)) == hdr


def test_a_display_known_in_part_is_not_written_as_av1():
    partly = HdrMetadata(MasteringDisplay(max_luminance=Fraction(1000)), LIGHT)
    assert encoder_params("libsvtav1", partly) == {"svtav1-params": "content-light=1000,400"}
    assert encoder_params("libsvtav1", HdrMetadata(partly.mastering, None)) == {}


def test_the_options_are_those_that_the_encoders_document():
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    assert encoder_params("libx265", BOTH) == {"x265-params": f"master-display={display}:max-cll=1000,400"}
    assert encoder_params("libx264", BOTH) == {"x264-params": f"mastering-display={display}:cll=1000,400"}


def test_ffv1_cannot_carry_it(tmp_path):
    assert encoder_params("ffv1", BOTH) == {}
    assert read_first(encode(tmp_path / "out.mkv", "ffv1", BOTH)) is None


@pytest.mark.parametrize("encoder", ["libx264", "libx265", "libsvtav1", "ffv1"])
def test_a_picture_without_metadata_has_none(tmp_path, encoder):
    assert read_first(encode(tmp_path / "out.mkv", encoder, None)) is None


class Unseekable:
    """A file that can only be written on: Matroska then has no sizes to correct and no index."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += bytes(data)
        return len(data)


def element(identifier: bytes, content: bytes) -> bytes:
    """An EBML element with its size in eight bytes."""
    return identifier + (1 << 56 | len(content)).to_bytes(8, "big") + content


def elements(data: bytes) -> list[tuple[bytes, bytes]]:
    """The EBML elements in ``data``: identifiers with their length marks, and contents."""
    found, place = [], 0
    while place < len(data):
        width = 9 - data[place].bit_length()
        identifier, place = data[place : place + width], place + width
        width = 9 - data[place].bit_length()
        size = int.from_bytes(data[place : place + width], "big") & (1 << 7 * width) - 1
        place += width
        found.append((identifier, data[place : place + size]))  # an unknown size reaches to the end
        place += size
    return found


def added_within(data: bytes, path: list[str], added: bytes) -> bytes:
    """``data`` with ``added`` at the end of the element at ``path``, without check sums and tables of positions."""
    if not path:
        return data + added
    made = b""
    for identifier, content in elements(data):
        if identifier.hex() == path[0]:
            content = added_within(content, path[1:], added)
        if identifier.hex() not in ("bf", "ec", "114d9b74"):
            made += element(identifier, content)
    return made


def in_the_container_only(path: Path, encoder: str) -> Path:
    """A Matroska file with the metadata in the track's header (RFC 9559, 5.1.4.1.28) and nowhere else."""
    written = Unseekable()
    encode(written, encoder, None, format="matroska")
    numbers = [0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 1000.0, 0.005]
    tags = [bytes([0x55, 0xD1 + index]) for index in range(10)]
    mastering = b"".join(
        element(tag, np.array(number, ">f8").tobytes()) for tag, number in zip(tags, numbers, strict=True)
    )
    light = element(b"\x55\xbc", (1000).to_bytes(2, "big")) + element(b"\x55\xbd", (400).to_bytes(2, "big"))
    where = ["18538067", "1654ae6b", "ae", "e0", "55b0"]  # Segment, Tracks, TrackEntry, Video, Colour
    path.write_bytes(added_within(written.data, where, element(b"\x55\xd0", mastering) + light))
    return path


@pytest.mark.parametrize("encoder", ["libx264", "libx265", "libsvtav1", "ffv1"])
def test_metadata_that_only_the_container_has_is_read(tmp_path, encoder):
    found = read_first(in_the_container_only(tmp_path / "container.mkv", encoder))
    assert max(differences(found, BOTH)) < 1e-6
    assert found.light == LIGHT


@pytest.mark.parametrize("extension", ["mkv", "mp4", "mov"])
def test_a_copy_of_the_stream_keeps_what_the_container_says(tmp_path, extension):
    source = in_the_container_only(tmp_path / "container.mkv", "libx264")
    found = read_first(remux(source, tmp_path / f"copy.{extension}"))
    assert max(differences(found, BOTH)) < 1e-4
    assert found.light == LIGHT
