"""The Compact family's wgmma kernels on a GPU of compute capability 9.0, against numpy."""

from __future__ import annotations

import functools

import numpy as np
import pytest

pytest.importorskip("cuda.core")

from compact_kernels import (
    SIZES,
    KernelContract,
    Rig,
    assert_close,
    check_first_fp8_layer,
    check_fp8_trunk,
    picture_of,
)
from compact_reference import (
    Layer,
    architecture,
    cubic,
    enlarged,
    from_sums,
    packed,
    random_layer,
    resampled,
    through,
)
from cuda.bindings import driver

from rave_trio.devices.driver import check
from rave_trio.inference.compact.kernels_protocol import (
    FEATURES,
    Architecture,
    Parameters,
    Planes,
    Resampling,
    Rows,
)
from rave_trio.inference.compact.sums import summed
from rave_trio.inference.compact.wgmma_kernels import WgmmaKernels, has_tail


def rig_for(cuda, **how):
    if cuda.compute_capability != (9, 0):
        pytest.skip("the GPU has no wgmma")
    return Rig(cuda, functools.partial(WgmmaKernels, **how))


@pytest.fixture
def rig(cuda):
    rig = rig_for(cuda, at_once=False)
    yield rig
    rig.close()


@pytest.fixture
def fp8(cuda):
    """In fp8, with a tail that resizes."""
    rig = rig_for(cuda, fp8=True)
    yield rig
    rig.close()


@pytest.fixture
def fp8_apart(cuda):
    """In fp8, with a resize of its own."""
    rig = rig_for(cuda, fp8=True, at_once=False)
    yield rig
    rig.close()


@pytest.fixture
def at_once(cuda):
    """With a tail that resizes."""
    rig = rig_for(cuda)
    yield rig
    rig.close()


class TestWgmmaKernels(KernelContract):
    """The suite for every set of kernels."""


def activations(height: int, width: int, features: int) -> np.ndarray:
    return np.random.default_rng().normal(0, 1, (height, width, features)).astype(np.float16)


def random_trunk(rig, features: int) -> tuple[Layer, Parameters]:
    layer = random_layer(np.random.default_rng(), features, features, activates=True)
    return layer, rig.parameters(packed(layer, features), layer.bias, layer.slope)


def computed(rig, x: np.ndarray, rows: Rows, parameters: Parameters) -> np.ndarray:
    source, _ = rig.guarded(x)
    target, memory = rig.poisoned(x.shape)
    rig.put(rig.kernels(architecture(x.shape[2])).trunk, source, target, *x.shape[:2], rows, parameters)
    return rig.download(memory, x.shape)


@pytest.mark.parametrize("features", FEATURES)
def test_a_strip_of_the_picture_gives_the_same_numbers_as_the_whole(rig, features):
    """Bit by bit, wherever the strip begins: a product computes several rows of few features."""
    _, parameters = random_trunk(rig, features)
    x = activations(64, 140, features)
    whole = computed(rig, x, Rows(0, 64), parameters)
    for top in (1, 6, 9):
        strip = computed(rig, x[top : top + 41], Rows(1, 40), parameters)
        assert (strip[1:40] == whole[top + 1 : top + 40]).all()


def test_layers_that_follow_one_another_read_what_was_written_before(rig):
    """The memory is used again by turns, as in a network, and nobody waits in between."""
    kernels = rig.kernels(architecture(64))
    layers = [random_trunk(rig, 64) for _ in range(8)]
    x = activations(180, 320, 64)
    source = rig.upload(x).pointer
    (first, _), (second, memory) = (rig.poisoned(x.shape) for _ in range(2))

    def launch(raw) -> None:
        at = source
        for number, (_, parameters) in enumerate(layers):
            target = (first, second)[number % 2]
            kernels.trunk(raw, at, target, 180, 320, Rows(0, 180), parameters)
            at = target

    for _ in range(20):
        rig.stream.launch(launch)
    expected = x.astype(np.float64)
    for layer, _ in layers:
        expected, _ = through(expected, layer)
        expected = expected.astype(np.float16).astype(np.float64)
    found = rig.download(memory, x.shape).astype(np.float64)
    assert np.linalg.norm(found - expected) < 2e-3 * np.linalg.norm(expected)


def test_a_graph_of_layers_does_what_the_launches_do(rig):
    kernels = rig.kernels(architecture(64))
    _, parameters = random_trunk(rig, 64)
    x = activations(90, 160, 64)
    source = rig.upload(x).pointer
    (first, _), (second, memory) = (rig.poisoned(x.shape) for _ in range(2))

    def launch(raw) -> None:
        kernels.trunk(raw, source, first, 90, 160, Rows(0, 90), parameters)
        kernels.trunk(raw, first, second, 90, 160, Rows(0, 90), parameters)

    rig.stream.launch(launch)
    expected = rig.download(memory, x.shape)

    def replay(raw) -> None:
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        check(driver.cuStreamBeginCapture(raw.handle, mode))
        launch(raw)
        graph = check(driver.cuStreamEndCapture(raw.handle))
        executable = check(driver.cuGraphInstantiate(graph, 0))
        for pointer in (first, second):
            check(driver.cuMemsetD8Async(pointer, 0xFF, x.nbytes, raw.handle))
        check(driver.cuGraphLaunch(executable, raw.handle))
        check(driver.cuStreamSynchronize(raw.handle))
        check(driver.cuGraphExecDestroy(executable))
        check(driver.cuGraphDestroy(graph))

    rig.stream.launch(replay)
    assert (rig.download(memory, x.shape) == expected).all()


@pytest.mark.parametrize("remains", [True, False])
@pytest.mark.parametrize("features", FEATURES)
def test_the_first_layer_of_the_trunk_writes_fp8(fp8, features, remains):
    check_first_fp8_layer(fp8, features, remains=remains)


@pytest.mark.parametrize("remains", [True, False])
@pytest.mark.parametrize("features", FEATURES)
def test_the_trunk_reads_and_writes_fp8(fp8, features, remains):
    check_fp8_trunk(fp8, features, remains=remains)


@pytest.mark.parametrize("features", FEATURES)
def test_the_tail_reads_fp8(fp8, features):
    for height, width in SIZES:
        KernelContract().check_tail(fp8, architecture(features), height, width)


@pytest.mark.parametrize("features", [64, 128])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_the_tail_in_fp8_shuffles_by_any_factor_and_writes_pictures_that_begin_anywhere(fp8, features, factor):
    for height, width in SIZES:
        KernelContract().check_tail(fp8, architecture(features, factor, clip=True), height, width)
    KernelContract().check_tail(fp8, architecture(features, factor, skip=False), 40, 64, shift=1)


@pytest.mark.parametrize("features", [64, 128])
def test_the_tail_in_fp8_writes_only_the_rows_asked_for(fp8, features):
    for begin, end in [(0, 1), (3, 30), (17, 40), (39, 40)]:
        KernelContract().check_tail(fp8, architecture(features), 40, 190, Rows(begin, end))


def test_the_tail_in_fp8_leaves_to_the_resize_what_is_the_resizes(fp8_apart):
    for scale in (2, 3):
        arch = architecture(64, 4, clip=True, resampling=cubic(scale, 4))
        KernelContract().check_tail(fp8_apart, arch, 37, 200)


def test_the_tail_in_fp8_computes_a_whole_frame(fp8):
    KernelContract().check_tail(fp8, architecture(64), 720, 1280, dtype=np.float32)


def test_the_largest_picture_is_computed_to_its_last_pixel(rig):
    layer, parameters = random_trunk(rig, 64)
    side, last = 8192, 12
    nbytes = side * side * 64 * 2
    source, target = (rig.device.allocate(nbytes) for _ in range(2))
    corner = activations(last, side, 64)
    end = nbytes - corner.nbytes
    found, top = np.empty_like(corner), np.empty((2, side, 64), np.float16)

    def run(raw) -> None:
        check(driver.cuMemsetD8Async(source.pointer, 0, nbytes, raw.handle))
        check(driver.cuMemsetD8Async(target.pointer, 0xFF, nbytes, raw.handle))
        check(driver.cuMemcpyHtoDAsync(source.pointer + end, corner.ctypes.data, corner.nbytes, raw.handle))
        kernels = rig.kernels(architecture(64))
        kernels.trunk(raw, source.pointer, target.pointer, side, side, Rows(0, side), parameters)
        check(driver.cuMemcpyDtoHAsync(found.ctypes.data, target.pointer + end, found.nbytes, raw.handle))
        check(driver.cuMemcpyDtoHAsync(top.ctypes.data, target.pointer, top.nbytes, raw.handle))
        check(driver.cuStreamSynchronize(raw.handle))

    rig.stream.launch(run)
    source.close()
    target.close()
    expected, size = through(corner, layer)
    assert_close(found[1:], expected[1:], size[1:])
    of_nothing = np.where(layer.bias > 0, layer.bias, layer.bias * layer.slope).astype(np.float16)
    assert (top == of_nothing).all()


class Resizing:
    """A tail that resizes on random activations, and what numpy makes of them."""

    def __init__(self, rig, arch: Architecture, height: int, width: int, dtype=np.float64) -> None:
        rng = np.random.default_rng()
        factor = arch.factor
        self.rig, self.arch, self.kernels = rig, arch, rig.kernels(arch)
        self.x, _ = rig.activations(activations(height, width, arch.features), fp8=self.kernels.fp8)
        self.picture = picture_of(rng, height, width)
        tail = summed(random_layer(rng, 3 * factor**2, arch.features, activates=False), arch)
        layer, self.parameters = rig.tail(tail, arch.outputs, fp8=self.kernels.fp8)
        sums, sizes = through(self.x, layer, dtype)
        self.expected = from_sums(sums, factor, arch.resampling)
        self.size = from_sums(sizes, factor, sizes_of(arch.resampling))
        if arch.skip:
            self.expected = self.expected + resampled(enlarged(self.picture, factor), factor, arch.resampling)
            self.size = self.size + 2
        if arch.clip:
            self.expected = self.expected.clip(0, 1)

    def computed(self, rows: Rows, held: Rows | None = None, shift: int = 0) -> np.ndarray:
        """All rows of the result that belong to ``held``, of which ``rows`` (counted in it) are written."""
        held = held or Rows(0, self.x.shape[0])
        x, picture = self.x[held.begin : held.end], self.picture[:, held.begin : held.end]
        height, width = x.shape[:2]
        (_, source), (skip, _) = self.rig.activations(x, fp8=self.kernels.fp8), self.rig.guarded(picture, shift)
        shape = (3, height * self.arch.scale, width * self.arch.scale)
        target, memory = self.rig.poisoned(shape, shift)
        self.rig.put(
            self.kernels.tail_resized, source, Planes(skip, height * width),
            Planes(target, shape[1] * shape[2]), height, width, rows, self.parameters,
        )  # fmt: skip
        return self.rig.download(memory, shape, shift)

    def check(self, rows: Rows | None = None, shift: int = 0) -> None:
        rows = rows or Rows(0, self.x.shape[0])
        out = self.computed(rows, shift=shift)
        window = slice(rows.begin * self.arch.scale, rows.end * self.arch.scale)
        assert np.isnan(out[:, : window.start]).all()
        assert np.isnan(out[:, window.stop :]).all()
        assert_close(out[:, window], self.expected[:, window], self.size[:, window], fp8=self.kernels.fp8)


def sizes_of(resampling: Resampling) -> Resampling:
    """Its weights without their signs."""
    return Resampling(
        resampling.scale, resampling.first, tuple(tuple(map(abs, weights)) for weights in resampling.taps)
    )


RESIZED_SIZES = [*SIZES, (3, 126), (2, 127), (300, 253)]


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("features", [each for each in FEATURES if has_tail(each)])
def test_the_tail_resizes_any_size(at_once, features, skip):
    arch = architecture(features, 4, skip=skip, clip=not skip, resampling=cubic(2, 4))
    for height, width in RESIZED_SIZES:
        Resizing(at_once, arch, height, width).check()


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("features", FEATURES)
def test_the_tail_in_fp8_resizes_any_size(fp8, features, skip):
    arch = architecture(features, 4, skip=skip, clip=not skip, resampling=cubic(2, 4))
    for height, width in RESIZED_SIZES:
        Resizing(fp8, arch, height, width).check()


@pytest.mark.parametrize("features", [64, 128])
def test_the_tail_in_fp8_resizes_by_other_factors_to_where_pictures_begin(fp8, features):
    for scale, factor in [(1, 3), (1, 4)]:
        arch = architecture(features, factor, resampling=cubic(scale, factor))
        for shift, (height, width) in enumerate(RESIZED_SIZES):
            Resizing(fp8, arch, height, width).check(shift=shift % 4)


@pytest.mark.parametrize(("scale", "factor"), [(1, 3), (1, 4)])
def test_the_tail_resizes_by_other_factors(at_once, scale, factor):
    arch = architecture(64, factor, resampling=cubic(scale, factor))
    for height, width in RESIZED_SIZES:
        Resizing(at_once, arch, height, width).check()


def test_the_tail_resizes_a_whole_frame(at_once):
    Resizing(at_once, architecture(64, 4, resampling=cubic(2, 4)), 360, 640, np.float32).check()


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_a_resized_picture_may_begin_anywhere(at_once, shift):
    Resizing(at_once, architecture(64, 4, resampling=cubic(2, 4)), 21, 66).check(shift=shift)


def test_the_tail_resizes_the_nearest_samples_and_no_others(at_once):
    nearest = Resampling(2, (0, 2), ((1.0,), (1.0,)))
    Resizing(at_once, architecture(64, 4, resampling=nearest), 21, 130).check()


def test_only_the_resized_rows_asked_for_are_written(at_once):
    resizing = Resizing(at_once, architecture(64, 4, resampling=cubic(2, 4)), 40, 190)
    for begin, end in [(0, 1), (3, 30), (17, 40), (39, 40), (20, 21)]:
        resizing.check(Rows(begin, end))


@pytest.mark.parametrize("precision", ["at_once", "fp8"])
def test_a_resized_strip_gives_the_same_numbers_as_the_whole(request, precision):
    """Bit by bit, where two rows beyond its own are held, and where the picture ends."""
    resizing = Resizing(request.getfixturevalue(precision), architecture(64, 4, resampling=cubic(2, 4)), 60, 260)
    whole = resizing.computed(Rows(0, 60))
    for begin, end in [(0, 7), (7, 8), (8, 41), (41, 60)]:
        held = Rows(max(0, begin - 2), min(60, end + 2))
        part = resizing.computed(Rows(begin - held.begin, end - held.begin), held)
        own = part[:, (begin - held.begin) * 2 : (end - held.begin) * 2]
        assert (own == whole[:, begin * 2 : end * 2]).all()


@pytest.mark.parametrize("precision", ["at_once", "fp8"])
def test_frames_resized_one_after_the_other_are_all_alike(request, precision):
    """Whatever the warpgroups' order: what a row hands on is there before it is read."""
    resizing = Resizing(
        request.getfixturevalue(precision), architecture(64, 4, resampling=cubic(2, 4)), 300, 640, np.float32
    )
    first = resizing.computed(Rows(0, 300))
    for _ in range(20):
        assert (resizing.computed(Rows(0, 300)) == first).all()
