"""NVDEC on a GPU: the pictures and times of the software decoder, and nothing left behind."""

from __future__ import annotations

import random
import sys
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from av.packet import Packet
from nvdec_pictures import differences, frames_of

from rave_trio import errors
from rave_trio.devices.interface import use
from rave_trio.devices.nvidia import probe_nvidia
from rave_trio.devices.pool import device_pool
from rave_trio.media.decoder import LibavDecoder
from rave_trio.media.nvdec import NvdecDecoder
from rave_trio.media.nvdec_formats import nvdec_refusal, nvdec_surface
from rave_trio.media.probe import probe
from rave_trio.memory import Ledger

X265 = {"x265-params": "log-level=none:keyint=12:bframes=3"}
B_FRAMES = {"bf": "3", "g": "12"}
OPEN_GOP = {"bf": "3", "g": "12", "x264-params": "open-gop=1"}


def tell(what: object) -> None:
    """Shown by pytest -rP, and of tests that fail."""
    sys.stdout.write(f"{what}\n")


@pytest.fixture(scope="module")
def engines(cuda):
    found = [gpu for gpu in probe_nvidia().usable if gpu.cuda_ordinal == cuda.ordinal]
    return found[0].video


class Rig:
    def __init__(self, device, engines) -> None:
        self.device, self.engines = device, engines
        self.stream = device.stream()
        self.ledger = Ledger()
        self.pool = device_pool(device, self.ledger)

    def decoder(self, source, **how) -> NvdecDecoder:
        media = source if hasattr(source, "video") else probe(source)
        if why := nvdec_refusal(media, self.engines):
            pytest.skip(why)
        return NvdecDecoder(media, self.device, self.pool, **how)

    def read(self, array) -> np.ndarray:
        from rave_trio.devices.copies import copy_to_host

        back = np.empty(array.shape, array.dtype)
        with use(self.stream, array.memory):
            copy_to_host(self.stream, array, back)
        self.stream.synchronize()
        return back


@pytest.fixture
def rig(cuda, engines):
    before = cuda.used
    rig = Rig(cuda, engines)
    yield rig
    assert rig.pool.stats().leased == 0
    rig.pool.close()
    assert rig.ledger.stats().current == 0
    assert cuda.used == before


def compare(rig, source, *, most=0, **how):
    media = probe(source)
    decoder, software = rig.decoder(media, **how), LibavDecoder(media, **how)
    found, expected = frames_of(decoder, rig.read, ahead=True), frames_of(software)
    assert differences(found, expected, most) == []
    assert decoder.defect is None
    assert decoder.exhausted
    assert decoder.findings == software.findings
    assert decoder.surface == nvdec_surface(media)
    return found


@pytest.mark.parametrize(
    ("codec", "pixels", "container", "options"),
    [
        ("libx264", "yuv420p", "mkv", B_FRAMES),
        ("libx264", "yuv420p", "mp4", B_FRAMES),
        ("libx264", "yuv420p", "ts", B_FRAMES),
        ("libx264", "yuv420p", "mkv", OPEN_GOP),
        ("libx264", "yuv420p", "mp4", {"bf": "0", "g": "250"}),
        ("libx264", "yuv420p", "mkv", {"x264-params": "aud=1:bframes=3:keyint=12"}),
        ("libx264", "yuvj420p", "mkv", B_FRAMES),
        ("libx264", "yuv422p", "mkv", B_FRAMES),
        ("libx264", "yuv420p10le", "mkv", B_FRAMES),
        ("libx265", "yuv420p", "mkv", X265),
        ("libx265", "yuv420p", "mp4", X265),
        ("libx265", "yuv420p", "ts", X265),
        ("libx265", "yuv420p10le", "mkv", X265),
        ("libx265", "yuv420p12le", "mp4", X265),
        ("libx265", "yuv422p10le", "mkv", X265),
        ("libx265", "yuv444p", "mkv", X265),
        ("libx265", "yuv444p10le", "mkv", X265),
        ("libx265", "yuv444p12le", "mkv", X265),
        ("libvpx-vp9", "yuv420p", "webm", {"deadline": "realtime", "cpu-used": "8"}),
        ("libvpx-vp9", "yuv420p", "webm", {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "b": "500k"}),
        ("libvpx-vp9", "yuv420p", "mp4", {"deadline": "realtime", "cpu-used": "8"}),
        ("libvpx", "yuv420p", "webm", {"deadline": "realtime", "cpu-used": "8"}),
        ("libsvtav1", "yuv420p", "mkv", {"preset": "10"}),
        ("libsvtav1", "yuv420p10le", "mp4", {"preset": "10"}),
    ],
)
def test_the_pictures_are_those_of_the_software_decoder_to_the_bit(rig, clip, codec, pixels, container, options):
    source = clip(
        f"in.{container}", frames=40, width=320, height=180, codec=codec, pixel_format=pixels, options=options
    )
    assert len(compare(rig, source)) == 40


@pytest.mark.parametrize(
    ("codec", "container"),
    [("mpeg2video", "ts"), ("mpeg2video", "mkv"), ("mpeg1video", "mpg"), ("mpeg4", "mp4"), ("mpeg4", "mkv")],
)
def test_where_the_standard_leaves_the_transform_open_the_pictures_are_close(rig, clip, codec, container):
    options = {"g": "12", "bf": "2", "b": "4M"}
    source = clip(f"in.{container}", frames=40, width=320, height=180, codec=codec, options=options)
    media = probe(source)
    decoder = rig.decoder(media)
    found, expected = frames_of(decoder, rig.read), frames_of(LibavDecoder(media))
    assert [(f.pts, f.duration, f.key_frame) for f in found] == [(f.pts, f.duration, f.key_frame) for f in expected]
    apart = [
        int(np.abs(a.astype(int) - b.astype(int)).max())
        for ours, theirs in zip(found, expected, strict=True)
        for a, b in zip(ours.planes, theirs.planes, strict=True)
    ]
    tell(f"{codec} in {container}: samples are {max(apart)} apart at most")
    assert max(apart) <= 8


@pytest.mark.parametrize("size", [(1920, 1080), (854, 480), (1366, 768), (322, 182)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_the_picture_is_cut_to_the_size_that_is_shown(rig, clip, codec, size):
    width, height = size
    options = X265 if codec == "libx265" else B_FRAMES
    compare(rig, clip(frames=6, width=width, height=height, codec=codec, options=options))


@pytest.mark.parametrize("size", [(321, 181), (321, 180), (320, 181)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_odd_sizes_keep_their_last_row_and_column(rig, clip, size):
    width, height = size
    options = {"deadline": "realtime", "cpu-used": "8"}
    compare(rig, clip("in.webm", frames=6, width=width, height=height, codec="libvpx-vp9", options=options))


@pytest.mark.parametrize("size", [(321, 181), (320, 181)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_odd_sizes_of_full_chroma_keep_their_last_row_and_column(rig, clip, size):
    width, height = size
    source = clip(frames=6, width=width, height=height, codec="libx265", pixel_format="yuv444p", options=X265)
    compare(rig, source)


def test_the_real_clip_is_the_same(rig, bunny):
    assert len(compare(rig, bunny)) == 96


def test_vp9_of_ten_bits_is_the_same_to_the_bit(rig, bunny):
    assert len(compare(rig, bunny.with_name("vp9-10bit.webm"))) == 24


def test_times_of_variable_rate_come_through_exactly(rig, clip):
    pts = [7, 40, 95, 96, 200, 333, 334, 700, 701, 900]
    options = {"bf": "2", "g": "5"}
    source = clip("in.mkv", frames=10, pts=pts, time_base=Fraction(1, 1000), options=options)
    assert [shown.pts for shown in compare(rig, source)] == pts


def copied(whole, target, chosen, change=lambda packet: packet):
    with av.open(whole) as before, av.open(target, "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0], opaque=True)
        for packet in [packet for packet in before.demux(video=0) if packet.size][chosen]:
            packet = change(packet)
            packet.stream = stream
            after.mux_one(packet)
    return target


@pytest.mark.parametrize("options", [{"g": "12", "bf": "0"}, B_FRAMES, OPEN_GOP], ids=["P", "B", "open GOP"])
@pytest.mark.parametrize("container", ["mkv", "ts"])
def test_a_recording_that_begins_between_key_frames_is_the_same_from_the_first_key_frame_on(
    rig, clip, tmp_path, options, container
):
    whole = clip(f"whole.{container}", frames=60, width=320, height=180, options=options)
    media = probe(copied(whole, tmp_path / f"in.{container}", slice(5, None)))
    decoder = rig.decoder(media)
    found, expected = frames_of(decoder, rig.read), frames_of(LibavDecoder(media))
    tell(f"it begins at {found[0].pts}, and in software at {expected[0].pts}")
    begin = next(shown.pts for shown in expected if shown.key_frame)
    ours, theirs = ([shown for shown in some if shown.pts >= begin] for some in (found, expected))
    assert differences(ours, theirs) == []
    assert decoder.defect is None


def test_frames_that_an_edit_list_hides_are_not_shown(rig, clip, tmp_path):
    def earlier(packet):
        packet.pts, packet.dts = packet.pts - 10 * packet.duration, packet.dts - 10 * packet.duration
        return packet

    whole = clip("whole.mp4", frames=30, width=320, height=180, options={"g": "30", "bf": "0"})
    compare(rig, copied(whole, tmp_path / "in.mp4", slice(None), earlier))


def test_damage_costs_no_frame_and_no_time(rig, clip, tmp_path):
    noise = random.Random(7)

    def spoilt(packet):
        if packet.pts != 800:
            return packet
        data = bytearray(bytes(packet))
        data[5:] = (noise.randrange(1, 256) for _ in data[5:])
        made = Packet(bytes(data))
        made.pts, made.dts, made.duration, made.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
        return made

    whole = clip("whole.mkv", frames=40, width=320, height=180, options={"bf": "0", "g": "10"})
    decoder = rig.decoder(copied(whole, tmp_path / "in.mkv", slice(None), spoilt))
    found = frames_of(decoder, rig.read)
    tell(f"repeated: {decoder.findings.repeated_frames}")
    assert [shown.pts for shown in found] == [40 * i for i in range(40)]


@pytest.mark.parametrize("size", [(256, 144), (640, 360)], ids=["smaller", "larger"])
def test_a_picture_that_changes_ends_the_reading(rig, clip, tmp_path, size):
    width, height = size
    parts = [
        clip("a.ts", frames=20, width=320, height=180, options=B_FRAMES),
        clip("b.ts", frames=20, width=width, height=height, options=B_FRAMES),
    ]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    decoder = rig.decoder(source)
    found = frames_of(decoder, rig.read)
    tell(f"{len(found)} of 20 frames before the change; {decoder.defect}")
    assert 0 < len(found) <= 20
    assert isinstance(decoder.defect, errors.DecodeError)
    assert "the picture changes" in str(decoder.defect)


def test_what_the_chip_is_said_not_to_decode_it_refuses(rig, clip):
    source = clip(frames=10, width=320, height=180, pixel_format="yuv444p", options=B_FRAMES)
    media = probe(source)
    if nvdec_refusal(media, rig.engines) is None:
        pytest.skip("this chip decodes H.264 in 4:4:4")
    decoder = NvdecDecoder(media, rig.device, rig.pool)
    assert frames_of(decoder, rig.read) == []
    assert isinstance(decoder.defect, errors.DecodeError)
    tell(decoder.defect)


def test_each_frame_may_be_read_in_another_thread(rig, clip):
    source = clip(frames=20, width=320, height=180, options=B_FRAMES)
    media = probe(source)
    decoder, expected = rig.decoder(media), frames_of(LibavDecoder(media))

    class Elsewhere:
        def _call(self, what):
            results = []
            thread = threading.Thread(target=lambda: results.append(what()))
            thread.start()
            thread.join()
            return results[0]

        def read(self):
            return self._call(decoder.read)

        def close(self):
            self._call(decoder.close)

    assert differences(frames_of(Elsewhere(), rig.read), expected) == []


@pytest.mark.parametrize("read", [0, 1, 9])
def test_closing_early_leaves_nothing(rig, clip, read):
    decoder = rig.decoder(clip(frames=20, width=320, height=180))
    for _ in range(read):
        decoder.read().close()
    decoder.close()
    decoder.close()
    assert decoder.read() is None


def test_two_decoders_run_at_once(rig, clip):
    source = clip(frames=20, width=320, height=180, options=B_FRAMES)
    media = probe(source)
    expected = frames_of(LibavDecoder(media))
    first, second = rig.decoder(media), rig.decoder(media)
    frames = [(first.read(), second.read()) for _ in range(20)]
    for index, pair in enumerate(frames):
        for frame in pair:
            luma = rig.read(frame.surface.native.planes[0])
            assert (luma == expected[index].planes[0]).all()
            frame.close()
    first.close()
    second.close()


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_how_fast_it_decodes(rig, clip, codec):
    options = {"preset": "ultrafast"} | ({"x265-params": "log-level=none"} if codec == "libx265" else {})
    decoder = rig.decoder(clip(frames=200, width=1920, height=1080, codec=codec, options=options))
    decoder.read().close()
    began = time.perf_counter()
    count = 0
    while (frame := decoder.read()) is not None:
        frame.close()
        count += 1
    seconds = time.perf_counter() - began
    decoder.close()
    tell(f"{codec} 1920x1080: {count} frames in {seconds:.3f} s, {count / seconds:.0f} frames a second")
    assert count == 199
