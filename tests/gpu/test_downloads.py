"""Pictures from a GPU to libav: the bytes that were there, through page-locked memory that comes back."""

from __future__ import annotations

from fractions import Fraction

import attrs
import av
import numpy as np
import pytest

from rave_trio import errors
from rave_trio.color.cuda.planes import layout
from rave_trio.devices.interface import use
from rave_trio.devices.pool import device_pool, pinned_pool
from rave_trio.frames import Frame, Surface, SurfaceDescriptor
from rave_trio.media._libav import describe_format
from rave_trio.media.download import MARGIN, DownloadingEncoder
from rave_trio.media.encoders import ENCODERS, EncoderSettings
from rave_trio.media.parts import PartEncoder
from rave_trio.media.upload import Uploading
from rave_trio.memory import Ledger

TICKS = Fraction(1, 90000)
FORMATS = ["nv12", "p010le", "nv16", "yuv420p", "yuv420p10le", "yuv422p", "yuv444p16le", "gray", "gray12le", "gbrp"]


class Kept:
    """An encoder that keeps the pictures that it is given."""

    def __init__(self):
        self.frames = []

    def write(self, frame):
        self.frames.append(attrs.evolve(frame, picture=attrs.evolve(frame.picture)))

    def finish(self):
        pass

    def close(self):
        self.frames.clear()


class Rig:
    def __init__(self, cuda):
        self.device, self.ledger, self.host = cuda, Ledger(), Ledger()
        self.pool = device_pool(cuda, self.ledger)
        self.page_locked = pinned_pool(cuda, self.host, "downloads")
        self.upload = Uploading(cuda, self.pool)

    def sent(self, descriptor, seed=0):
        """A frame on the device, and the picture as it is on the host."""
        native = av.VideoFrame(descriptor.width, descriptor.height, descriptor.pixel_format.name)
        random = np.random.default_rng(seed)
        bits = descriptor.pixel_format.bit_depth
        for plane in native.planes:
            samples = random.integers(0, 2**bits, plane.buffer_size >> (bits > 8), np.uint16)
            plane.update(samples.astype(np.uint8 if bits == 8 else np.uint16).tobytes())
        frame = Frame(seed, 3600 * seed, 3600, TICKS, seed == 0, Surface(descriptor, native))
        return self.upload.convert(frame), native

    def encoder(self, behind, **options):
        return DownloadingEncoder(behind, self.device, self.page_locked, **options)

    def close(self):
        self.upload.close()
        assert self.pool.stats().leased == self.page_locked.stats().leased == 0
        self.pool.close()
        self.page_locked.close()
        assert self.ledger.stats().current == self.host.stats().current == 0


@pytest.fixture
def rig(cuda):
    rig = Rig(cuda)
    yield rig
    rig.close()


def described(name, size=(322, 182)):
    return SurfaceDescriptor(*size, describe_format(name))


def rows(native):
    """The bytes of the picture, plane by plane, without what lies between the rows."""
    size = native.format.components[0].bits + 7 >> 3
    found = []
    for index, plane in enumerate(native.planes):
        each = 2 if index and len(native.planes) == 2 else 1
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        found.append(lines[:, : plane.width * each * size].copy())
    return found


def assert_same(sent, got):
    for there, back in zip(rows(sent), rows(got), strict=True):
        assert (there == back).all()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, size) for name in FORMATS for size in ((322, 182), (37, 29))),
        ("nv12", (3840, 2160)),
        ("yuv420p10le", (3840, 2160)),
    ],
    ids=str,
)
def test_pictures_arrive_as_they_were_wrapped_or_copied(rig, name, size):
    for wrap in (True, False):
        kept = Kept()
        encoder = rig.encoder(kept, wrap=wrap)
        originals = []
        for seed in range(3):
            frame, native = rig.sent(described(name, size), seed)
            encoder.write(frame)
            frame.close()
            originals.append(native)
        encoder.finish()
        for original, frame in zip(originals, kept.frames, strict=True):
            assert_same(original, frame.surface.native)
        del frame
        encoder.close()


@pytest.mark.parametrize("name", [name for name, spec in ENCODERS.items() if not (spec.software or spec.frame_threads)])
def test_encoders_take_page_locked_pictures_and_give_them_back_at_once(rig, tmp_path, name):
    descriptor = described("yuv420p", (640, 368))
    part = PartEncoder(tmp_path / "part.mkv", EncoderSettings(name, (), descriptor, Fraction(25), TICKS))
    encoder = rig.encoder(part)
    for seed in range(20):
        frame, _ = rig.sent(descriptor, seed)
        encoder.write(frame)
        frame.close()
        assert rig.page_locked.stats().leased == 1
    assert encoder.finish().frames == 20
    encoder.close()
    assert rig.page_locked.stats().misses <= 2


def test_a_lossless_part_holds_every_picture_though_the_surfaces_are_lent_again(rig, tmp_path):
    descriptor = described("yuv420p10le", (640, 368))
    part = PartEncoder(tmp_path / "part.mkv", EncoderSettings("ffv1", (), descriptor, Fraction(25), TICKS))
    encoder = rig.encoder(part)
    originals = []
    for seed in range(24):
        frame, native = rig.sent(descriptor, seed)
        encoder.write(frame)
        frame.close()
        originals.append(native)
    path = encoder.finish().path
    encoder.close()
    assert rig.pool.stats().misses <= 2
    with av.open(path) as made:
        for original, got in zip(originals, made.decode(video=0), strict=True):
            assert_same(original, got)


def test_write_returns_while_work_with_the_picture_is_still_under_way(rig):
    from cuda.bindings import driver

    from rave_trio.devices.driver import check

    descriptor, kept = described("nv12", (640, 368)), Kept()
    frame, original = rig.sent(descriptor)
    memory, encoder, flag = frame.surface.native.memory, rig.encoder(kept), rig.device.pin(4)
    memory.last_use.wait()
    rig.page_locked.lease(layout(descriptor).nbytes + MARGIN).close()  # to allocate some may wait for what is held
    word, stream = flag.array((1,), np.uint32), rig.device.stream()
    word[0] = 0
    equal = int(driver.CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_EQ)
    with use(stream, memory):
        stream.launch(lambda raw: check(driver.cuStreamWaitValue32(raw.handle, flag.pointer, 1, equal)))
    try:
        encoder.write(frame)
        assert not memory.last_use.query()
    finally:
        word[0] = 1
    frame.close()
    encoder.finish()
    assert_same(original, kept.frames[0].surface.native)
    encoder.close()
    flag.close()


def test_a_run_that_is_dropped_leaves_nothing(rig):
    frame, _ = rig.sent(described("nv12", (3840, 2160)))
    kept = Kept()
    encoder = rig.encoder(kept)
    encoder.write(frame)
    frame.close()
    encoder.close()
    assert not kept.frames


def test_planes_that_are_not_their_descriptors_are_refused(rig):
    frame, _ = rig.sent(described("nv12"))
    frame.surface.descriptor = described("nv12", (64, 64))
    with pytest.raises(ValueError, match="are not those of"):
        rig.encoder(Kept()).write(frame)
    frame.close()


def test_page_locked_memory_that_is_not_there_is_an_error_of_ours(rig):
    with pytest.raises(errors.OutOfMemory, match="cannot be allocated for downloads"):
        rig.page_locked.lease(1 << 50)
