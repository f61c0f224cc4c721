"""Pictures between libav frames and a device: a software encoder behind a GPU, a software decoder before one."""

from __future__ import annotations

import weakref
from fractions import Fraction

import av
import numpy as np
import pytest
from simulated_copies import from_host, to_host

from rave_trio import errors
from rave_trio.devices.interface import LaunchError, use
from rave_trio.devices.pool import device_pool
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.frames import ChromaLocation, ColorRange, ColorSpec, Frame, Surface, SurfaceDescriptor
from rave_trio.media._libav import describe_format
from rave_trio.media.download import DownloadingEncoder
from rave_trio.media.encoders import EncoderSettings
from rave_trio.media.parts import PartEncoder
from rave_trio.media.upload import Uploading, upload_refusal
from rave_trio.memory import Ledger
from rave_trio.testing.tensorrt import samples

SIZE = (37, 29)
FORMATS = [
    "nv12", "p010le", "p210le", "yuv420p", "yuv420p10le", "yuv422p", "yuv444p", "yuv444p16le", "yuvj420p", "gray",
    "gray12le", "gbrp", "gbrp10le",
]  # fmt: skip
COLOR = ColorSpec(9, 9, 16, ColorRange.LIMITED, ChromaLocation.TOP_LEFT)
TICKS = Fraction(1, 90000)


@pytest.fixture
def device():
    device = SimulatedDevice(1 << 24, latency=1.0, seed=4)
    yield device
    device.close()
    assert device.used == 0


@pytest.fixture
def pool(device):
    pool = device_pool(device, Ledger())
    yield pool
    assert pool.stats().leased == 0
    pool.close()


@pytest.fixture
def uploading(device, pool):
    uploading = Uploading(device, pool, copy=from_host)
    yield uploading
    uploading.close()


class Kept:
    """An encoder that keeps what it is given."""

    def __init__(self):
        self.frames, self.closed, self.packets, self.part = [], 0, 7, "the part"

    def write(self, frame):
        self.frames.append(frame)

    def finish(self):
        return self.part

    def close(self):
        self.closed += 1


def described(name, size=SIZE):
    return SurfaceDescriptor(*size, describe_format(name), COLOR, Fraction(4, 3))


def rows(native):
    """The bytes of the picture, plane by plane, without what lies between the rows."""
    found = []
    size = native.format.components[0].bits + 7 >> 3
    for index, plane in enumerate(native.planes):
        samples_each = 2 if index and len(native.planes) == 2 else 1
        words = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        found.append(words[:, : plane.width * samples_each * size].copy())
    return found


def noise(descriptor, seed=0):
    native = av.VideoFrame(descriptor.width, descriptor.height, descriptor.pixel_format.name)
    random = np.random.default_rng(seed)
    for plane in native.planes:
        plane.update(random.integers(0, 256, plane.buffer_size, np.uint8).tobytes())
    return native


def framed(descriptor, native, index=3, **more):
    return Frame(index, 3600 * index, 3601, TICKS, index == 0, Surface(descriptor, native), **more)


@pytest.mark.parametrize("name", FORMATS)
def test_a_picture_comes_back_from_the_device_as_it_went_there(device, uploading, name):
    descriptor, kept = described(name), Kept()
    sent = noise(descriptor)
    frame = uploading.convert(framed(descriptor, sent))
    assert frame.surface.descriptor is descriptor
    DownloadingEncoder(kept, device, copy=to_host).write(frame)
    frame.close()
    (got,) = kept.frames
    assert got.surface.descriptor is descriptor
    assert got.surface.native is not sent
    for there, back in zip(rows(sent), rows(got.surface.native), strict=True):
        assert (there == back).all()


def test_the_envelope_goes_with_the_picture_both_ways(device, uploading):
    descriptor, kept, captions = described("nv12"), Kept(), object()
    frame = uploading.convert(framed(descriptor, noise(descriptor), captions=captions))
    assert frame.captions is captions
    DownloadingEncoder(kept, device, copy=to_host).write(frame)
    frame.close()
    (got,) = kept.frames
    assert (got.index, got.pts, got.duration, got.time_base, got.key_frame) == (3, 10800, 3601, TICKS, False)
    assert got.captions is captions, "the caller's frame was closed, and this is another"


def test_a_downloaded_picture_carries_its_colour_tags(device, uploading):
    descriptor, kept = described("p010le"), Kept()
    with_surface = uploading.convert(framed(descriptor, noise(descriptor)))
    DownloadingEncoder(kept, device, copy=to_host).write(with_surface)
    with_surface.close()
    native = kept.frames[0].surface.native
    assert (native.colorspace, native.color_primaries, native.color_trc, native.color_range) == (9, 9, 16, 1)


def test_downloading_waits_for_what_still_writes_the_picture(device, uploading):
    descriptor, kept = described("gray"), Kept()
    frame = uploading.convert(framed(descriptor, noise(descriptor)))
    (plane,) = frame.surface.native.planes
    other = device.stream()

    def fill(memory):
        samples(plane)[...] = 77

    with use(other, plane.memory):
        other.launch(fill, plane.memory)
    DownloadingEncoder(kept, device, copy=to_host).write(frame)
    frame.close()
    assert (rows(kept.frames[0].surface.native)[0] == 77).all()


def test_uploading_does_not_wait_and_keeps_the_picture_until_it_was_read(device, pool):
    held = []

    def copy(stream, host, target):
        held.append(weakref.ref(host))
        copied = host.copy()
        stream.launch(lambda memory: samples(target).__setitem__(..., copied), target.memory)

    uploading = Uploading(device, pool, copy=copy)
    descriptor = described("yuv420p")
    with device.paused():
        frame = uploading.convert(framed(descriptor, noise(descriptor)))
        assert all(planes() is not None for planes in held)
    frame.surface.native.memory.last_use.wait()
    frame.close()
    uploading.close()
    uploading.close()
    assert [planes() for planes in held] == [None] * 3


def test_pictures_that_were_read_are_let_go_while_others_come(device, pool):
    held = []

    def copy(stream, host, target):
        held.append(weakref.ref(host))
        copied = host.copy()
        stream.launch(lambda memory: samples(target).__setitem__(..., copied), target.memory)

    uploading = Uploading(device, pool, copy=copy)
    descriptor = described("gray")
    for index in range(5):
        frame = uploading.convert(framed(descriptor, noise(descriptor), index))
        frame.surface.native.memory.last_use.wait()
        frame.close()
    assert sum(planes() is not None for planes in held) == 1
    uploading.close()


def test_a_picture_stored_from_its_last_row_up_arrives_upright(device, uploading):
    descriptor, kept = described("yuv420p"), Kept()
    graph = av.filter.Graph()
    source = graph.add_buffer(width=SIZE[0], height=SIZE[1], format="yuv420p", time_base=TICKS)
    source.link_to(flip := graph.add("vflip"))
    flip.link_to(graph.add("buffersink"))
    graph.configure()
    upright = noise(descriptor)
    graph.push(upright)
    flipped = graph.pull()
    assert flipped.planes[0].line_size < 0, "this libav flips otherwise, and the test shows nothing"
    frame = uploading.convert(framed(descriptor, flipped))
    DownloadingEncoder(kept, device, copy=to_host).write(frame)
    frame.close()
    for there, back in zip(rows(upright), rows(kept.frames[0].surface.native), strict=True):
        assert (there[::-1] == back).all()


def test_a_part_of_downloaded_frames_holds_their_pictures_and_times(tmp_path, device, uploading):
    descriptor = described("yuv420p", (64, 48))
    settings = EncoderSettings("ffv1", (), descriptor, Fraction(25), TICKS)
    encoder = DownloadingEncoder(PartEncoder(tmp_path / "part.mkv", settings), device, copy=to_host)
    pictures = [noise(descriptor, seed) for seed in range(5)]
    for index, picture in enumerate(pictures):
        frame = uploading.convert(framed(descriptor, picture, index))
        encoder.write(frame)
        frame.close()
    part = encoder.finish()
    assert encoder.part is part
    assert encoder.packets == part.frames == 5
    assert list(part.pts) == [3600 * index for index in range(5)]
    encoder.close()
    with av.open(part.path) as made:
        for sent, got in zip(pictures, made.decode(video=0), strict=True):
            assert all((a == b).all() for a, b in zip(rows(sent), rows(got), strict=True))


def test_closing_closes_the_encoder_behind(device):
    kept = Kept()
    encoder = DownloadingEncoder(kept, device, copy=to_host)
    assert (encoder.packets, encoder.part, encoder.finish()) == (7, "the part", "the part")
    encoder.close()
    assert kept.closed == 1


def test_a_copy_that_fails_is_an_error_of_this_frame_and_leaves_it_the_callers(device, uploading):
    descriptor, kept = described("nv12"), Kept()
    frame = uploading.convert(framed(descriptor, noise(descriptor)))
    frame.surface.native.memory.last_use.wait()
    device.fail_launch(2)
    encoder = DownloadingEncoder(kept, device, copy=to_host)
    with pytest.raises(errors.EncodeError, match="frame 3 cannot be had from the device"):
        encoder.write(frame)
    assert frame.picture is not None
    assert not kept.frames
    frame.close()


def test_work_that_failed_before_the_download_is_told(device, uploading):
    descriptor = described("nv12")
    device.fail_launch(1)
    frame = uploading.convert(framed(descriptor, noise(descriptor)))
    with pytest.raises(errors.EncodeError, match="planted"):
        DownloadingEncoder(Kept(), device, copy=to_host).write(frame)
    frame.close()


def test_a_device_without_memory_for_the_copy_says_so(device, uploading):
    def scarce(*_):
        raise MemoryError("nothing left")

    descriptor = described("nv12")
    frame = uploading.convert(framed(descriptor, noise(descriptor)))
    with pytest.raises(errors.OutOfMemory, match="nothing left"):
        DownloadingEncoder(Kept(), device, copy=scarce).write(frame)
    frame.close()


def test_planes_that_are_not_their_descriptors_are_refused(device, uploading):
    descriptor = described("nv12")
    frame = uploading.convert(framed(descriptor, noise(descriptor)))
    frame.surface.descriptor = described("nv12", (64, 64))
    with pytest.raises(ValueError, match="are not those of"):
        DownloadingEncoder(Kept(), device, copy=to_host).write(frame)
    frame.close()


def test_a_frame_that_cannot_be_uploaded_stays_as_it_is(device, uploading):
    descriptor = described("yuv420p")
    other = noise(described("yuv420p", (16, 16)))
    frame = framed(descriptor, other)
    with pytest.raises(ValueError, match="16x16 yuv420p is not one of 37x29"):
        uploading.convert(frame)
    assert frame.surface.native is other
    with pytest.raises(errors.InputFormatUnsupported):
        uploading.convert(framed(described("rgb24"), noise(described("rgb24"))))


def test_a_frame_for_which_there_is_no_memory_stays_as_it_is(device):
    pool = device_pool(device, Ledger(limit=1024))
    uploading = Uploading(device, pool, copy=from_host)
    descriptor = described("yuv420p")
    frame = framed(descriptor, native := noise(descriptor))
    with pytest.raises(errors.OutOfMemory):
        uploading.convert(frame)
    assert frame.surface.native is native
    uploading.close()
    pool.close()


def test_an_upload_that_cannot_be_launched_gives_its_memory_back(device, pool):
    def broken(*_):
        raise LaunchError("the device is gone")

    descriptor = described("yuv420p")
    uploading = Uploading(device, pool, copy=broken)
    frame = framed(descriptor, native := noise(descriptor))
    with pytest.raises(LaunchError):
        uploading.convert(frame)
    assert frame.surface.native is native
    assert pool.stats().leased == 0
    uploading.close()


@pytest.mark.parametrize("name", FORMATS)
def test_formats_that_the_kernels_read_can_be_uploaded(name):
    assert upload_refusal(describe_format(name)) is None


@pytest.mark.parametrize(
    "name", ["rgb24", "pal8", "yuva420p", "yuv420p10be", "yuyv422", "monow", "gbrpf32le", "rgb565"]
)
def test_formats_that_they_do_not_read_are_refused_by_name(name):
    refusal = upload_refusal(describe_format(name))
    assert name in refusal
    assert "\n" not in refusal
