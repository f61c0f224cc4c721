"""NVENC on its stand-in, which encodes with libx264, libx265 and libsvtav1: what comes of pictures, and what fails."""

from __future__ import annotations

import gc
import io
from fractions import Fraction

import attrs
import av
import numpy as np
import pytest
from av.codec.context import Flags

from rave_trio import errors
from rave_trio.color.cuda.planes import layout
from rave_trio.devices.interface import use
from rave_trio.devices.nvidia import EncoderFormat, VideoEngines
from rave_trio.devices.pool import device_pool
from rave_trio.frames import ChromaLocation, ColorRange, ColorSpec, Frame, Surface, SurfaceDescriptor
from rave_trio.media import hdr
from rave_trio.media._libav import describe_format
from rave_trio.media.carriage import Carriage, Fate
from rave_trio.media.elementary import HEADER, ElementaryStream, units
from rave_trio.media.encoders import ENCODERS, EncoderSettings, check_encoder, encoder_options
from rave_trio.media.hdr_messages import messages
from rave_trio.media.nvenc import NvencPartEncoder
from rave_trio.media.nvenc_library import nvenc_library
from rave_trio.media.nvenc_settings import nvenc_options, nvenc_refusal
from rave_trio.media.probe import probe
from rave_trio.media.publish import Publication, publish
from rave_trio.memory import Ledger
from rave_trio.testing.nvenc import NvencDevice, NvencStandIn
from rave_trio.testing.tensorrt import samples

WIDTH, HEIGHT = 96, 80
TICKS = Fraction(1, 90000)
COLOR = ColorSpec(9, 9, 16, ColorRange.LIMITED, ChromaLocation.TOP_LEFT)
HDR = hdr.HdrMetadata(
    hdr.MasteringDisplay(
        (
            (Fraction(17, 25), Fraction(8, 25)),
            (Fraction(53, 200), Fraction(69, 100)),
            (Fraction(3, 20), Fraction(3, 50)),
        ),
        (Fraction(3127, 10000), Fraction(329, 1000)),
        Fraction(0),
        Fraction(1000),
    ),
    hdr.ContentLight(1000, 400),
)
TAKEN = [(name, known) for name, spec in ENCODERS.items() if spec.software for known in spec.formats]


@pytest.fixture
def device():
    device = NvencDevice(1 << 24, latency=1.0, seed=9)
    yield device
    device.close()
    assert device.used == 0


@pytest.fixture
def module(device):
    module = NvencStandIn(device)
    yield module
    gc.collect()
    assert module.open == 0, "a session was left open"


@pytest.fixture
def pool(device):
    pool = device_pool(device, Ledger())
    yield pool
    assert pool.stats().leased == 0
    pool.close()


def settings_for(encoder="hevc_nvenc", pixel_format="nv12", **more):
    surface = SurfaceDescriptor(WIDTH, HEIGHT, describe_format(pixel_format), more.pop("color", COLOR))
    surface = attrs.evolve(surface, **more.pop("surface", {}))
    options = encoder_options(ENCODERS[encoder], more.pop("crf", 12), None)
    return EncoderSettings(encoder, options, surface, Fraction(24000, 1001), TICKS, **more)


def code(index):
    """What the luma of a picture is, in 8 bits: pictures can be told apart."""
    return 30 + 6 * index


class Frames:
    """Makes frames whose surface is filled on the device, some time after it was asked for."""

    def __init__(self, device, pool):
        self.device, self.pool, self.stream = device, pool, device.stream()

    def make(self, settings, index, pts=None, alignment=1):
        placed = layout(settings.surface, alignment)
        lease = self.pool.lease(placed.nbytes)
        picture = placed.picture(lease.memory)
        bits = settings.surface.pixel_format.bit_depth
        with use(self.stream, lease.memory):
            for number, plane in enumerate(picture.planes):
                value = (code(index) if number == 0 else 128) << (8 if bits > 8 else 0)
                self.stream.launch(fill, plane, value, plane.memory)
        return Frame(
            index, 3600 * index if pts is None else pts, 3600, TICKS, False, Surface(settings.surface, picture, lease)
        )


def fill(plane, value, _memory):
    samples(plane)[...] = value


@pytest.fixture
def frames(device, pool):
    return Frames(device, pool)


@pytest.fixture
def encode(tmp_path, device, module, frames):
    def run(settings, count=12, pts=None, **how):
        encoder = NvencPartEncoder(tmp_path / "part.mkv", settings, device, library=module.library, **how)
        for index in range(count):
            frame = frames.make(settings, index, None if pts is None else pts[index])
            encoder.write(frame)
            frame.close()
        part = encoder.finish()
        assert encoder.packets == part.frames == count
        assert encoder.part is part
        encoder.close()
        return part

    return run


@pytest.mark.parametrize(("encoder", "pixel_format"), TAKEN)
def test_every_format_comes_out_as_it_went_in_and_in_order(encode, encoder, pixel_format):
    settings = settings_for(encoder, pixel_format)
    part = encode(settings, b_frames=3)
    with av.open(part.path) as made:
        decoded = list(made.decode(video=0))
    assert [frame.pts for frame in decoded] == list(range(12))
    ten = settings.surface.pixel_format.bit_depth > 8
    for index, frame in enumerate(decoded):
        plane = frame.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint16 if ten else np.uint8)
        rows = rows.reshape(HEIGHT, -1)[:, :WIDTH]
        assert abs(rows.mean() / (4 if ten else 1) - code(index)) < 2
        assert frame.format.components[0].bits == (10 if ten else 8)


def test_b_frames_come_in_decoding_order_and_are_told_of(encode):
    part = encode(settings_for("h264_nvenc"), count=30, b_frames=3)
    assert part.reorder_delay > 0, "the stand-in does not reorder, and this test shows nothing"
    with av.open(part.path) as made:
        packets = [packet for packet in made.demux(video=0) if packet.size]
    assert [packet.pts for packet in packets] != sorted(packet.pts for packet in packets)
    assert sorted(packet.pts for packet in packets) == list(range(30))


@pytest.mark.parametrize("encoder", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
@pytest.mark.parametrize("extension", ["mkv", "mp4"])
def test_a_published_part_has_the_frames_own_times_and_says_its_colours(
    encode, clip, tmp_path, reading, encoder, extension
):
    pts = [90 * (40 * index + index % 3) for index in range(12)]
    part = encode(settings_for(encoder), pts=pts, b_frames=3)
    media = probe(clip(frames=2))
    target = tmp_path / f"out.{extension}"
    carriage = tuple(Carriage(stream, Fate.UPSCALED, stream.codec) for stream in media.streams)
    (tmp_path / "work").mkdir()
    publish(Publication(part, media, carriage), target, workspace=tmp_path / "work", overwrite=False)
    assert reading.times(target) == [p * TICKS for p in pts]
    with av.open(target) as made:
        decoding = [packet.dts for packet in made.demux(video=0) if packet.size and packet.dts is not None]
    assert decoding == sorted(set(decoding))
    found = probe(target).video
    assert found.codec == ENCODERS[encoder].codec
    color = found.surface.color
    assert (color.matrix, color.primaries, color.transfer, color.range) == (9, 9, 16, ColorRange.LIMITED)
    assert color.chroma_location == ChromaLocation.TOP_LEFT


@pytest.mark.parametrize("encoder", ["h264_nvenc", "hevc_nvenc"])
def test_rate_and_aspect_ratio_are_written_into_the_stream(encode, encoder):
    part = encode(settings_for(encoder, surface={"sample_aspect_ratio": Fraction(4, 3)}))
    with av.open(part.path) as made:
        stream = made.streams.video[0]
        assert stream.codec_context.sample_aspect_ratio == Fraction(4, 3)
        assert stream.codec_context.framerate == Fraction(24000, 1001)


@pytest.mark.parametrize("encoder", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
def test_untagged_colours_stay_untagged_and_full_range_is_said(encode, encoder):
    part = encode(settings_for(encoder, color=ColorSpec(range=ColorRange.FULL)), count=2)
    with av.open(part.path) as made:
        frame = next(made.decode(video=0))
    assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (2, 2, 2, 2)


@pytest.mark.parametrize(
    ("encoder", "pixel_format"), [("h264_nvenc", "nv12"), ("hevc_nvenc", "p010le"), ("av1_nvenc", "p010le")]
)
def test_static_hdr_is_written_with_the_first_picture(encode, encoder, pixel_format):
    part = encode(settings_for(encoder, pixel_format, hdr=HDR), count=3)
    with av.open(part.path) as made:
        found = hdr.read(next(made.decode(video=0)))
    assert found.light == HDR.light
    assert found.mastering.max_luminance == 1000
    steps = 1 << 16 if encoder == "av1_nvenc" else 50000
    for made, meant in zip(found.mastering.primaries, HDR.mastering.primaries, strict=True):
        assert all(abs(a - b) <= Fraction(1, steps) for a, b in zip(made, meant, strict=True))


def test_light_levels_alone_are_enough(encode):
    part = encode(settings_for("av1_nvenc", hdr=hdr.HdrMetadata(light=hdr.ContentLight(600, 0))), count=2)
    with av.open(part.path) as made:
        assert hdr.read(next(made.decode(video=0))) == hdr.HdrMetadata(light=hdr.ContentLight(600, 0))


@pytest.mark.parametrize(
    ("encoder", "software", "options"),
    [
        ("h264_nvenc", "libx264", {}),
        ("hevc_nvenc", "libx265", {"x265-params": "log-level=none"}),
        ("av1_nvenc", "libsvtav1", {"preset": "12"}),
    ],
)
def test_headers_that_the_first_packet_lacks_are_put_before_its_picture(encoder, software, options):
    context = av.VideoCodecContext.create(software, "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.time_base, context.options = Fraction(1, 25), options
    context.flags |= Flags.global_header
    context.open()
    header = bytes(context.extradata)
    first = bytes([*context.encode(av.VideoFrame(WIDTH, HEIGHT, "yuv420p")), *context.encode(None)][0])
    codec = ENCODERS[encoder].codec
    if codec == "av1":  # what SVT-AV1 says beforehand is not what it then writes
        header = b"".join(first[start:end] for start, end, kind in units(codec, first) if kind == HEADER[codec])
    bare = b"".join(first[start:end] for start, end, kind in units(codec, first) if kind != HEADER[codec])
    stream = ElementaryStream(codec, settings_for(encoder, hdr=HDR), header)
    packet = stream.packet(bare, 0, key=True)
    kinds = [kind for _, _, kind in units(codec, bytes(packet))]
    assert kinds.count(HEADER[codec]) == 1
    with av.open(io.BytesIO(), "w", format="matroska") as container:
        made = stream.add_to(container, packet)
        assert (made.width, made.height) == (WIDTH, HEIGHT)


def test_what_is_no_bitstream_is_an_encode_error():
    stream = ElementaryStream("h264", settings_for("h264_nvenc"), b"\0\0\0\1\x67")
    with pytest.raises(errors.EncodeError):
        packet = stream.packet(b"\0\0\0\1\x65nothing", 0, key=True)
        with av.open(io.BytesIO(), "w", format="matroska") as container:
            stream.add_to(container, packet)


def test_hdr_messages_never_look_like_a_start_code():
    made = messages("hevc", hdr.HdrMetadata(hdr.MasteringDisplay(max_luminance=Fraction(1000))))
    assert [kind for _, _, kind in units("hevc", made)] == [39]
    assert b"\0\0\0" not in made[4:]
    assert b"\0\0\1" not in made[4:]


def test_no_frames_make_an_empty_part(encode):
    assert encode(settings_for(), count=0).frames == 0


def test_fewer_frames_than_the_encoder_holds_back_are_all_given_out(encode):
    assert encode(settings_for(), count=1).frames == 1


def test_a_surface_may_be_used_again_at_once(tmp_path, device, module, frames):
    """What comes next into the same memory is ordered after the encoder's copy: every frame keeps its picture."""
    settings = settings_for("h264_nvenc")
    encoder = NvencPartEncoder(tmp_path / "part.mkv", settings, device, library=module.library)
    pointers = set()
    for index in range(16):
        frame = frames.make(settings, index)
        pointers.add(frame.surface.native.memory.pointer)
        encoder.write(frame)
        frame.close()
    encoder.finish()
    encoder.close()
    assert len(pointers) == 1
    assert all(abs(luma - code(index)) < 2 for index, luma in enumerate(means(tmp_path / "part.mkv")))


def means(path):
    with av.open(path) as made:
        return [
            np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(HEIGHT, -1)[:, :WIDTH].mean()
            for frame in made.decode(video=0)
        ]


def test_what_is_asked_of_the_library_follows_the_options(module, device, tmp_path):
    settings = attrs.evolve(settings_for(), options=(("crf", "20"), ("preset", "veryslow")))
    NvencPartEncoder(tmp_path / "part.mkv", settings, device, b_frames=5, library=module.library).close()
    (asked,) = module.created_with
    assert {
        name: asked[name] for name in ("codec", "preset", "tuning_info", "rc", "constqp", "bf", "gop", "gpu_id")
    } == {
        "codec": "hevc",
        "preset": "P7",
        "tuning_info": "high_quality",
        "rc": "constqp",
        "constqp": "20,23,17",
        "bf": 3,
        "gop": 250,
        "gpu_id": 0,
    }


def test_av1_counts_its_quantiser_in_256_steps_and_comes_without_a_file_format():
    asked = nvenc_options(settings_for("av1_nvenc", crf=63), 7)
    assert asked["constqp"] == "252,255,240"
    assert (asked["bf"], asked["use_ivf_container"]) == (0, 0)


def test_a_crf_of_0_is_a_quantiser_of_0():
    assert nvenc_options(settings_for(crf=0), 0)["constqp"] == "0,0,0"


def test_a_pitched_surface_is_refused_before_the_library_sees_it(tmp_path, device, module, frames):
    settings = settings_for()
    encoder = NvencPartEncoder(tmp_path / "part.mkv", settings, device, library=module.library)
    frame = frames.make(settings, 0, alignment=256)
    with pytest.raises(ValueError, match="not dense"):
        encoder.write(frame)
    frame.close()
    encoder.close()


def test_a_surface_of_another_size_is_refused(tmp_path, device, module, frames):
    encoder = NvencPartEncoder(tmp_path / "part.mkv", settings_for(), device, library=module.library)
    frame = frames.make(settings_for(surface={"width": 64}), 0)
    with pytest.raises(ValueError, match="not dense"):
        encoder.write(frame)
    frame.close()
    encoder.close()


@pytest.mark.parametrize(
    ("planted", "kind", "words"),
    [
        (
            "m_nvenc.nvEncOpenEncodeSessionEx(&p, &h) returned error 10",
            errors.EncodeError,
            "no further encoding session",
        ),
        (
            "m_nvenc.nvEncOpenEncodeSessionEx(&p, &h) returned error 21",
            errors.EncodeError,
            "no further encoding session",
        ),
        ("m_nvenc.nvEncOpenEncodeSessionEx(&p, &h) returned error 2", errors.EncodeError, "this GPU has no NVENC"),
        ("m_nvenc.nvEncInitializeEncoder(h, &p) returned error 10", errors.OutOfMemory, "error 10"),
        ("m_nvenc.nvEncInitializeEncoder(h, &p) returned error 8", errors.EncodeError, "error 8"),
    ],
)
def test_why_no_session_could_be_opened_is_said_in_words(tmp_path, device, module, planted, kind, words):
    module.failing["CreateEncoder"] = module.PyNvVCException(planted)
    with pytest.raises(kind, match=words):
        NvencPartEncoder(tmp_path / "part.mkv", settings_for(), device, library=module.library)


def test_a_chip_that_lacks_a_format_refuses_by_the_librarys_other_exception(tmp_path, device):
    module = NvencStandIn(device, unsupported=frozenset({"444"}))
    with pytest.raises(errors.EncodeError, match="YUV444 is not supported"):
        NvencPartEncoder(tmp_path / "part.mkv", settings_for("hevc_nvenc", "yuv444p"), device, library=module.library)


def test_sessions_that_are_all_in_use_are_said_to_be(tmp_path, device):
    module = NvencStandIn(device, sessions=1)
    first = NvencPartEncoder(tmp_path / "1.mkv", settings_for(), device, library=module.library)
    with pytest.raises(errors.EncodeError, match="all in use"):
        NvencPartEncoder(tmp_path / "2.mkv", settings_for(), device, library=module.library)
    first.close()
    NvencPartEncoder(tmp_path / "3.mkv", settings_for(), device, library=module.library).close()


@pytest.mark.parametrize(
    ("kind", "words"), [(RuntimeError, "Invalid shape"), (NvencStandIn.PyNvVCException, "error 8")]
)
@pytest.mark.parametrize("method", ["Encode", "EndEncode", "GetSequenceParams"])
def test_a_failure_anywhere_leaves_no_session_and_no_memory(tmp_path, device, module, frames, method, kind, words):
    settings = settings_for()

    def run():
        encoder = NvencPartEncoder(tmp_path / "part.mkv", settings, device, library=module.library)
        frame = frames.make(settings, 0)
        try:
            encoder.write(frame)
            encoder.finish()
        finally:
            frame.close()
            encoder.close()
            encoder.close()

    module.failing[method] = kind(words)
    with pytest.raises(errors.EncodeError, match=f"hevc_nvenc .*{words}"):
        run()


def test_a_failure_tells_of_its_frame(tmp_path, device, module, frames):
    settings = settings_for()
    encoder = NvencPartEncoder(tmp_path / "part.mkv", settings, device, library=module.library)
    module.failing["Encode"] = MemoryError("none left")
    frame = frames.make(settings, 7)
    with pytest.raises(errors.OutOfMemory, match="failed on frame 7"):
        encoder.write(frame)
    frame.close()
    encoder.close()


def test_work_that_failed_on_the_surface_is_not_encoded(tmp_path, device, module, frames):
    settings = settings_for()
    encoder = NvencPartEncoder(tmp_path / "part.mkv", settings, device, library=module.library)
    device.fail_launch(1)
    frame = frames.make(settings, 0)
    with pytest.raises(errors.EncodeError, match="work on the GPU had failed"):
        encoder.write(frame)
    frame.close()
    encoder.close()


def test_a_part_that_cannot_be_written_leaves_no_session(tmp_path, device, module, frames):
    settings = settings_for()
    encoder = NvencPartEncoder(tmp_path / "missing" / "part.mkv", settings, device, library=module.library)
    frame = frames.make(settings, 0)
    encoder.write(frame)
    frame.close()
    with pytest.raises(errors.MuxError, match="No such file"):
        encoder.finish()
    encoder.close()


def test_without_the_library_the_error_says_where_to_look():
    with pytest.raises(errors.EncodeError, match="PyNvVideoCodec cannot be loaded") as caught:
        nvenc_library()
    assert "rave-trio devices" in caught.value.remedy


ENGINES = VideoEngines(
    encoders=(
        EncoderFormat("h264", ("4:2:0", "4:4:4"), (8,), 4096, 4096, 4, 1),
        EncoderFormat("hevc", ("4:2:0", "4:4:4"), (8, 10), 8192, 8192, 5, 1),
    )
)


@pytest.mark.parametrize(
    ("codec", "pixel_format", "size", "words"),
    [
        ("hevc", "p010le", (7680, 4320), None),
        ("h264", "nv12", (1920, 1080), None),
        ("hevc", "yuv444p10msble", (1921, 1081), None),
        ("av1", "nv12", (64, 64), "does not encode av1"),
        ("h264", "p010le", (64, 64), "in 10 bits"),
        ("hevc", "nv16", (64, 64), "in 4:2:2"),
        ("h264", "nv12", (7680, 4320), "up to 4096x4096"),
        ("hevc", "nv12", (641, 360), "odd size 641x360"),
        ("hevc", "yuv420p", (640, 360), "does not take yuv420p"),
    ],
)
def test_what_the_chip_does_not_encode_is_known_before(codec, pixel_format, size, words):
    refusal = nvenc_refusal(codec, SurfaceDescriptor(*size, describe_format(pixel_format)), ENGINES)
    assert refusal is None if words is None else words in refusal


def test_a_gpu_without_nvenc_says_why():
    engines = VideoEngines(notes=("NVDEC: fine", "NVENC: error 2"))
    refusal = nvenc_refusal("hevc", SurfaceDescriptor(64, 64, describe_format("nv12")), engines)
    assert refusal == "this GPU does not encode hevc: NVENC: error 2"


def test_an_encoder_of_a_gpu_is_refused_for_a_run_on_the_cpu():
    with pytest.raises(errors.EncodeError, match="encodes on an NVIDIA GPU") as caught:
        check_encoder(settings_for())
    assert "libx265" in caught.value.remedy


def test_the_stand_in_refuses_what_the_library_refuses(device, module):
    stream = device.stream()
    options = {"codec": "h264", "constqp": "20,20,20", "gop": 10, "bf": 0, "cudastream": stream.handle}
    encoder = module.CreateEncoder(64, 48, "NV12", False, **options)
    memory = device.allocate(64 * 72)

    class Picture:
        def __init__(self, *planes):
            self.planes = planes

        def cuda(self):
            return self.planes

    class Plane:
        def __init__(self, offset, shape, typestr="|u1", strides=None):
            data = (memory.pointer + offset, False)
            self.__cuda_array_interface__ = {"shape": shape, "typestr": typestr, "strides": strides, "data": data}

    luma, chroma = Plane(0, (48, 64, 1)), Plane(64 * 48, (24, 32, 2))
    for planes in (
        (Plane(0, (48, 64, 1), "<u1"), chroma),
        (Plane(0, (48, 64)), chroma),
        (Plane(0, (48, 64, 1), strides=(256, 1, 1)), chroma),
    ):
        with pytest.raises(RuntimeError, match="Invalid"):
            encoder.Encode(Picture(*planes), module.NV_ENC_PIC_PARAMS())
    with pytest.raises(module.PyNvVCException, match="must follow"):
        encoder.Encode(Picture(Plane(64 * 24, (48, 64, 1)), Plane(0, (24, 32, 2))), module.NV_ENC_PIC_PARAMS())
    with pytest.raises(BaseException, match="would pass over"):
        module.CreateEncoder(64, 48, "NV12", False, **options, qp=3)
    assert encoder.Encode(Picture(luma, chroma), module.NV_ENC_PIC_PARAMS()) == []
    device.stream_of(stream.handle).synchronize()
    memory.close()
