"""The network object: strips, buffers, packed parameters, and what it does when memory is short."""

from __future__ import annotations

import itertools
from fractions import Fraction

import attrs
import numpy as np
import pytest
from backend_rigs import host_view
from compact_rigs import Direct, NumpyKernels, NumpyKernelsAtOnce, numbers, random_net
from compact_world import HALF, World
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_trio import errors
from rave_trio.inference.compact.kernels_protocol import Architecture
from rave_trio.inference.compact.net import evaluate
from rave_trio.inference.compact.resampling import Resize
from rave_trio.inference.compact.strips import aligned, buffer_bytes, parameter_bytes, resampling_reach, strips
from rave_trio.inference.compact.weights import packed
from rave_trio.memory.pool import bucket_size


@pytest.fixture
def world():
    made = World()
    yield made
    made.close()


@pytest.mark.parametrize("features", [1, 16, 17, 64, 65, 100])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_parameters_are_padded_with_zeros_that_change_nothing(world, noise, features, factor):
    net, picture = random_net(features, 1, factor), noise(6, 7)
    np.testing.assert_allclose(world.run(net, picture), evaluate(net, picture), rtol=0, atol=1e-2)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("mode", [None, "cubic", "linear", "nearest"])
def test_skip_clip_and_resize_in_any_combination(world, noise, skip, clip, mode):
    resampling = None if mode is None else attrs.evolve(HALF, mode=mode).over(4)
    net, picture = random_net(8, 2, 4, resampling, skip=skip, clip=clip), noise(9, 7)
    result = world.run(net, picture)
    np.testing.assert_allclose(result, evaluate(net, picture), rtol=0, atol=1e-2)
    assert not clip or (result.min() >= 0 and result.max() <= 1)


@pytest.mark.parametrize("trunk", [0, 1, 2, 3])
def test_layers_take_turns_with_the_two_buffers(world, noise, trunk):
    net, picture = random_net(trunk=trunk, resampling=HALF.over(2)), noise(5, 6)
    np.testing.assert_allclose(world.run(net, picture), evaluate(net, picture), rtol=0, atol=1e-2)


@pytest.mark.parametrize("skip", [False, True])
def test_a_tail_that_resizes_takes_the_place_of_both(noise, skip):
    world = World(kernels=NumpyKernelsAtOnce)
    net, picture = random_net(8, 1, 4, HALF.over(4), skip=skip), noise(9, 7)
    network = world.network(net, 9, 7)
    kernels = network._kernels
    network.close()
    world.kernels = lambda *_: kernels
    np.testing.assert_allclose(world.run(net, picture), evaluate(net, picture), rtol=0, atol=1e-2)
    assert kernels.calls == ["head", "trunk", "tail_resized"]
    world.close()


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 40),
    strip=st.integers(1, 40),
    trunk=st.integers(0, 4),
    how=st.sampled_from([(2, None), (4, "1/2"), (4, "3/4"), (1, "2"), (3, "1/3")]),
    mode=st.sampled_from(["cubic", "linear", "nearest"]),
    kernels=st.sampled_from([NumpyKernels, NumpyKernelsAtOnce]),
)
def test_strips_give_what_the_whole_picture_gives_bit_for_bit(height, strip, trunk, how, mode, kernels):
    factor, ratio = how
    resampling = None if ratio is None else Resize(Fraction(ratio), mode, "half_pixel").over(factor)
    net = random_net(4, trunk, factor, resampling)
    picture = np.random.default_rng(height).random((3, height, 5), np.float32)
    world = World(kernels=kernels)
    whole, striped = world.run(net, picture), world.run(net, picture, strip)
    assert not np.isnan(whole).any()
    np.testing.assert_array_equal(striped.view(np.uint16), whole.view(np.uint16))
    world.close()


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 300), rows=st.integers(1, 300), layers=st.integers(2, 66))
def test_strips_cover_every_row_once_and_hold_what_their_layers_look_at(height, rows, layers):
    architecture = Architecture(64, 4, True, False, HALF.over(4))
    made = strips(architecture, layers, height, rows)
    own = [(strip.top + strip.result.begin, strip.top + strip.result.end) for strip in made]
    assert [begin for begin, _ in own] == [0, *(end for _, end in own[:-1])]
    assert own[-1][1] == height
    assert max(end - begin for begin, end in own) <= rows
    tallest = max(strip.height for strip in made)
    assert buffer_bytes(architecture, layers, height, 10, rows) == tallest * 10 * 64 * 2
    for strip in made:
        assert 0 <= strip.top < strip.bottom <= height
        for before, after in itertools.pairwise(strip.layers):
            assert before.begin == max(0, after.begin - 1) or strip.top == 0
            assert before.end >= min(strip.height, after.end + 1) or strip.bottom == height


def test_the_final_resize_looks_at_the_rows_that_its_weights_say():

    assert resampling_reach(HALF.over(4), 4) == 1
    assert resampling_reach(Resize(Fraction(3, 4), "cubic", "half_pixel").over(4), 4) == 1
    assert resampling_reach(Resize(Fraction(2), "cubic", "half_pixel").over(1), 1) == 2
    assert resampling_reach(Resize(Fraction(1, 2), "nearest", "asymmetric").over(2), 2) == 0


def test_the_bytes_that_a_plan_counts_are_those_that_are_taken(world):
    for net in (random_net(64, 3, 4), random_net(17, 2, 4, HALF.over(4)), random_net(128, 1, 1)):
        network = world.network(net, 30, 20, 8)
        size = net.architecture, len(net.layers)
        assert packed(net).data.nbytes <= parameter_bytes(*size) < 1.3 * packed(net).data.nbytes
        counted = parameter_bytes(*size) + 2 * aligned(buffer_bytes(*size, 30, 20, 8))
        assert network._lease.memory.nbytes <= bucket_size(counted)
        network.close()


def test_packed_parameters_lie_where_the_protocol_says():
    net = random_net(20, 1, 3)
    made = packed(net)
    base = made.data.ctypes.data
    head, trunk, tail = made.at(base)
    assert all(
        (address - base) % 256 == 0 for each in (head, trunk, tail) for address in (each.weights, each.bias, each.slope)
    )
    weights = numbers(head.weights, (32, 32), np.float16)
    assert weights[4, 3 * 5 + 2] == np.float16(net.layers[0].weights[4, 2, 1, 2])
    assert not weights[20:].any()
    weights = numbers(trunk.weights, (9, 32, 32), np.float16)
    assert weights[3 * 2 + 1, 6, 9] == np.float16(net.layers[1].weights[6, 9, 2, 1])
    assert not weights[:, 20:].any()
    assert not weights[:, :, 20:].any()
    weights = numbers(tail.weights, (9, 32, 32), np.float16)
    assert weights[8, 26, 19] == np.float16(net.layers[2].weights[26, 19, 2, 2])
    np.testing.assert_array_equal(numbers(trunk.bias, (32,), np.float32)[:20], net.layers[1].bias)
    np.testing.assert_array_equal(numbers(trunk.slope, (32,), np.float32)[:20], net.layers[1].slope)


def test_the_tails_outputs_are_sums_where_it_resizes():
    net = random_net(6, 0, 4, HALF.over(4))
    made = packed(net, resized=True)
    _, tail = made.at(made.data.ctypes.data)
    own = (-0.09375, 0.59375, 0.59375, -0.09375)[1:]  # of samples 0 to 2 in the first result, of 3 to 1 in the second
    samples = net.layers[1].weights[16:32].reshape(4, 4, 6, 3, 3)[:, :, 5, 2, 1].astype(np.float64)
    weights = numbers(tail.weights, (9, 48, 16), np.float16)[7, 16:32, 5].reshape(4, 4)
    across = np.stack([samples[:, :3] @ own, samples[:, 1:] @ own[::-1], samples[:, 0], samples[:, 3]])
    expected = np.stack([across[:, :3] @ own, across[:, 1:] @ own[::-1], across[:, 0], across[:, 3]])
    np.testing.assert_allclose(weights, expected, rtol=2.0**-10)
    bias = net.layers[1].bias[16:32].reshape(4, 4)
    assert numbers(tail.bias, (48,), np.float32)[16 + 4 * 2 + 3] == bias[0, 3]


def test_weights_beyond_fp16_become_its_largest():
    net = random_net(trunk=1)
    net.layers[1].weights[0, 0, 0, 0] = 1e6
    made = packed(net)
    _, trunk, _ = made.at(made.data.ctypes.data)
    assert numbers(trunk.weights, (1,), np.float16)[0] == np.finfo(np.float16).max


def test_the_same_addresses_are_the_same_work(world, noise):
    network = world.network(random_net(), 6, 5)
    arrays = [world.array((3, 6, 5)), world.array((3, 12, 10)), world.array((3, 12, 10))]
    host_view(arrays[0])[:] = 0.5
    for target in (1, 2, 1):
        network.launch(world.stream, arrays[0], arrays[target], failed=pytest.fail)
    world.stream.synchronize()
    first, second, third = world.player.played
    assert first == third != second
    network.close()
    for array in arrays:
        array.memory.close()


def test_where_there_is_no_memory_nothing_is_kept(noise):
    net = random_net(64)
    world = World(limit=buffer_bytes(net.architecture, 4, 40, 40, 40) + (1 << 18))
    with pytest.raises(errors.OutOfMemory):
        world.network(net, 40, 40)
    world.close()


def test_want_of_memory_while_playing_fails_the_frame_alone(world):
    class Scarce(Direct):
        def play(self, stream, key, work, *held):
            raise MemoryError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")

    world.player = Scarce()
    network = world.network(random_net(), 6, 5)
    source, target = world.array((3, 6, 5)), world.array((3, 12, 10))
    failures: list[Exception] = []
    network.launch(world.stream, source, target, failures.append)
    assert network.describe(failures[0]) == (True, "CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    network.close()
    for array in (source, target):
        array.memory.close()
