"""Pictures between libav frames and a device: a software encoder behind a GPU, a software decoder before one."""

from __future__ import annotations

import weakref
from fractions import Fraction

import attrs
import av
import numpy as np
import pytest
from simulated_copies import from_host, to_host

from rave_trio import errors
from rave_trio.devices.interface import LaunchError, use
from rave_trio.devices.pool import device_pool, pinned_pool
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.frames import ChromaLocation, ColorRange, ColorSpec, Frame, Surface, SurfaceDescriptor
from rave_trio.media._libav import describe_format
from rave_trio.media.download import DownloadingEncoder
from rave_trio.media.encoders import ENCODERS, EncoderSettings
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
    assert device.used == device.pinned == 0


@pytest.fixture
def pool(device):
    pool = device_pool(device, Ledger())
    yield pool
    assert pool.stats().leased == 0
    pool.close()


@pytest.fixture
def page_locked(device):
    """The pool that pictures are downloaded into; all of it must come back."""
    pool = pinned_pool(device, Ledger(), "downloads")
    yield pool
    assert pool.stats().leased == 0
    pool.close()


@pytest.fixture
def downloading(device, page_locked):
    """Makes an encoder behind a download, which is closed at the end."""
    made = []

    def make(encoder, **options):
        made.append(DownloadingEncoder(encoder, device, page_locked, **{"copy": to_host, **options}))
        return made[-1]

    yield make
    while made:
        made.pop().close()  # and forget it, with the pictures in an encoder that keeps them


@pytest.fixture
def uploading(device, pool):
    uploading = Uploading(device, pool, copy=from_host)
    yield uploading
    uploading.close()


class Kept:
    """An encoder that keeps the pictures that it is given."""

    def __init__(self):
        self.frames, self.closed, self.packets, self.part = [], 0, 7, "the part"

    def write(self, frame):
        self.frames.append(attrs.evolve(frame, picture=attrs.evolve(frame.picture)))

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
def test_a_picture_comes_back_from_the_device_as_it_went_there(uploading, name, downloading):
    descriptor, kept = described(name), Kept()
    sent = noise(descriptor)
    frame = uploading.convert(framed(descriptor, sent))
    assert frame.surface.descriptor is descriptor
    encoder = downloading(kept)
    encoder.write(frame)
    frame.close()
    encoder.finish()
    (got,) = kept.frames
    assert got.surface.descriptor is descriptor
    assert got.surface.native is not sent
    for there, back in zip(rows(sent), rows(got.surface.native), strict=True):
        assert (there == back).all()


def test_the_envelope_goes_with_the_picture_both_ways(uploading, downloading):
    descriptor, kept, captions = described("nv12"), Kept(), object()
    frame = uploading.convert(framed(descriptor, noise(descriptor), captions=captions))
    assert frame.captions is captions
    encoder = downloading(kept)
    encoder.write(frame)
    frame.close()
    encoder.finish()
    (got,) = kept.frames
    assert (got.index, got.pts, got.duration, got.time_base, got.key_frame) == (3, 10800, 3601, TICKS, False)
    assert got.captions is captions, "the caller's frame was closed, and this is another"


def test_a_downloaded_picture_carries_its_colour_tags(uploading, downloading):
    descriptor, kept = described("p010le"), Kept()
    with_surface = uploading.convert(framed(descriptor, noise(descriptor)))
    encoder = downloading(kept)
    encoder.write(with_surface)
    with_surface.close()
    encoder.finish()
    native = kept.frames[0].surface.native
    assert (native.colorspace, native.color_primaries, native.color_trc, native.color_range) == (9, 9, 16, 1)


def test_downloading_waits_for_what_still_writes_the_picture(device, uploading, downloading):
    descriptor, kept = described("gray"), Kept()
    frame = uploading.convert(framed(descriptor, noise(descriptor)))
    (plane,) = frame.surface.native.planes
    other = device.stream()

    def fill(memory):
        samples(plane)[...] = 77

    with use(other, plane.memory):
        other.launch(fill, plane.memory)
    encoder = downloading(kept)
    encoder.write(frame)
    frame.close()
    encoder.finish()
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


def test_a_picture_stored_from_its_last_row_up_arrives_upright(uploading, downloading):
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
    encoder = downloading(kept)
    encoder.write(frame)
    frame.close()
    encoder.finish()
    for there, back in zip(rows(upright), rows(kept.frames[0].surface.native), strict=True):
        assert (there[::-1] == back).all()


def test_a_part_of_downloaded_frames_holds_their_pictures_and_times(tmp_path, uploading, downloading):
    descriptor = described("yuv420p", (64, 48))
    settings = EncoderSettings("ffv1", (), descriptor, Fraction(25), TICKS)
    encoder = downloading(PartEncoder(tmp_path / "part.mkv", settings))
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


def test_closing_closes_the_encoder_behind(downloading):
    kept = Kept()
    encoder = downloading(kept)
    assert (encoder.packets, encoder.part, encoder.finish()) == (7, "the part", "the part")
    encoder.close()
    assert kept.closed == 1


def test_a_copy_runs_while_the_frame_before_is_encoded(device, uploading, downloading):
    descriptor, kept = described("nv12", (64, 48)), Kept()
    pictures = [noise(descriptor, seed) for seed in range(3)]
    frames = [uploading.convert(framed(descriptor, picture, index)) for index, picture in enumerate(pictures)]
    for frame in frames:
        frame.surface.native.memory.last_use.wait()
    encoder = downloading(kept)
    encoder.write(frames[0])
    stall = device.stall_launch(1)
    frames[0].surface.native.memory.last_use.wait()
    encoder.write(frames[1])
    assert [frame.index for frame in kept.frames] == [0], "the copy of frame 1 is not done, and nobody waited for it"
    stall.release()
    encoder.write(frames[2])
    encoder.finish()
    assert [frame.index for frame in kept.frames] == [0, 1, 2]
    for sent, got in zip(pictures, kept.frames, strict=True):
        assert all((a == b).all() for a, b in zip(rows(sent), rows(got.surface.native), strict=True))
    for frame in frames:
        frame.close()


def test_a_surface_may_be_lent_again_while_its_copy_is_under_way(device, pool, uploading, downloading):
    descriptor, kept = described("yuv420p", (64, 48)), Kept()
    first, second = (noise(descriptor, seed) for seed in range(2))
    encoder = downloading(kept)
    frame = uploading.convert(framed(descriptor, first, 0))
    with device.paused():
        encoder.write(frame)
        frame.close()
        assert pool.stats().leased == 0
        frame = uploading.convert(framed(descriptor, second, 1))
    assert pool.stats().misses == 1, "the second picture lies where the first did"
    encoder.write(frame)
    frame.close()
    encoder.finish()
    for sent, got in zip((first, second), kept.frames, strict=True):
        assert all((a == b).all() for a, b in zip(rows(sent), rows(got.surface.native), strict=True))


def test_page_locked_memory_is_lent_until_libav_lets_go_of_the_picture(uploading, downloading, page_locked):
    descriptor, kept = described("yuv420p", (64, 48)), Kept()
    encoder = downloading(kept)
    for index in range(4):
        frame = uploading.convert(framed(descriptor, noise(descriptor, index), index))
        encoder.write(frame)
        frame.close()
    encoder.finish()
    assert page_locked.stats().leased == 4
    while kept.frames:
        kept.frames.pop()
    encoder.close()
    assert page_locked.stats().leased == 0


def test_pictures_that_outlive_the_encoder_give_their_memory_back_when_they_go(
    device, uploading, downloading, page_locked
):
    descriptor, kept = described("yuv420p", (64, 48)), Kept()
    encoder = downloading(kept)
    frame = uploading.convert(framed(descriptor, sent := noise(descriptor)))
    encoder.write(frame)
    frame.close()
    encoder.finish()
    encoder.close()
    page_locked.close()
    assert page_locked.stats().leased == 1
    assert all((a == b).all() for a, b in zip(rows(sent), rows(kept.frames[0].surface.native), strict=True))
    kept.frames.clear()
    assert page_locked.stats().leased == device.pinned == 0


@pytest.mark.parametrize("name", [name for name, spec in ENCODERS.items() if not (spec.software or spec.frame_threads)])
def test_encoders_have_let_go_of_a_picture_when_they_return(tmp_path, uploading, downloading, page_locked, name):
    """So few pictures are page-locked, and no thread of an encoder ever waits for the GIL to let go of one."""
    descriptor = described("yuv420p", (128, 96))
    settings = EncoderSettings(name, (), descriptor, Fraction(25), TICKS)
    encoder = downloading(PartEncoder(tmp_path / "part.mkv", settings))
    for index in range(12):
        frame = uploading.convert(framed(descriptor, noise(descriptor, index), index))
        encoder.write(frame)
        frame.close()
        assert page_locked.stats().leased == 1
    assert encoder.finish().frames == 12
    assert page_locked.stats().leased == 0
    assert page_locked.stats().misses <= 2


def test_without_wrapping_the_encoder_gets_memory_of_libavs_own(uploading, downloading, page_locked):
    descriptor, kept = described("gray", (64, 48)), Kept()
    encoder = downloading(kept, wrap=False)
    frame = uploading.convert(framed(descriptor, sent := noise(descriptor)))
    encoder.write(frame)
    frame.close()
    encoder.finish()
    assert page_locked.stats().leased == 0
    assert (rows(kept.frames[0].surface.native)[0] == rows(sent)[0]).all()


def test_captions_go_into_the_part_with_a_downloaded_picture(tmp_path, uploading, downloading):
    descriptor = described("yuv420p", (66, 50))
    settings = EncoderSettings("ffv1", (), descriptor, Fraction(25), TICKS)
    encoder = downloading(PartEncoder(tmp_path / "part.mkv", settings))
    carrier = noise(described("yuv420p", (16, 16)))
    frame = uploading.convert(framed(descriptor, sent := noise(descriptor), captions=carrier))
    encoder.write(frame)
    frame.close()
    with av.open(encoder.finish().path) as made:
        (got,) = made.decode(video=0)
    assert all((a == b).all() for a, b in zip(rows(sent), rows(got), strict=True))


def test_a_frame_that_is_dropped_between_its_copy_and_its_encoding_leaves_nothing(
    device, pool, uploading, downloading, page_locked
):
    descriptor, kept = described("nv12", (64, 48)), Kept()
    encoder = downloading(kept)
    frame = uploading.convert(framed(descriptor, noise(descriptor)))
    frame.surface.native.memory.last_use.wait()
    stall = device.stall_launch(1)
    encoder.write(frame)
    frame.close()
    encoder.close()
    assert (kept.frames, kept.closed) == ([], 1)
    assert page_locked.stats().leased == pool.stats().leased == 0
    stall.release()


def test_a_copy_that_fails_is_an_error_of_its_own_frame_and_leaves_the_next_the_callers(
    device, uploading, downloading, page_locked
):
    descriptor, kept = described("nv12"), Kept()
    frames = [uploading.convert(framed(descriptor, noise(descriptor), index)) for index in (3, 4)]
    for frame in frames:
        frame.surface.native.memory.last_use.wait()
    device.fail_launch(1)
    encoder = downloading(kept)
    encoder.write(frames[0])
    with pytest.raises(errors.EncodeError, match="frame 3 cannot be had from the device") as caught:
        encoder.write(frames[1])
    assert (caught.value.stage, caught.value.frame) == ("encode", 3)
    assert all(frame.picture is not None for frame in frames)
    assert not kept.frames
    encoder.close()
    assert page_locked.stats().leased == 0
    for frame in frames:
        frame.close()


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (errors.DiskFull("the disk is full"), errors.DiskFull),
        (RuntimeError("of no kind that is known"), errors.StageCrashed),
        (MemoryError("nothing left"), errors.OutOfMemory),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_an_error_of_the_encoder_names_the_frame_that_it_was_given(uploading, downloading, failure, told, last):
    class Failing(Kept):
        def write(self, frame):
            raise failure

    descriptor = described("nv12")
    frames = [uploading.convert(framed(descriptor, noise(descriptor), index)) for index in (3, 4)]
    encoder = downloading(Failing())
    encoder.write(frames[0])
    with pytest.raises(told) as caught:
        encoder.finish() if last else encoder.write(frames[1])
    assert (caught.value.stage, caught.value.frame) == ("encode", 3)
    for frame in frames:
        frame.close()


def test_a_picture_that_an_encoder_refused_is_not_kept_by_the_error(tmp_path, uploading, downloading, page_locked):
    descriptor = described("yuv420p", (64, 48))
    settings = EncoderSettings("ffv1", (), descriptor, Fraction(25), TICKS)
    part = PartEncoder(tmp_path / "part.mkv", settings)
    encoder = downloading(part)
    for index in range(2):
        frame = uploading.convert(framed(descriptor, noise(descriptor, index), index))
        encoder.write(frame)
        frame.close()
    part._stream.codec_context.encode(None)  # it takes no more
    with pytest.raises(errors.EncodeError) as caught:
        encoder.finish()
    encoder.close()
    assert caught.value.frame == 1
    assert page_locked.stats().leased == 0


def test_the_frame_before_is_encoded_even_if_the_next_cannot_be_copied(uploading, downloading):
    descriptor, kept = described("nv12"), Kept()
    frames = [uploading.convert(framed(descriptor, noise(descriptor), index)) for index in range(2)]
    frames[1].surface.descriptor = described("nv12", (64, 64))
    encoder = downloading(kept)
    encoder.write(frames[0])
    with pytest.raises(ValueError, match="are not those of"):
        encoder.write(frames[1])
    assert [frame.index for frame in kept.frames] == [0]
    for frame in frames:
        frame.close()


def test_work_that_failed_before_the_download_is_told(device, uploading, downloading):
    descriptor = described("nv12")
    device.fail_launch(1)
    frame = uploading.convert(framed(descriptor, noise(descriptor)))
    encoder = downloading(Kept())
    encoder.write(frame)
    frame.close()
    with pytest.raises(errors.EncodeError, match="planted"):
        encoder.finish()


def test_a_host_without_page_locked_memory_says_so(device, uploading, downloading):
    descriptor = described("nv12")
    frame = uploading.convert(framed(descriptor, noise(descriptor)))
    device.fail_allocation(1)
    with pytest.raises(errors.OutOfMemory, match="cannot be allocated for downloads"):
        downloading(Kept()).write(frame)
    frame.close()


def test_a_device_without_memory_for_the_copy_says_so(uploading, downloading):
    def scarce(*_):
        raise MemoryError("nothing left")

    descriptor = described("nv12")
    frame = uploading.convert(framed(descriptor, noise(descriptor)))
    with pytest.raises(errors.OutOfMemory, match="nothing left"):
        downloading(Kept(), copy=scarce).write(frame)
    frame.close()


def test_planes_that_are_not_their_descriptors_are_refused(uploading, downloading):
    descriptor = described("nv12")
    frame = uploading.convert(framed(descriptor, noise(descriptor)))
    frame.surface.descriptor = described("nv12", (64, 64))
    with pytest.raises(ValueError, match="are not those of"):
        downloading(Kept()).write(frame)
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
