"""How far a network looks: exact where it can be told, held against what one changed pixel changes, else unknown."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rave_trio import errors
from rave_trio.inference.model import Geometry
from rave_trio.inference.openvino_model import Model
from rave_trio.inference.receptive_field import ReceptiveField, receptive_field

SIZE = 96


def field_of(model: Model, size: int = SIZE) -> ReceptiveField | None:
    return receptive_field(model._shaped(size, size))


def measured(model: Model, period: int, size: int = SIZE) -> int:
    """The distance in input pixels at which one changed pixel still changes something."""
    scale = model.metadata.scale
    request = model.compile(Geometry(size, size, 0, 1), "fp32", 1, 1).create_infer_request()
    farthest = 0
    for place in range(size // 2, size // 2 + period):
        picture = np.zeros((1, model.metadata.input_channels, size, size), np.float32)
        picture[..., place, place] = 1
        result = request.infer([picture])[0][0]
        for axis in (1, 2):
            changed = np.flatnonzero(result.any(axis=(0, 3 - axis))) // scale
            farthest = max([farthest, *np.abs(changed - place)])
    return farthest


def convolutions(count, kernel=3, **how):
    def build(net):
        x, width = net.input, 3
        for _ in range(count):
            x, width = net.bend(net.conv(x, width, 4, kernel, **how), 4), 4
        return net.conv(x, width, 3, 1)

    return build


def padded_by_itself(auto_pad, kernel, stride=1):
    def build(net):
        weights = net.weights(3 * stride**2, 3, kernel, kernel)
        x = net.op("Conv", net.input, weights, auto_pad=auto_pad, strides=[stride, stride])
        return net.shuffle(x, stride)

    return build


def up_and_down(net):
    """Work at half the size: a strided convolution, one at that size, a transposed one."""
    x = net.conv(net.conv(net.input, 3, 4, strides=[2, 2], pads=[1] * 4), 4, 4)
    return net.op("ConvTranspose", x, net.weights(4, 3, 4, 4), strides=[2, 2], pads=[1] * 4)


def skip(net):
    """A short way around a long one."""
    x = net.conv(net.input, 3, 4)
    y = net.conv(net.conv(net.conv(x, 4, 4), 4, 4), 4, 4)
    return net.conv(net.op("Concat", x, net.op("Add", x, y), axis=1), 8, 3, 1)


def halves(net):
    """Channels parted, one half looked at more closely, and joined again."""
    left, right = net.op("Split", net.conv(net.input, 3, 4), outputs=2, axis=1, num_outputs=2)
    return net.conv(net.op("Concat", net.conv(left, 2, 2, 5), right, axis=1), 4, 3, 1)


def channel_attention_by_place(net):
    """Weights for channels from their mean at each place, as a normalisation of channels does."""
    mean = net.op("ReduceMean", net.input, net.constant(np.array([1])))
    return net.conv(net.op("Mul", net.input, net.op("Add", mean, net.constant(np.float32(1)))), 3, 3)


def shuffled(order, split):
    def build(net):
        x = net.op("Reshape", net.conv(net.input, 3, 12), net.constant(np.array(split)))
        x = net.op("Reshape", net.op("Transpose", x, perm=order), net.constant(np.array([1, 3, 2 * SIZE, 2 * SIZE])))
        return net.conv(x, 3, 3)

    return build


def unshuffled(order):
    def build(net):
        half = SIZE // 2
        x = net.op("Reshape", net.input, net.constant(np.array([1, 3, half, 2, half, 2])))
        x = net.op("Reshape", net.op("Transpose", x, perm=order), net.constant(np.array([1, 12, half, half])))
        return net.shuffle(net.conv(x, 12, 12), 2)

    return build


KNOWN = {
    "one convolution": (convolutions(1), 1, 1),
    "five convolutions": (convolutions(5), 5, 1),
    "1x1 convolutions": (convolutions(3, 1), 0, 1),
    "7x7 convolutions": (convolutions(2, 7), 6, 1),
    "dilated": (convolutions(2, 3, dilations=[3, 3]), 6, 1),
    "padded on one side": (convolutions(2, 3, pads=[2, 0, 0, 2]), 4, 1),
    "even kernel, one more after": (padded_by_itself("SAME_UPPER", 4), 2, 1),
    "even kernel, one more before": (padded_by_itself("SAME_LOWER", 4), 2, 1),
    "strided, padded by the exporter": (padded_by_itself("SAME_UPPER", 3, 2), 2, 2),
    "grouped": (lambda net: net.conv(net.conv(net.conv(net.input, 3, 4), 4, 4, 5, group=4), 4, 3), 4, 1),
    "strided and transposed": (up_and_down, 5, 2),
    "a skip": (skip, 4, 1),
    "parted channels": (halves, 3, 1),
    "means over channels": (channel_attention_by_place, 1, 1),
    "shuffle": (lambda net: net.shuffle(net.conv(net.input, 3, 48), 4), 1, 1),
    "shuffle, then a convolution": (lambda net: net.conv(net.shuffle(net.conv(net.input, 3, 48), 4), 3, 3), 2, 1),
    "shuffle of other order": (lambda net: net.conv(net.shuffle(net.input, 1, "DCR"), 3, 3), 1, 1),
    "shuffle written out": (shuffled((0, 1, 4, 2, 5, 3), (1, 3, 2, 2, SIZE, SIZE)), 2, 1),
    "shuffle of other order written out": (shuffled((0, 3, 4, 1, 5, 2), (1, 2, 2, 3, SIZE, SIZE)), 2, 1),
    "unshuffle": (lambda net: net.shuffle(net.conv(net.op("SpaceToDepth", net.input, blocksize=2), 12, 48), 4), 3, 2),
    "unshuffle written out": (unshuffled((0, 1, 3, 5, 2, 4)), 3, 2),
    "unshuffle of other order written out": (unshuffled((0, 3, 5, 1, 2, 4)), 3, 2),
    "nearest": (lambda net: net.resize(net.conv(net.input, 3, 3), 3, "nearest", "asymmetric"), 1, 1),
    "linear": (lambda net: net.resize(net.input, 2, "linear"), 1, 1),
    "linear by its corner": (lambda net: net.resize(net.input, 2, "linear", "asymmetric"), 1, 1),
    "cubic": (lambda net: net.resize(net.input, 2), 2, 1),
    "cubic, half of four": (lambda net: net.resize(net.shuffle(net.conv(net.input, 3, 48), 4), 0.5), 2, 1),
    "cubic, three quarters of four": (lambda net: net.resize(net.shuffle(net.conv(net.input, 3, 48), 4), 0.75), 2, 1),
    "linear down and up": (
        lambda net: net.resize(net.resize(net.input, 0.5, "linear"), 2, "nearest", "asymmetric"),
        1,
        2,
    ),
    "largest of 3x3": (lambda net: net.op("MaxPool", net.input, kernel_shape=[3, 3], pads=[1] * 4), 1, 1),
    "largest of 2x2, by two": (
        lambda net: net.resize(
            net.op("MaxPool", net.input, kernel_shape=[2, 2], strides=[2, 2]), 2, "nearest", "asymmetric"
        ),
        1,
        2,
    ),
    "mean of 5x5": (lambda net: net.op("AveragePool", net.input, kernel_shape=[5, 5], pads=[2] * 4), 2, 1),
    "padding before, none in the convolution": (
        lambda net: net.conv(
            net.op("Pad", net.input, net.constant(np.array([0, 0, 1, 1] * 2)), mode="edge"), 3, 3, pads=[0] * 4
        ),
        1,
        1,
    ),
    "nothing but a bend": (lambda net: net.bend(net.input, 3), 0, 1),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_it_is_exact_for(graph, kind):
    build, radius, period = KNOWN[kind]
    net = graph(shape=(1, 3, SIZE, SIZE))
    model = net.model(build(net))
    assert field_of(model) == ReceptiveField(radius, period)
    assert measured(model, period) == radius


@pytest.mark.parametrize(("name", "radius"), [("animevideo-x2", 19), ("animevideo-x3", 19), ("animevideo-x4", 18)])
def test_it_is_known_of_the_shipped_models(shipped, name, radius):
    assert field_of(shipped(name)) == ReceptiveField(radius, 1)


def attention(net):
    """Every place weighs every other."""
    flat = net.op("Reshape", net.input, net.constant(np.array([1, 3, SIZE * SIZE])))
    weights = net.op("Softmax", net.op("MatMul", flat, net.op("Transpose", flat, perm=[0, 2, 1])), axis=-1)
    return net.op("Reshape", net.op("MatMul", weights, flat), net.constant(np.array([1, 3, SIZE, SIZE])))


def squeeze_excite(net):
    squeezed = net.op("ReduceMean", net.input, net.constant(np.array([2, 3])))
    return net.op("Mul", net.input, net.op("Sigmoid", net.conv(squeezed, 3, 3, 1)))


def windows(net):
    """Windows of 8 x 8 as rows of a batch, as transformers cut them."""
    x = net.op("Reshape", net.input, net.constant(np.array([1, 3, SIZE // 8, 8, SIZE // 8, 8])))
    x = net.op("Reshape", net.op("Transpose", x, perm=[0, 2, 4, 1, 3, 5]), net.constant(np.array([-1, 3, 8, 8])))
    return net.op("Reshape", net.op("Relu", x), net.constant(np.array([1, 3, SIZE, SIZE])))


UNKNOWN = {
    "attention": attention,
    "squeeze and excite": squeeze_excite,
    "global pooling": lambda net: net.op("Mul", net.input, net.op("GlobalAveragePool", net.input)),
    "windows": windows,
    "another shape and back": lambda net: net.op(
        "Reshape",
        net.op("Reshape", net.input, net.constant(np.array([1, 3, -1]))),
        net.constant(np.array([1, 3, SIZE, SIZE])),
    ),
    "a transposition": lambda net: net.op("Transpose", net.input, perm=[0, 1, 3, 2]),
    "instance normalisation": lambda net: net.op(
        "InstanceNormalization", net.input, net.constant(np.ones(3, np.float32)), net.constant(np.ones(3, np.float32))
    ),
    "upper and lower half side by side": lambda net: net.op(
        "Concat", *net.op("Split", net.input, outputs=2, axis=2, num_outputs=2)[::-1], axis=2
    ),
    "aligned corners": lambda net: net.resize(net.input, 2, "linear", "align_corners"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_it_is_unknown_for(graph, kind):
    net = graph(shape=(1, 3, SIZE, SIZE))
    assert field_of(net.model(UNKNOWN[kind](net))) is None


def test_operations_of_one_name_are_told_apart(graph):
    net = graph()
    x = net.op("Conv", net.input, net.weights(3, 3, 9, 9), pads=[4] * 4, name="layer")
    y = net.op("Conv", net.input, net.weights(3, 3, 1, 1), name="layer")
    model = net.model(net.op("Add", x, y, name="layer"))
    assert field_of(model) == ReceptiveField(4, 1)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_a_resize_that_smooths_is_not_underestimated(graph, mode):
    net = graph(shape=(1, 3, SIZE, SIZE))
    model = net.model(net.shuffle(net.conv(net.resize(net.input, 0.5, mode, antialias=1), 3, 12, 1), 2))
    field = field_of(model)
    assert field is not None
    assert measured(model, 2) <= field.radius <= 4


LAYERS = st.one_of(
    st.tuples(st.just("conv"), st.just(Fraction(1)), st.integers(1, 5), st.integers(1, 2), st.integers(0, 3)),
    st.tuples(st.just("pool"), st.just(Fraction(1)), st.sampled_from([3, 5])),
    st.tuples(st.just("half"), st.just(Fraction(1, 2)), st.integers(2, 5), st.integers(0, 3)),
    st.tuples(st.just("unshuffle"), st.just(Fraction(1, 2))),
    st.tuples(st.just("shuffle"), st.sampled_from([Fraction(2), Fraction(3)])),
    st.tuples(st.just("transposed"), st.just(Fraction(2)), st.integers(0, 2)),
    st.tuples(st.just("transposed"), st.just(Fraction(3)), st.integers(0, 1)),
    st.tuples(
        st.just("resize"),
        st.sampled_from([Fraction(2), Fraction(3), Fraction(1, 2), Fraction(3, 2)]),
        st.sampled_from(
            [("linear", "half_pixel"), ("cubic", "half_pixel"), ("linear", "asymmetric"), ("nearest", "asymmetric")]
        ),
    ),
    st.tuples(st.just("skip"), st.just(Fraction(1))),
)
"""The kind of a layer, by how much it enlarges, and what else there is to know."""


def add_layer(net, x, layer):
    match layer:
        case ("conv", _, kernel, dilation, shift):
            reach = (kernel - 1) * dilation
            before = min(shift, reach)
            return net.conv(
                x, 3, 3, kernel, dilations=[dilation] * 2, pads=[before, reach - before, reach - before, before]
            )
        case ("pool", _, kernel):
            return net.op("AveragePool", x, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)
        case ("half", _, kernel, shift):
            before = min(shift, kernel - 2)
            after = kernel - 2 - before
            return net.conv(x, 3, 3, kernel, strides=[2, 2], pads=[before, after, after, before])
        case ("unshuffle", _):
            return net.conv(net.op("SpaceToDepth", x, blocksize=2), 12, 3, 1)
        case ("shuffle", scale):
            return net.shuffle(net.conv(x, 3, 3 * int(scale) ** 2, 1), int(scale))
        case ("transposed", scale, pad):
            kernel = int(scale) + 2 * pad
            return net.op(
                "ConvTranspose", x, net.weights(3, 3, kernel, kernel), strides=[int(scale)] * 2, pads=[pad] * 4
            )
        case ("resize", scale, (mode, where)):
            return net.resize(x, float(scale), mode, where)
        case ("skip", _):
            return net.op("Add", x, net.conv(x, 3, 3))
        case _:
            raise AssertionError(layer)


def network_of(net, layers):
    """The layers one after the other, made to enlarge by an integer; far too large or small ones are skipped."""
    x, scale = net.input, Fraction(1)
    for layer in layers:
        x, scale = add_layer(net, x, layer), scale * layer[1]
        assume(Fraction(1, 4) <= scale <= 6)
    if scale.denominator > 1:
        x = add_layer(net, x, ("shuffle", Fraction(scale.denominator)))
    return net.model(x)


networks = st.lists(LAYERS, min_size=1, max_size=5)
quick = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much, HealthCheck.too_slow],
)


@quick
@given(networks)
def test_nothing_outside_it_changes_in_a_network_of_any_layers(graph, layers):
    model = network_of(graph(shape=(1, 3, SIZE, SIZE)), layers)
    field = field_of(model)
    assert field is not None
    assert measured(model, min(field.period, 2)) <= field.radius


@quick
@given(networks, st.integers(60, 100), st.integers(60, 100), st.integers(40, 60))
def test_tiles_that_respect_it_give_what_the_whole_gives(graph, enlarge, noise, layers, height, width, tile):
    model = network_of(graph(), layers)
    try:
        geometry = model.geometry(height, width, tile)
    except errors.ModelUnsupported:
        assume(False)
    assert geometry.seamless
    picture = noise(height, width)
    whole = enlarge(model, picture)
    np.testing.assert_allclose(enlarge(model, picture, tile), whole, rtol=0, atol=3e-5 * max(1, abs(whole).max()))
