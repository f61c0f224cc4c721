"""Networks in fp8: calibration, packing, and what becomes of pictures, by kernels in numpy."""

from __future__ import annotations

import attrs
import av
import e4m3
import numpy as np
import pytest
from compact_rigs import NumpyKernelsFp8, numbers, random_net
from compact_world import HALF, World
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_trio.inference.catalogue import find_model
from rave_trio.inference.compact import e4m3 as rounding
from rave_trio.inference.compact.calibration import MARGIN, calibrated, pictures, reordered, scales_for
from rave_trio.inference.compact.find import find_compact
from rave_trio.inference.compact.kernels_protocol import REMAINING, REMAINING_CHANNELS
from rave_trio.inference.compact.net import CompactNet, Layer, convolved, evaluate
from rave_trio.inference.compact.strips import aligned, buffer_bytes, parameter_bytes
from rave_trio.inference.compact.weights import packed
from rave_trio.memory.pool import bucket_size


@pytest.fixture
def world():
    made = World(kernels=NumpyKernelsFp8)
    yield made
    made.close()


def decibels(result: np.ndarray, exact: np.ndarray) -> float:
    """As pictures of 8 bits."""
    codes = [np.rint(np.clip(each.astype(np.float64), 0, 1) * 255) for each in (result, exact)]
    return float(10 * np.log10(255**2 / np.mean((codes[0] - codes[1]) ** 2)))


def test_numbers_are_rounded_to_the_nearest_of_their_kind():
    rng = np.random.default_rng(0)
    every = e4m3.decoded(np.delete(np.arange(256), [0x7F, 0xFF]).astype(np.uint8))
    between = (np.sort(every)[1:] + np.sort(every)[:-1]) / 2
    for some in (every, between, rng.normal(0, 1, 1000) * 2.0 ** rng.integers(-12, 12, 1000), np.array([1e9, -np.inf])):
        np.testing.assert_array_equal(rounding.encoded(some), e4m3.encoded(some))
        np.testing.assert_array_equal(rounding.rounded(some), e4m3.decoded(e4m3.encoded(some)))
    assert (rounding.encoded(np.array([np.nan, -np.nan])) & 0x7F == 0x7F).all()


@pytest.mark.parametrize("features", [3, 24, 64])
def test_another_order_of_features_is_the_same_network(noise, features):
    net = random_net(features, 3)
    order = np.random.default_rng(1).permutation(features)
    picture = noise(5, 6).astype(np.float64)
    np.testing.assert_allclose(evaluate(reordered(net, order), picture), evaluate(net, picture), rtol=0, atol=1e-9)


def test_scales_are_powers_of_two_that_leave_a_margin_and_dead_channels_have_one_too():
    largest = np.array([0, np.nan, np.inf, 1e-20, 0.3, 448, 1e6])
    scales = scales_for(largest)
    assert (np.exp2(np.rint(np.log2(scales))) == scales).all()
    assert (scales[:3] == 1).all()
    filled = largest[3:] / scales[3:]
    assert (filled <= 448 / MARGIN).all()
    assert (filled > 448 / MARGIN / 2 - 1e-3).all()


def test_a_network_is_calibrated_alike_whenever_that_is_done():
    first, second = calibrated(random_net(8, 4)), calibrated(random_net(8, 4))
    np.testing.assert_array_equal(first.order, second.order)
    np.testing.assert_array_equal(first.scales, second.scales)
    for picture in pictures():
        codes = picture * 255
        assert (np.abs(codes - np.rint(codes)) < 1e-4).all()


def test_channels_that_hand_the_picture_on_come_where_remainders_are_kept():
    net = handing_on(channels=(5, 11), features=20, trunk=4)
    assert set(calibrated(net).order[REMAINING_CHANNELS][:2]) == {5, 11}


@pytest.mark.parametrize("features", [1, 2, 5, 17])
def test_every_feature_has_a_place(features):
    order = calibrated(random_net(features, 2)).order
    np.testing.assert_array_equal(np.sort(order), np.arange(features))


def handing_on(channels: tuple[int, ...], features: int, trunk: int) -> CompactNet:
    """Of which some channels carry the picture's planes to the end, as they are, among faint others."""
    rng = np.random.default_rng(3)
    head, *between, tail = random_net(features, trunk, factor=1, skip=False).layers

    def faint(layer: Layer) -> Layer:
        slope = None if layer.slope is None else np.ones_like(layer.slope)
        return Layer(1e-3 * rng.normal(0, 1, layer.weights.shape).astype(np.float32), 0 * layer.bias, slope)

    layers = [faint(each) for each in (head, *between, tail)]
    for plane, channel in enumerate(channels):
        layers[0].weights[channel, plane, 1, 1] = 1
        layers[-1].weights[plane, channel, 1, 1] = 1
        for layer in layers[1:-1]:
            layer.weights[channel, channel, 1, 1] = 0.97
    return CompactNet(tuple(layers), 1, skip=False, resampling=None, clip=False)


def test_what_channels_hand_on_is_not_rounded_to_four_bits_in_every_layer(world, noise):
    """Of sixteen layers the last one alone, and the tail, read what was rounded so: elsewhere remainders are added."""
    net, picture = handing_on((5, 11, 2), 20, 16), noise(8, 9)
    error = world.run(net, picture) - evaluate(net, picture)
    assert np.sqrt(np.mean(np.square(error))) < 0.02


def test_numbers_that_e4m3_holds_are_computed_exactly(world):
    """Each layer shifts and mixes few small numbers."""
    net = handing_on((0, 1, 2), 3, 3)
    head, *trunk, tail = (attrs.evolve(layer, weights=np.rint(layer.weights)) for layer in net.layers)
    trunk = [attrs.evolve(layer, weights=layer.weights.copy(), slope=np.full(3, 0.5, np.float32)) for layer in trunk]
    trunk[1].weights[0, 1, 0, 2] = -1
    net = attrs.evolve(net, layers=(head, *trunk, tail))
    picture = np.random.default_rng(0).choice([0, 0.25, 0.5, 1], (3, 6, 7)).astype(np.float32)
    np.testing.assert_array_equal(world.run(net, picture), evaluate(net, picture))


@pytest.mark.parametrize("features", [5, 64, 70])
def test_packed_weights_times_their_scales_are_the_layers_but_for_rounding(features):
    net = random_net(features, 3)
    calibration = calibrated(net)
    made, padded, outputs = packed(net, calibration), net.architecture.features, net.architecture.outputs
    parameters = made.at(made.data.ctypes.data)
    _, first, *others = parameters
    assert [each.scale > 0 for each in parameters] == [False, False, True, True, True]
    assert [each.remains for each in parameters] == [False, True, True, False, False]
    _, *layers = reordered(net, calibration.order).layers
    signs = [np.where(layer.slope > 1, -1, 1) for layer in layers[:-1]]
    assert min(sign.min() for sign in signs) < 0
    scales = [each[calibration.order] * sign for each, sign in zip(calibration.scales, signs, strict=True)]
    weights = numbers(first.weights, (9, padded, padded), np.float16)[:, :features, :features]
    expected = layers[0].weights.transpose(2, 3, 0, 1).reshape(9, features, features)
    np.testing.assert_allclose(weights * scales[0][:, None], expected, rtol=2**-10, atol=1e-6)
    wide = [padded] * 2 + [outputs]
    written = [*scales[1:], np.ones(len(layers[-1].bias))]
    for layer, packed_as, read, made_of, width in zip(layers[1:], others, scales, written, wide, strict=True):
        used = len(layer.bias)
        codes = numbers(packed_as.weights, (9, width, padded), np.uint8)
        assert not codes[:, used:].any()
        assert not codes[:, :, features:].any()
        scale = numbers(packed_as.scale, (width,), np.float32)
        found = e4m3.decoded(codes)[:, :used, :features] * scale[:used, None] * made_of[:, None] / read
        expected = layer.weights.transpose(2, 3, 0, 1).reshape(9, used, features)
        size = np.abs(read)
        most = np.abs(expected).max(axis=0) + np.abs(expected * size).max(axis=(0, 2))[:, None] / size * 2**-13
        assert (np.abs(found - expected) <= 2**-3 * most + 1e-9).all()
        together = np.abs((found - expected).sum(axis=0))
        assert np.sqrt(np.mean(np.square(together / most))) < 0.025
        bias = numbers(packed_as.bias, (width,), np.float32)[:used]
        np.testing.assert_array_equal(bias, (layer.bias / made_of).astype(np.float32))
    own = np.arange(features)[REMAINING_CHANNELS]
    for layer, packed_as, read, made_of in zip(layers[1:-1], others, scales, written, strict=False):
        through = numbers(packed_as.scale + 4 * padded, (REMAINING,), np.float32)
        assert not through[len(own) :].any()
        through = through[: len(own)] * made_of[own] / read[own]
        np.testing.assert_allclose(through, layer.weights[own, own, 1, 1], rtol=1e-6)


def test_weights_that_are_none_and_outputs_of_nothing_are_packed_as_such(world, noise):
    net = random_net(6, 3)
    net.layers[2].weights[1] = 0
    net.layers[1].weights[2] = 0
    net.layers[1].bias[2] = 0
    assert np.isfinite(world.run(net, noise(5, 5))).all()
    net.layers[2].weights[0, 0, 0, 0] = np.nan
    made = packed(net, calibrated(random_net(6, 3)))
    assert np.isfinite(numbers(made.at(made.data.ctypes.data)[2].scale, (16,), np.float32)).all()


def test_a_trunk_of_one_layer_has_no_remainders(world, noise):
    net, picture = random_net(6, 1), noise(5, 7)
    made = packed(net, calibrated(net))
    assert not any(each.remains for each in made.at(made.data.ctypes.data))
    exact = evaluate(net, picture)
    assert np.linalg.norm(world.run(net, picture) - exact) < 0.1 * np.linalg.norm(exact)


def test_a_network_without_a_trunk_cannot_be_in_fp8():
    net = random_net(6, 0)
    with pytest.raises(ValueError, match="without a trunk"):
        packed(net, calibrated(net))


def test_sums_that_are_bent_to_little_stay_within_fp16_before_that():
    """Which is what kernels round them to."""
    net = random_net(6, 2)
    net.layers[1].weights[:], net.layers[1].bias[:], net.layers[1].slope[:] = 0, -1000, 1e-5
    assert (1000 / calibrated(net).scales[0] <= np.finfo(np.float16).max / MARGIN).all()


@settings(deadline=None, max_examples=10)
@given(
    height=st.integers(1, 40),
    strip=st.integers(1, 40),
    trunk=st.integers(1, 5),
    resampling=st.sampled_from([None, HALF.over(2)]),
)
def test_strips_give_what_the_whole_picture_gives_bit_for_bit(height, strip, trunk, resampling):
    net = random_net(18, trunk, 2, resampling)
    picture = np.random.default_rng(height).random((3, height, 5), np.float32)
    world = World(kernels=NumpyKernelsFp8)
    whole, striped = world.run(net, picture), world.run(net, picture, strip)
    assert not np.isnan(whole).any()
    np.testing.assert_array_equal(striped.view(np.uint16), whole.view(np.uint16))
    world.close()


@pytest.mark.parametrize("width", [1, 20, 300])
def test_the_bytes_that_a_plan_counts_are_those_that_are_taken(world, width):
    for net in (random_net(40, 3, 4), random_net(17, 2, 4, HALF.over(4)), random_net(5, 4, 1)):
        network = world.network(net, 30, width, 8)
        size = net.architecture, len(net.layers)
        taken = packed(net, calibrated(net)).data.nbytes
        assert taken <= parameter_bytes(*size, fp8=True) < 1.3 * taken
        counted = parameter_bytes(*size, fp8=True) + 2 * aligned(buffer_bytes(*size, 30, width, 8, fp8=True))
        assert network._lease.memory.nbytes <= bucket_size(counted)
        network.close()


def test_a_real_picture_is_within_46_db_of_fp32(world, bunny):
    """A part of it; tests/gpu/test_compact.py has whole ones."""
    with av.open(str(bunny)) as media:
        frame = next(media.decode(video=0)).to_ndarray(format="rgb24")
    picture = frame[60:100, 120:176].transpose(2, 0, 1) / np.float32(255)
    net = find_compact(find_model("animevideo-x4")[1])
    assert decibels(world.run(net, picture), evaluate(net, picture)) >= 46


def test_strong_colours_are_within_45_db_of_fp32(world, reading):
    """Where the first layers take small differences of large numbers."""
    picture = reading.draw(0, 56, 40).transpose(2, 0, 1) / np.float32(255)
    net = find_compact(find_model("animevideo-x4")[1])
    assert decibels(world.run(net, picture), evaluate(net, picture)) >= 45


def test_activations_of_noise_stay_within_what_was_calibrated(noise):
    net = find_compact(find_model("animevideo-x4")[1])
    values = noise(24, 24)
    values = convolved(values, net.layers[0])
    for layer, scales in zip(net.layers[1:-1], calibrated(net).scales, strict=True):
        values = convolved(values, layer)
        assert (np.abs(values).max(axis=(1, 2)) <= 448 * scales).all()
