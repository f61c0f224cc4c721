"""NVDEC's engine on a stand-in for PyNvVideoCodec: the pictures, times and findings of the software decoder."""

from __future__ import annotations

from fractions import Fraction

import attrs
import av
import numpy as np
import nvdec_standin
import pytest
from av.packet import Packet
from nvdec_pictures import codes, differences, frames_of
from nvdec_standin import NvdecDevice, PyNvVCException, PyNvVCExceptionUnsupported, StandIn

from rave_trio import errors
from rave_trio.devices.nvidia import DecoderFormat, VideoEngines
from rave_trio.devices.pool import device_pool
from rave_trio.frames import ColorRange
from rave_trio.media.decoder import LibavDecoder
from rave_trio.media.nvdec import NvdecDecoder
from rave_trio.media.nvdec_formats import nvdec_refusal, nvdec_surface
from rave_trio.media.probe import probe
from rave_trio.memory import Ledger

QUIET = {"libx265": {"x265-params": "log-level=none"}, "libx264": {"bf": "3", "g": "12"}}


class Rig:
    """A simulated device whose streams run behind, and decoders on it."""

    def __init__(self, limit: int | None = None) -> None:
        self.device = NvdecDevice(latency=1.0, seed=5)
        self.ledger = Ledger(limit)
        self.pool = device_pool(self.device, self.ledger)
        self.module = StandIn(self.device)

    def decoder(self, source, **how) -> NvdecDecoder:
        media = source if hasattr(source, "video") else probe(source)
        return NvdecDecoder(media, self.device, self.pool, module=self.module, copy=nvdec_standin.copy, **how)

    def read(self, array) -> np.ndarray:
        if array.memory.last_use is not None:
            array.memory.last_use.wait()
        raw = array.memory.array((array.memory.nbytes,), np.uint8)[array.offset :]
        return np.ndarray(array.shape, array.dtype, raw, strides=(array.pitch, array.dtype.itemsize)).copy()

    def close(self) -> None:
        assert self.pool.stats().leased == 0
        assert self.module.open_decoders == 0
        self.pool.close()
        self.device.close()
        assert self.device.used == self.ledger.stats().current == 0


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


def compare(rig, source, **how):
    media = probe(source)
    decoder, software = rig.decoder(media, **how), LibavDecoder(media, **how)
    found, expected = frames_of(decoder, rig.read, ahead=True), frames_of(software)
    assert differences(found, expected) == []
    assert decoder.defect is None
    assert decoder.exhausted
    assert decoder.findings == software.findings
    assert decoder.shifts == software.shifts
    return found


@pytest.mark.parametrize(
    ("codec", "pixels", "container", "surface"),
    [
        ("libx264", "yuv420p", "mkv", "nv12"),
        ("libx264", "yuv420p", "mp4", "nv12"),
        ("libx264", "yuv420p", "ts", "nv12"),
        ("libx264", "yuvj420p", "mkv", "nv12"),
        ("libx264", "yuv422p", "mkv", "nv16"),
        ("libx264", "yuv422p10le", "mkv", "p210le"),
        ("libx264", "yuv444p10le", "mkv", "yuv444p10msble"),
        ("libx265", "yuv420p", "mp4", "nv12"),
        ("libx265", "yuv420p10le", "mkv", "p010le"),
        ("libx265", "yuv420p12le", "mkv", "p012le"),
        ("libx265", "yuv444p", "mkv", "yuv444p"),
        ("libx265", "yuv444p12le", "mkv", "yuv444p12msble"),
        ("libvpx-vp9", "yuv420p", "webm", "nv12"),
        ("libvpx", "yuv420p", "webm", "nv12"),
        ("mpeg2video", "yuv420p", "ts", "nv12"),
        ("mpeg2video", "yuv420p", "mkv", "nv12"),
        ("mpeg4", "yuv420p", "mp4", "nv12"),
    ],
)
def test_the_pictures_and_times_are_those_of_the_software_decoder(rig, clip, codec, pixels, container, surface):
    source = clip(f"in.{container}", frames=30, codec=codec, pixel_format=pixels, options=QUIET.get(codec))
    assert len(compare(rig, source)) == 30
    assert nvdec_surface(probe(source)).pixel_format.name == surface


@pytest.mark.parametrize("size", [(64, 50), (66, 48), (130, 98), (1920, 1080)])
def test_the_picture_is_cut_to_the_size_that_is_shown(rig, clip, size):
    width, height = size
    compare(rig, clip(frames=3, width=width, height=height))


@pytest.mark.parametrize("size", [(65, 49), (33, 17), (64, 47)])
@pytest.mark.parametrize("codec", ["libvpx-vp9", "mpeg2video"])
def test_odd_sizes_keep_their_last_row_and_column(rig, clip, codec, size):
    width, height = size
    compare(rig, clip(frames=6, width=width, height=height, codec=codec))


def test_the_real_clip_is_the_same(rig, bunny):
    assert len(compare(rig, bunny)) == 96


def test_times_of_variable_rate_come_through_exactly(rig, clip):
    pts = [7, 40, 95, 96, 200, 333, 334, 700, 701, 900]
    options = {"bf": "2", "g": "5"}
    source = clip("in.mkv", frames=10, pts=pts, time_base=Fraction(1, 1000), options=options)
    assert [shown.pts for shown in compare(rig, source)] == pts


def test_frames_that_an_edit_list_hides_are_decoded_and_not_shown(rig, clip, tmp_path):
    whole = clip("whole.mp4", frames=30, options={"g": "30", "bf": "0"})
    trimmed = tmp_path / "in.mp4"
    with av.open(whole) as before, av.open(trimmed, "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0], opaque=True)
        for packet in before.demux(video=0):
            if packet.size:
                packet.pts, packet.dts = packet.pts - 10 * packet.duration, packet.dts - 10 * packet.duration
                packet.stream = stream
                after.mux_one(packet)
    compare(rig, trimmed)


def test_a_recording_that_begins_between_key_frames_begins_where_it_can_be_decoded(rig, clip, tmp_path):
    whole = clip("whole.mkv", frames=40, options={"g": "12", "bf": "0"})
    with av.open(whole) as before, av.open(tmp_path / "in.mkv", "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0], opaque=True)
        for packet in list(before.demux(video=0))[5:40]:
            packet.stream = stream
            after.mux_one(packet)
    compare(rig, tmp_path / "in.mkv")


def test_times_that_begin_again_are_shifted_as_for_the_software_decoder(rig, clip, tmp_path):
    part = clip("part.ts", frames=60, options={"g": "10", "bf": "2"})
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 2)
    media = probe(joined)
    decoder = rig.decoder(media)
    found, expected = frames_of(decoder, rig.read), frames_of(LibavDecoder(media))
    assert [shown.pts for shown in found] == [shown.pts for shown in expected]


def test_a_packet_that_gives_no_picture_shows_the_one_before_in_the_same_memory(rig, clip):
    source = clip("in.webm", frames=20, codec="libvpx", options={"g": "1"})
    rig.module.lose = (7, 8)
    decoder = rig.decoder(source)
    frames = []
    while (frame := decoder.read()) is not None:
        frames.append(frame)
    assert len(frames) == 20
    assert decoder.findings.repeated_frames == 2
    memories = [frame.surface.native.memory for frame in frames]
    assert memories[6] is memories[7] is memories[8] is not memories[9]
    for closed in (6, 8):
        frames[closed].close()
    assert all((a == b).all() for a, b in zip(codes(frames[7], rig.read), codes(frames[7], rig.read), strict=True))
    assert rig.pool.stats().leased == 18
    for frame in frames:
        frame.close()
    decoder.close()


def test_a_strict_reading_ends_where_a_packet_gives_no_picture(rig, clip):
    rig.module.lose = (7,)
    decoder = rig.decoder(clip("in.webm", frames=20, codec="libvpx", options={"g": "1"}), strict=True)
    assert len(frames_of(decoder, rig.read)) == 7
    assert isinstance(decoder.defect, errors.DecodeError)


def test_reading_goes_on_with_room_for_two_pictures(clip):
    """One that the caller has, and one that the decoder keeps for repeating."""
    rig = Rig(limit=2 * 32768)
    source = clip(frames=30, width=64, height=48, options={"bf": "3"})
    decoder = rig.decoder(source)
    assert len(frames_of(decoder, rig.read)) == 30
    assert rig.pool.stats().waits == 0
    rig.close()


@pytest.mark.parametrize("read", [0, 1, 9])
def test_closing_early_leaves_nothing(rig, clip, read):
    decoder = rig.decoder(clip(frames=20))
    for _ in range(read):
        decoder.read().close()
    decoder.close()
    decoder.close()
    assert decoder.read() is None


@pytest.mark.parametrize("size", [(48, 32), (96, 64)])
def test_a_picture_that_changes_ends_the_reading(rig, clip, tmp_path, size):
    width, height = size
    parts = [clip("a.ts", frames=12), clip("b.ts", frames=12, width=width, height=height)]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    decoder = rig.decoder(source)
    found = frames_of(decoder, rig.read)
    assert 0 < len(found) <= 12
    assert isinstance(decoder.defect, errors.DecodeError)
    assert "the picture changes" in str(decoder.defect)
    assert "split the input" in decoder.defect.remedy


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (PyNvVCException, "cuvidDecodePicture : \nError code : 999\nError Type : Codec broken\nat /x.cpp:274\n"),
        (PyNvVCExceptionUnsupported, "HandleVideoSequence : \nError Type : Codec broken\nat /x.cpp:2\n"),
        (RuntimeError, "Codec broken"),
    ],
)
def test_what_the_library_raises_ends_the_reading_with_its_words(rig, clip, kind, words):
    decoder = rig.decoder(clip(frames=20))
    first = decoder.read()
    rig.module.refuse = lambda: kind(words)
    frames_of(decoder, rig.read)
    first.close()
    assert isinstance(decoder.defect, errors.DecodeError)
    assert "Codec broken" in str(decoder.defect)
    assert ".cpp" not in str(decoder.defect)


def test_captions_that_are_left_out_are_counted(rig, clip, tmp_path):
    whole = clip("whole.ts", frames=10, codec="mpeg2video")
    source = tmp_path / "in.ts"
    with av.open(whole) as before, av.open(source, "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0], opaque=True)
        for packet in before.demux(video=0):
            if packet.size:
                after.mux_one(_captioned(packet, stream))
    decoder = rig.decoder(source)
    frames_of(decoder, rig.read)
    assert decoder.findings.captions_lost == 10
    assert any("captions of 10 frames" in note for note in decoder.findings.notes())
    assert "captions" in nvdec_refusal(probe(source), H200)


def _captioned(packet, stream):
    """The packet with a caption before its first slice (ATSC A/53, part 4, 6.2.3)."""
    data = bytes(packet)
    at = data.index(b"\x00\x00\x01\x01")
    made = Packet(data[:at] + b"\x00\x00\x01\xb2GA94\x03\xc1\xff\xfc\x94\x20\xff" + data[at:])
    made.pts, made.dts, made.duration, made.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    made.is_keyframe, made.stream = packet.is_keyframe, stream
    return made


def test_full_range_that_only_the_format_told_is_told_by_the_tag(clip):
    media = probe(clip(pixel_format="yuvj420p"))
    assert nvdec_surface(media).color.range == ColorRange.FULL


H200 = VideoEngines(
    decoders=(
        DecoderFormat("h264", "4:2:0", 8, 4096, 4096, 48, 16),
        DecoderFormat("hevc", "4:2:0", 8, 8192, 8192, 144, 144),
        DecoderFormat("hevc", "4:4:4", 10, 8192, 8192, 144, 144),
        DecoderFormat("mpeg2video", "4:2:0", 8, 4080, 4080, 48, 16),
    )
)


def test_what_the_chip_decodes_is_not_refused(clip):
    assert nvdec_refusal(probe(clip()), H200) is None
    assert nvdec_refusal(probe(clip()), H200, "auto") is None


@pytest.mark.parametrize(
    ("made", "engines", "deinterlace", "why"),
    [
        ({"codec": "ffv1"}, H200, "off", "ffv1 is not decoded by NVDEC"),
        ({"codec": "libvpx-vp9"}, H200, "off", "does not decode vp9 in 4:2:0 with 8 bits"),
        ({"pixel_format": "yuv444p"}, H200, "off", "does not decode h264 in 4:4:4"),
        ({"pixel_format": "yuv420p10le"}, H200, "off", "with 10 bits"),
        ({"width": 32}, H200, "off", "from 48x16 on, and this is 32x48"),
        ({}, H200, "bwdif", "interlaced pictures are decoded and deinterlaced in software"),
        ({}, VideoEngines(notes=("PyNvVideoCodec is not installed",)), "off", "PyNvVideoCodec is not installed"),
        ({}, VideoEngines(), "off", "has no NVDEC"),
        ({"name": "in.avi"}, H200, "off", "no presentation times"),
    ],
)
def test_what_the_chip_does_not_decode_is_refused_with_the_reason(clip, made, engines, deinterlace, why):
    assert why in nvdec_refusal(probe(clip(**made)), engines, deinterlace)


def test_large_pictures_interlaced_ones_and_strict_readings_are_refused(clip):
    media = probe(clip())
    large = attrs.evolve(media.video.surface, width=5000)
    assert "up to 4096x4096" in nvdec_refusal(attrs.evolve(media, video=attrs.evolve(media.video, surface=large)), H200)
    assert "conceals damage" in nvdec_refusal(media, H200, strict=True)
    interlaced = attrs.evolve(media, video=attrs.evolve(media.video, interlaced=True))
    assert "interlaced" in nvdec_refusal(interlaced, H200)


def test_formats_without_surfaces_are_refused_when_asked_for(rig, clip):
    source = clip(codec="ffv1", pixel_format="gray")
    with pytest.raises(errors.InputFormatUnsupported, match="gray"):
        rig.decoder(source)
