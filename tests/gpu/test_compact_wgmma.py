"""The Compact family's wgmma kernels on a GPU of compute capability 9.0, against numpy."""

from __future__ import annotations

import functools

import numpy as np
import pytest

pytest.importorskip("cuda.core")

import e4m3
from compact_kernels import SIZES, KernelContract, Rig, assert_close
from compact_reference import Layer, architecture, packed, random_layer, through
from cuda.bindings import driver

from rave_trio.devices.driver import check
from rave_trio.inference.compact.kernels_protocol import FEATURES, Parameters, Rows
from rave_trio.inference.compact.mma_kernels import MmaKernels
from rave_trio.inference.compact.wgmma_kernels import WgmmaKernels

E4M3_SUM_ROUNDING = 2.0**-10
"""Relative to the sizes of what is added up: the matrix units add products of e4m3 with fewer bits than fp32 has."""

E4M3_SUMS = 2e-3
"""The same, of all sums together relative to their own size."""


def rig_for(cuda, **how):
    if cuda.compute_capability != (9, 0):
        pytest.skip("the GPU has no wgmma")
    return Rig(cuda, functools.partial(WgmmaKernels, others=MmaKernels, **how))


@pytest.fixture
def rig(cuda):
    rig = rig_for(cuda)
    yield rig
    rig.close()


@pytest.fixture
def fp8(cuda):
    rig = rig_for(cuda, fp8=True)
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


@pytest.mark.parametrize(("source_bytes", "target_bytes"), [(2, 1), (1, 1), (1, 2)])
@pytest.mark.parametrize("features", FEATURES)
def test_the_trunk_reads_and_writes_fp8(fp8, features, source_bytes, target_bytes):
    rng = np.random.default_rng()
    layer = random_layer(rng, features, features, activates=True)
    weights, slope = packed(layer, features), layer.slope
    scale = rng.uniform(0.01, 0.03, features).astype(np.float32)
    if source_bytes == 1:
        weights = e4m3.encoded(weights / scale[:, None])
        exact = (e4m3.decoded(weights) * scale[:, None]).reshape(3, 3, features, features)
        layer = Layer(exact.transpose(2, 3, 0, 1), layer.bias, slope)
    addresses = [fp8.upload(each).pointer for each in (weights, layer.bias, slope)]
    scale_address = fp8.upload(scale).pointer if source_bytes == 1 else 0
    parameters = Parameters(*addresses, scale=scale_address, narrow=target_bytes == 1)
    trunk = fp8.kernels(architecture(features)).trunk
    for height, width in SIZES:
        x = activations(height, width, features)
        if source_bytes == 1:
            codes = e4m3.encoded(x)
            x, source = e4m3.decoded(codes), fp8.upload(codes).pointer
        else:
            source = fp8.upload(x).pointer
        halves = (height, width, features * target_bytes // 2)
        target, memory = fp8.poisoned(halves)
        fp8.put(trunk, source, target, height, width, Rows(0, height), parameters)
        found = fp8.download(memory, halves)
        expected, size = through(x, layer)
        if target_bytes == 2:
            assert (np.abs(found - expected) <= E4M3_SUM_ROUNDING * size).all()
            assert np.linalg.norm(found - expected) <= E4M3_SUMS * np.linalg.norm(expected)
        else:
            check_e4m3(found.view(np.uint8).reshape(x.shape), expected, size, exact=source_bytes == 2)


def check_e4m3(codes: np.ndarray, expected: np.ndarray, size: np.ndarray, *, exact: bool) -> None:
    """Each is what one of the numbers that the sum may have come to is rounded to."""
    slack = size * (2.0**-18 if exact else E4M3_SUM_ROUNDING)
    found = e4m3.decoded(codes)
    least, most = (e4m3.decoded(e4m3.encoded(expected + sign * slack)) for sign in (-1, 1))
    assert ((least <= found) & (found <= most)).all()


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
