"""The Compact family's wgmma kernels on a GPU of compute capability 9.0, against numpy."""

from __future__ import annotations

import contextlib
import functools

import attrs
import numpy as np
import pytest
from compact_layers import error, from_e4m3, random_activations, random_layer, tail, to_e4m3, trunk

from rave_trio.inference.compact.kernels_protocol import FEATURES, Architecture, Parameters, Planes, Resampling, Rows

POISON = 0x7F
"""Each byte; as fp16 and as e4m3 a number that is none."""

ROUNDED = 5e-4
"""The error that rounding to fp16 makes, with some room: about 2.4e-4 for numbers of all sizes."""

IN_FP8 = 2e-3
"""The error of sums that are not added up in full fp32, as the matrix units do with e4m3, rounded to fp16."""

SIZES = [(1, 1), (1, 300), (300, 1), (2, 2), (5, 128), (37, 200), (3, 129), (129, 257), (180, 320)]
"""Rows and columns."""


class Memory:
    """What a test has on the device; given back at its end."""

    def __init__(self, device, stack: contextlib.ExitStack) -> None:
        self.device, self.stack = device, stack
        self.stream = device.stream()

    def empty(self, nbytes: int) -> int:
        memory = self.device.allocate(nbytes)
        self.stack.callback(memory.close)
        return memory.pointer

    def poisoned(self, nbytes: int) -> int:
        from cuda.bindings import driver

        from rave_trio.devices.driver import check

        pointer = self.empty(nbytes)
        self.stream.launch(lambda raw: check(driver.cuMemsetD8Async(pointer, POISON, nbytes, raw.handle)))
        return pointer

    def put(self, array: np.ndarray) -> int:
        from cuda.bindings import driver

        from rave_trio.devices.driver import check

        pointer = self.empty(array.nbytes)
        array = np.ascontiguousarray(array)
        with self.device.current():
            check(driver.cuMemcpyHtoD(pointer, array.ctypes.data, array.nbytes))
        return pointer

    def get(self, pointer: int, shape: tuple[int, ...], dtype: type = np.float16) -> np.ndarray:
        from cuda.bindings import driver

        from rave_trio.devices.driver import check

        array = np.empty(shape, dtype)
        self.stream.synchronize()
        with self.device.current():
            check(driver.cuMemcpyDtoH(array.ctypes.data, pointer, array.nbytes))
        return array

    def parameters(self, layer) -> Parameters:
        return Parameters(self.put(layer.weights), self.put(layer.bias), self.put(layer.slope))


@pytest.fixture
def memory(cuda):
    if cuda.compute_capability != (9, 0):
        pytest.skip("the GPU has no wgmma")
    with contextlib.ExitStack() as stack:
        memory = Memory(cuda, stack)
        yield memory
        memory.stream.synchronize()


@pytest.fixture
def random(request):
    seed = np.random.SeedSequence().entropy
    request.node.user_properties.append(("seed", seed))
    return np.random.default_rng(seed)


def kernels(memory, features: int, fp8: bool = False, **architecture):
    from rave_trio.devices.launcher import CudaLauncher
    from rave_trio.inference.compact.wgmma_kernels import WgmmaKernels

    architecture = {"factor": 4, "skip": True, "clip": False} | architecture
    return WgmmaKernels(Architecture(features, **architecture), CudaLauncher(), memory.stream, lambda *_: None, fp8=fp8)


def run_trunk(memory, made, source: int, shape: tuple[int, int, int], rows: Rows, parameters: Parameters) -> np.ndarray:
    """All rows of the target, poisoned before."""
    target = memory.poisoned(2 * int(np.prod(shape)))
    memory.stream.launch(lambda raw: made.trunk(raw, source, target, shape[0], shape[1], rows, parameters))
    return memory.get(target, shape)


@pytest.mark.parametrize("features", FEATURES)
def test_a_trunk_layer_is_computed_for_pictures_of_any_size(memory, random, features):
    made = kernels(memory, features)
    layer = random_layer(random, features, features)
    parameters = memory.parameters(layer)
    errors = {}
    for height, width in SIZES:
        activations = random_activations(random, height, width, features)
        found = run_trunk(memory, made, memory.put(activations), activations.shape, Rows(0, height), parameters)
        errors[height, width] = error(found, trunk(activations, layer))
    assert {size: value for size, value in errors.items() if not value < ROUNDED} == {}


@pytest.mark.parametrize("features", FEATURES)
def test_rows_of_a_trunk_layer_are_what_they_are_in_the_whole_and_no_other_row_is_touched(memory, random, features):
    made = kernels(memory, features)
    parameters = memory.parameters(random_layer(random, features, features))
    activations = random_activations(random, 41, 150, features)
    source, shape = memory.put(activations), activations.shape
    whole = run_trunk(memory, made, source, shape, Rows(0, 41), parameters)
    for begin, end in [(0, 1), (3, 4), (5, 18), (17, 41), (40, 41)]:
        found = run_trunk(memory, made, source, shape, Rows(begin, end), parameters)
        assert (found[begin:end] == whole[begin:end]).all()
        untouched = np.concatenate([found[:begin], found[end:]]).view(np.uint8)
        assert (untouched == POISON).all()


@pytest.mark.parametrize("features", FEATURES)
def test_a_strip_of_the_picture_gives_the_same_numbers_as_the_whole(memory, random, features):
    made = kernels(memory, features)
    parameters = memory.parameters(random_layer(random, features, features))
    activations = random_activations(random, 64, 140, features)
    whole = run_trunk(memory, made, memory.put(activations), activations.shape, Rows(0, 64), parameters)
    strip = activations[9:50]
    found = run_trunk(memory, made, memory.put(strip), strip.shape, Rows(1, 40), parameters)
    assert (found[1:40] == whole[10:49]).all()


@pytest.mark.parametrize(("source_bytes", "target_bytes"), [(2, 1), (1, 1), (1, 2)])
@pytest.mark.parametrize("features", FEATURES)
def test_a_trunk_layer_reads_and_writes_fp8(memory, random, features, source_bytes, target_bytes):
    made = kernels(memory, features, fp8=True)
    layer = random_layer(random, features, features)
    scale = random.uniform(0.01, 0.03, features).astype(np.float32)
    weights, parameters = layer.weights, memory.parameters(layer)
    if source_bytes == 1:
        codes = to_e4m3(layer.weights / scale[:, None])
        weights = from_e4m3(codes) * scale[:, None]
        parameters = attrs.evolve(parameters, weights=memory.put(codes), scale=memory.put(scale))
    parameters = attrs.evolve(parameters, narrow=target_bytes == 1)
    for height, width in SIZES:
        activations = random_activations(random, height, width, features)
        source = memory.put(activations)
        if source_bytes == 1:
            codes = to_e4m3(activations)
            activations, source = from_e4m3(codes), memory.put(codes)
        target = memory.poisoned(target_bytes * activations.size)
        launch = functools.partial(
            made.trunk,
            source=source,
            target=target,
            height=height,
            width=width,
            rows=Rows(0, height),
            parameters=parameters,
        )
        memory.stream.launch(launch)
        expected = trunk(activations, attrs.evolve(layer, weights=weights))
        if target_bytes == 2:
            assert error(memory.get(target, expected.shape), expected) < IN_FP8
        else:
            found = memory.get(target, expected.shape, np.uint8)
            rounded = to_e4m3(expected)
            assert (found != rounded).mean() < 0.03 + 2 / found.size
            assert error(from_e4m3(found), from_e4m3(rounded)) < 0.02


def test_layers_that_follow_one_another_wait_for_each_other(memory, random):
    """Each may begin before the one ahead has ended.  The memory is used again by turns, as in a network."""
    made = kernels(memory, 64)
    layers = [random_layer(random, 64, 64) for _ in range(8)]
    parameters = [memory.parameters(layer) for layer in layers]
    activations = random_activations(random, 180, 320, 64)
    source = memory.put(activations)
    buffers = [memory.poisoned(activations.nbytes) for _ in range(2)]

    def launch(raw) -> None:
        at = source
        for number, each in enumerate(parameters):
            made.trunk(raw, at, buffers[number % 2], 180, 320, Rows(0, 180), each)
            at = buffers[number % 2]

    for _ in range(20):
        memory.stream.launch(launch)
    found = memory.get(buffers[1], activations.shape)
    expected = activations
    for layer in layers:
        expected = trunk(expected, layer).astype(np.float16)
    assert error(found, expected) < 8 * ROUNDED


def test_a_graph_of_layers_does_what_the_launches_do(memory, random):
    from cuda.bindings import driver

    from rave_trio.devices.driver import check

    made = kernels(memory, 64)
    parameters = memory.parameters(random_layer(random, 64, 64))
    activations = random_activations(random, 90, 160, 64)
    source = memory.put(activations)
    first, second = (memory.poisoned(activations.nbytes) for _ in range(2))

    def launch(raw) -> None:
        made.trunk(raw, source, first, 90, 160, Rows(0, 90), parameters)
        made.trunk(raw, first, second, 90, 160, Rows(0, 90), parameters)

    memory.stream.launch(launch)
    expected = memory.get(second, activations.shape)

    def capture(raw) -> None:
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        check(driver.cuStreamBeginCapture(raw.handle, mode))
        launch(raw)
        graph = check(driver.cuStreamEndCapture(raw.handle))
        executable = check(driver.cuGraphInstantiate(graph, 0))
        for pointer in (first, second):
            check(driver.cuMemsetD8Async(pointer, POISON, activations.nbytes, raw.handle))
        check(driver.cuGraphLaunch(executable, raw.handle))
        check(driver.cuStreamSynchronize(raw.handle))
        check(driver.cuGraphExecDestroy(executable))
        check(driver.cuGraphDestroy(graph))

    memory.stream.launch(capture)
    assert (memory.get(second, activations.shape) == expected).all()


def run_tail(memory, made, activations, picture, factor: int, parameters: Parameters, rows: Rows, shift: int = 0):
    """The whole target, poisoned before; both pictures begin ``shift`` elements into their memory."""
    height, width, _ = activations.shape
    shape = (3, height * factor, width * factor)
    source = memory.put(activations)
    moved = np.concatenate([np.zeros(shift, np.float16), picture.ravel()])
    taken = Planes(memory.put(moved) + 2 * shift, height * width)
    count = int(np.prod(shape))
    target = memory.poisoned(2 * (count + shift))
    given = Planes(target + 2 * shift, shape[1] * shape[2])
    memory.stream.launch(lambda raw: made.tail(raw, source, taken, given, height, width, rows, parameters))
    return memory.get(target, (count + shift,))[shift:].reshape(shape)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("features", [16, 32, 48, 64])
def test_the_tail_is_computed_for_pictures_of_any_size(memory, random, features, factor):
    made = kernels(memory, features, factor=factor)
    layer = random_layer(random, features, Architecture(features, factor, True, False).outputs)
    parameters = memory.parameters(layer)
    errors = {}
    for height, width in SIZES:
        activations = random_activations(random, height, width, features)
        picture = random.random((3, height, width), np.float32).astype(np.float16)
        for shift in (0, 1):
            found = run_tail(memory, made, activations, picture, factor, parameters, Rows(0, height), shift)
            errors[height, width, shift] = error(found, tail(activations, layer, picture, factor, False))
    assert {size: value for size, value in errors.items() if not value < ROUNDED} == {}


@pytest.mark.parametrize(("skip", "clip", "resized"), [(True, True, False), (False, False, False), (True, True, True)])
def test_the_tail_adds_and_clips_what_the_architecture_says(memory, random, skip, clip, resized):
    resampling = Resampling(2, (0, 0), ((1.0,), (1.0,))) if resized else None
    made = kernels(memory, 64, skip=skip, clip=clip, resampling=resampling)
    layer = random_layer(random, 64, 48)
    activations = random_activations(random, 37, 200, 64)
    picture = random.random((3, 37, 200), np.float32).astype(np.float16)
    found = run_tail(memory, made, activations, picture, 4, memory.parameters(layer), Rows(0, 37))
    added = picture if skip and not resized else None
    assert error(found, tail(activations, layer, added, 4, clip and not resized)) < ROUNDED


def test_the_tail_writes_the_rows_it_is_asked_for_and_no_other(memory, random):
    made = kernels(memory, 64)
    parameters = memory.parameters(random_layer(random, 64, 48))
    activations = random_activations(random, 41, 150, 64)
    picture = random.random((3, 41, 150), np.float32).astype(np.float16)
    whole = run_tail(memory, made, activations, picture, 4, parameters, Rows(0, 41))
    found = run_tail(memory, made, activations, picture, 4, parameters, Rows(7, 30))
    assert (found[:, 28:120] == whole[:, 28:120]).all()
    assert (np.concatenate([found[:, :28], found[:, 120:]], axis=1).view(np.uint8) == POISON).all()


def test_a_1080p_layer_is_right_in_every_pixel(memory, random):
    made = kernels(memory, 64)
    layer = random_layer(random, 64, 64)
    activations = random_activations(random, 1080, 1920, 64)
    found = run_trunk(memory, made, memory.put(activations), activations.shape, Rows(0, 1080), memory.parameters(layer))
    expected = trunk(activations, layer)
    assert error(found, expected) < ROUNDED
    assert np.abs(found - expected).max() < 0.02


def test_the_largest_picture_is_computed_to_its_last_pixel(memory, random):
    from cuda.bindings import driver

    from rave_trio.devices.driver import check

    made = kernels(memory, 64)
    layer = random_layer(random, 64, 64)
    parameters = memory.parameters(layer)
    side, last = 8192, 12
    source, target = (memory.empty(side * side * 128) for _ in range(2))
    corner = random_activations(random, last, side, 64)
    end = side * side * 128 - corner.nbytes

    def launch(raw) -> None:
        check(driver.cuMemsetD8Async(source, 0, side * side * 128, raw.handle))
        check(driver.cuMemsetD8Async(target, POISON, side * side * 128, raw.handle))
        check(driver.cuMemcpyHtoDAsync(source + end, corner.ctypes.data, corner.nbytes, raw.handle))
        made.trunk(raw, source, target, side, side, Rows(0, side), parameters)

    memory.stream.launch(launch)
    found = memory.get(target + end, corner.shape)
    assert error(found[1:], trunk(corner, layer)[1:]) < ROUNDED
    top = memory.get(target, (2, side, 64))
    of_nothing = np.where(layer.bias > 0, layer.bias, layer.bias * layer.slope)
    assert error(top, np.broadcast_to(of_nothing, top.shape)) < ROUNDED
