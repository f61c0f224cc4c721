"""Surfaces into the backend ``compact`` and surfaces out of it: one launch a frame, and what converters would make."""

from __future__ import annotations

from types import SimpleNamespace

import attrs
import numpy as np
import pytest
import trio
from backend_rigs import host_copy
from colour_reference import Reference
from compact_rigs import Direct, NumpyKernels, host_upload
from compact_surfaces import Case, backend_on, check, shapes_of, through
from device_colours import Converting, noise
from host_kernels import COMPILER, HostLauncher, HostMachine

from rave_trio import errors
from rave_trio.color.cuda.conversion import Conversion
from rave_trio.color.cuda.specialisation import writing
from rave_trio.devices.arrays import DeviceArray
from rave_trio.frames import Frame
from rave_trio.inference.compact.backend import CompactBackend
from rave_trio.inference.compact.kernels_protocol import Planes
from rave_trio.inference.compact.strips import aligned, buffer_bytes, parameter_bytes, picture_bytes
from rave_trio.inference.retreat import RetreatingBackend
from rave_trio.memory.pool import bucket_size
from rave_trio.pipeline import Unchanged, UpscalePipeline

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    return HostLauncher(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def machine(launcher):
    made = HostMachine(launcher)
    yield made
    made.close()


class IntoSurfaces(NumpyKernels):
    """With a tail that writes surfaces: of a picture that grows row by row, converted anew each time."""

    def __init__(self, architecture, launcher, stream):
        super().__init__(architecture, launcher, stream)
        self._launcher, self._stream = launcher, stream

    def tail_into(self, target, *, dither):
        picture = np.full((3, target.height, target.width), np.nan, np.float16)
        whole = DeviceArray(
            SimpleNamespace(pointer=picture.ctypes.data, nbytes=picture.nbytes), picture.shape, np.float16
        )
        write = Conversion(target, writing(target, np.float16, dither=dither), self._stream, self._launcher)

        def put(raw, source, skip, into, top, height, width, rows, parameters):
            scale = self.architecture.factor
            part = Planes(picture.ctypes.data + 2 * top * scale * target.width, picture[0].size)
            self.tail(raw, source, skip, part, height, width, rows, parameters)
            write.put(raw, into, whole)

        return put


@attrs.define
class Maker:
    """Backends on one machine; all that they play is in ``player``."""

    machine: HostMachine
    kernels: type = NumpyKernels
    player: Direct = attrs.field(factory=Direct)

    def __call__(self, net, geometry, ends):
        how = {"make_kernels": self.kernels, "player": self.player, "upload": host_upload, "copy": host_copy}
        return backend_on(self.machine, net, geometry, ends, launcher=self.machine.launcher, **how)


@pytest.fixture
def make(machine):
    return Maker(machine)


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case("p010le", "p010le", "TOP_LEFT", strip=7),
        Case("yuv420p", "nv12", "CENTER", dither=True, factor=3),
        Case("gray", "gbrp", factor=1, alignment=1),
    ],
    ids=str,
)
def test_frames_become_what_converters_make_of_tensors_bit_for_bit(machine, make, case):
    check(machine, make, Reference, case)


@pytest.mark.parametrize("strip", [None, 7])
def test_a_tail_that_writes_surfaces_takes_the_place_of_a_tensor_and_its_conversion(machine, strip):
    case = Case("nv12", "p010le", strip=strip)
    check(machine, Maker(machine, IntoSurfaces), Reference, case)
    with_a_tensor, without = (
        made(case.net, case.geometry, case.ends(Reference)) for made in (Maker(machine), Maker(machine, IntoSurfaces))
    )
    assert [len(backend._whole._tensors) for backend in (with_a_tensor, without)] == [2, 1]
    for backend in (with_a_tensor, without):
        backend.close()


@pytest.fixture
def frames(machine):
    """Makes frames of noise like the usual case's, all different."""
    surface = Case().ends(Reference).source

    def made(count: int) -> list[Frame]:
        converting = Converting(machine)
        found = [converting.frame(noise(Reference, surface, seed), surface) for seed in range(count)]
        return [attrs.evolve(frame, index=index) for index, frame in enumerate(found)]

    return made


def codes_of(machine, frame: Frame) -> list[np.ndarray]:
    target = Case().ends(Reference).target
    return Converting(machine).codes(frame, target, shapes_of(target, Reference))


def test_a_frame_is_one_launch_and_the_same_surfaces_are_the_same_work(machine, make, frames):
    backend = make(Case().net, Case().geometry, Case().ends(Reference))
    for _ in range(2):  # the pool lends the same memory again
        [frame] = frames(1)
        launches = machine.device.launches
        through(backend, frame).close()
        assert machine.device.launches == launches + 1
    first, second = make.player.played
    assert first == second
    backend.close()


def test_a_surface_of_another_size_is_refused_and_stays_the_callers(machine, make, frames):
    backend = make(Case().net, Case().geometry, Case().ends(Reference))
    other = Reference.descriptor("nv12", 64, 64)
    frame = Converting(machine).frame(noise(Reference, other), other)
    with pytest.raises(errors.DecodeError, match="changes to 64x64 nv12 at frame 0; it began as 37x29"):
        backend.submit(frame)
    assert frame.surface.native is not None
    frame.close()
    backend.close()


def test_the_scratch_memory_that_a_plan_counts_holds_the_tensors(machine, make):
    case = Case(size=(64, 40), factor=4)
    backend = make(case.net, case.geometry, case.ends(Reference))
    size = case.net.architecture, len(case.net.layers)
    pictures = aligned(picture_bytes(3, 40, 64)) + aligned(picture_bytes(3, 160, 256))
    counted = parameter_bytes(*size) + 2 * aligned(buffer_bytes(*size, 40, 64, 40)) + pictures
    assert backend._whole._lease.memory.nbytes <= bucket_size(counted)
    backend.close()


@pytest.mark.parametrize("call", ["submit", "collect"])
def test_frames_come_out_of_smaller_strips_when_memory_runs_out(machine, make, frames, call):
    class Scarce(Direct):
        """Has no room for a graph at the second frame."""

        def play(self, stream, key, work, *held):
            if len(self.played) == 1:
                self.played.append("refused")
                raise MemoryError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
            super().play(stream, key, work, *held)

    made = []

    def backend_of(step: int) -> CompactBackend | None:
        made.append(make(Case().net, Case(strip=20 >> step).geometry, Case().ends(Reference)))
        return made[-1]

    expected = [codes_of(machine, frame) for frame in run_through(backend_of(0), frames(3))]
    if call == "collect":
        make.player = Scarce()
    retreating = RetreatingBackend(backend_of)
    if call == "submit":
        made[-1]._surfaces.room = refusing_once(made[-1]._surfaces.room)
    found = [codes_of(machine, frame) for frame in run_through(retreating, frames(3))]
    assert retreating.retreats == 1
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def refusing_once(room):
    left = iter([True])

    def refusing(pool):
        if next(left, False):
            raise errors.OutOfMemory("there is no room")
        return room(pool)

    return refusing


def run_through(backend, frames):
    """All under way at once, then closed; the frames are the caller's for as long as it looks at each."""
    for frame in frames:
        backend.submit(frame)
    for _ in frames:
        frame = backend.collect()
        yield frame
        frame.close()
    backend.close()


async def test_surfaces_flow_through_the_pipeline_without_a_call_before_the_network(machine, make, frames):
    class Decoding:
        def __init__(self) -> None:
            self.left = frames(4)

        def read(self) -> Frame | None:
            return self.left.pop(0) if self.left else None

    class Encoding:
        def __init__(self) -> None:
            self.found = []

        def write(self, frame: Frame) -> None:
            self.found.append(codes_of(machine, frame))

        def finish(self) -> None: ...

    backend = make(Case().net, Case().geometry, Case().ends(Reference))
    expected = [codes_of(machine, frame) for frame in run_through(backend, frames(4))]
    backend, encoder = make(Case().net, Case().geometry, Case().ends(Reference)), Encoding()
    with trio.fail_after(20):
        metrics = await UpscalePipeline().run(Decoding(), Unchanged(), backend, Unchanged(), encoder)
    preprocess = metrics.stages[1]
    assert (preprocess.frames_in, preprocess.frames_out, preprocess.latency.calls) == (4, 4, 0)
    for one, other in zip(encoder.found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
