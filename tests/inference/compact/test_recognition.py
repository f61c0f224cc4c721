"""Networks of the Compact family are told by what they compute, however they are written, and nothing else is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from compact_graphs import ACTIVATIONS, BIASES, CLIPS, PADDINGS, SKIPS, CompactGraph, Variant, computed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rave_trio.inference.compact.find import find_compact
from rave_trio.inference.compact.graph import NotCompact
from rave_trio.inference.compact.net import evaluate
from rave_trio.inference.compact.reading import open_onnx

FIXED = {"sizes", "gather", "tile", "expand"}
"""Ways to write a skip that hold for one size only."""

SIZE = (6, 11)


def check(path, picture, tolerance=1e-4):
    """The file is recognised, and what was recognised computes what the file does."""
    net = find_compact(path)
    expected = computed(path, picture)
    result = evaluate(net, picture)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance)
    assert np.ptp(expected) > 0.1
    return net


@pytest.mark.parametrize(("name", "scale"), [("animevideo-x2", 2), ("animevideo-x3", 3), ("animevideo-x4", 4)])
def test_the_shipped_models_are_of_the_family(shipped, noise, name, scale):
    net = check(shipped(name).metadata.path, noise(13, 10), 2e-4)
    assert (net.features, len(net.trunk), net.factor, net.skip, net.clip) == (64, 16, 4, True, False)
    assert net.scale == scale


@pytest.mark.parametrize("activation", [kind for kind in ACTIVATIONS if kind != "prelu of 1 axis"])
def test_any_activation_of_the_family(compact, noise, activation):
    check(compact(activation=activation, features=24), noise(9, 7))


def test_slopes_of_one_axis_are_taken_for_those_of_the_channels_as_early_files_have_them(compact, noise):
    path, picture = compact(activation="prelu of 1 axis", features=24), noise(9, 7)
    np.testing.assert_allclose(evaluate(find_compact(path), picture), open_onnx(path).run(picture), rtol=0, atol=1e-4)


def test_slopes_of_one_axis_that_may_be_those_of_the_columns_are_refused(compact):
    with pytest.raises(NotCompact, match="a PRelu of a constant"):
        find_compact(compact(activation="prelu of 1 axis", features=11, size=SIZE))


@pytest.mark.parametrize("bias", BIASES)
def test_a_bias_may_be_written_in_any_way(compact, noise, bias):
    check(compact(bias=bias), noise(9, 7))


@pytest.mark.parametrize("padding", PADDINGS)
def test_the_edge_may_be_made_in_any_way(compact, noise, padding):
    check(compact(padding=padding), noise(9, 7))


@pytest.mark.parametrize("shuffle", ["CRD", "DCR", "reshaped by arithmetic"])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_any_pixel_shuffle(compact, noise, shuffle, factor):
    assert check(compact(shuffle=shuffle, factor=factor), noise(9, 7)).factor == factor


@pytest.mark.parametrize("shuffle", ["reshaped", "reshaped DCR"])
def test_a_shuffle_of_one_size(compact, noise, shuffle):
    check(compact(shuffle=shuffle, size=SIZE, factor=3), noise(*SIZE))


@pytest.mark.parametrize("skip", [skip for skip in SKIPS if skip not in FIXED])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_any_way_to_enlarge_the_input(compact, noise, skip, factor):
    net = check(compact(skip=skip, factor=factor, shuffle="DCR"), noise(9, 7))
    assert net.skip == (skip != "none")


@pytest.mark.parametrize("skip", [skip for skip in SKIPS if skip != "packed concat"])
def test_any_way_to_enlarge_an_input_of_one_size(compact, noise, skip):
    check(compact(skip=skip, size=SIZE, factor=3), noise(*SIZE))


@pytest.mark.parametrize("mode", ["cubic", "linear", "nearest"])
@pytest.mark.parametrize("where", ["half_pixel", "pytorch_half_pixel", "asymmetric"])
@pytest.mark.parametrize(("factor", "scale"), [(4, 0.5), (4, 0.75), (4, 0.25), (2, 0.5), (2, 1.5), (3, 2), (1, 2)])
def test_any_final_resize(compact, noise, mode, where, factor, scale):
    net = check(compact(factor=factor, resize=(mode, where, scale)), noise(9, 7))
    assert net.scale == factor * scale


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("resize", [None, ("cubic", "half_pixel", 0.5)])
def test_any_clip(compact, noise, clip, resize):
    assert check(compact(clip=clip, resize=resize), noise(9, 7)).clip == (clip != "none")


@pytest.mark.parametrize("nodes", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_exporters_leave_behind_is_looked_through(compact, noise, nodes, dtype):
    check(compact(leftovers=True, nodes=nodes, dtype=dtype, clip="clip"), noise(9, 7))


@pytest.mark.parametrize("trunk", [0, 1, 64])
def test_any_number_of_layers(compact, noise, trunk):
    assert len(check(compact(trunk=trunk), noise(5, 6), 1e-3).trunk) == trunk


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mixture_of_them(tmp_path, data):
    choose = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    fixed = choose(False, True)
    variant = Variant(
        features=data.draw(st.integers(1, 40)),
        trunk=data.draw(st.integers(0, 5)),
        factor=data.draw(st.integers(1, 4)),
        dtype=choose(np.float32, np.float16),
        size=SIZE if fixed else ("h", "w"),
        seed=data.draw(st.integers(0, 99)),
        activation=choose("prelu", "prelu of 4 axes", "one slope", "leaky", "relu"),
        bias=choose(*BIASES),
        padding=choose(*PADDINGS),
        shuffle=choose("CRD", "DCR", "reshaped by arithmetic"),
        skip=choose(*(skip for skip in SKIPS if (fixed or skip not in FIXED) and skip != "packed concat")),
        resize=choose(None, None, ("cubic", "half_pixel", 2.0), ("linear", "asymmetric", 1.0)),
        clip=choose(*CLIPS),
        leftovers=choose(False, True),
        nodes=choose(False, True),
    )
    path = CompactGraph(tmp_path / "mixture.onnx", variant).build()
    picture = np.random.default_rng(variant.seed).random((3, *SIZE), np.float32)
    net = find_compact(path)
    np.testing.assert_allclose(evaluate(net, picture), computed(path, picture), rtol=0, atol=2e-4)
    assert (net.features, len(net.trunk), net.factor) == (variant.features, variant.trunk, variant.factor)


# What looks like it and is not


class Unlike(CompactGraph):
    """A network of the family in which one thing is different."""

    def __init__(self, path, change, **how):
        super().__init__(path, Variant(**how))
        self.change = change
        self.layers = 0

    def layer(self, x, inputs, outputs):
        self.layers += 1
        changed = self.layers == 2
        how = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        if changed and self.change == "dilations":
            how |= {"dilations": [2, 2], "pads": [2, 2, 2, 2]}
        if changed and self.change == "groups":
            return self.op("Conv", x, self.numbers(outputs, inputs // 2, 3, 3), group=2, **how)
        if changed and self.change == "5x5":
            return self.op("Conv", x, self.numbers(outputs, inputs, 5, 5), pads=[2, 2, 2, 2])
        if changed and self.change == "edge":
            x = self.op("Pad", x, self.whole(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect")
            how["pads"] = [0, 0, 0, 0]
        if changed and self.change == "residual":
            return self.op("Add", self.op("Conv", x, self.numbers(outputs, inputs, 3, 3), **how), x)
        if changed and self.change == "each sample":
            return self.op("Mul", self.op("Conv", x, self.numbers(outputs, inputs, 3, 3), **how), x)
        if changed and self.change == "scaled input":
            x = self.op("Mul", x, self.numbers(1, inputs, 1, 1))
        if changed and self.change == "no activation":
            x = self.op("Conv", x, self.numbers(inputs, inputs, 3, 3), **how)
        if changed and self.change == "computed weights":
            return self.op("Conv", x, self.op("Mul", self.numbers(outputs, inputs, 3, 3), self.mean()), **how)
        if changed and self.change == "quantised":
            x = self.op("Cast", self.op("Cast", x, to=6), to=1)
        return self.op("Conv", x, self.numbers(outputs, inputs, 3, 3), **how)

    def mean(self):
        return self.op("ReduceMean", self.input, keepdims=0)

    def activated(self, x, channels):
        if self.change == "sigmoid" and self.layers == 2:
            return self.op("Sigmoid", x)
        return super().activated(x, channels)

    def shuffled(self, x):
        if self.change == "flipped":
            steps = [self.whole(value) for value in (-1, -(1 << 40), 3, -1)]
            return self.op("Slice", super().shuffled(x), *steps)
        if self.change == "transposed":
            blocks = self.op("Reshape", x, self.whole(1, 3, 2, 2, 8, 8))
            return self.op("Reshape", self.op("Transpose", blocks, perm=[0, 1, 2, 4, 5, 3]), self.whole(1, 3, 16, 16))
        return super().shuffled(x)

    def skip(self):
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        if self.change == "linear skip":
            return self.resize(self.input, 2, "linear")
        if self.change == "moved skip":
            return self.resize(self.input, 2, "nearest", "asymmetric", nearest_mode="ceil")
        if self.change == "planes exchanged":
            return self.op("Gather", super().skip(), self.whole(2, 1, 0), axis=1)
        if self.change == "darker skip":
            return self.op("Mul", super().skip(), self.constant(np.float32(0.5)))
        if self.change == "blurred skip":
            return self.op("Resize", self.conv(self.input, 3, 3), "", scales, mode="nearest")
        return super().skip()

    def clipped(self, x):
        if self.change == "another clip":
            return self.op("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(0.9)))
        if self.change == "half a clip":
            return self.op("Max", x, self.constant(np.float32(0)))
        if self.change == "brighter":
            return self.op("Mul", x, self.constant(np.float32(255)))
        if self.change == "corners":
            return self.resize(x, 2, "cubic", "align_corners")
        if self.change == "antialias":
            return self.resize(x, 0.5, "cubic", antialias=1)
        if self.change == "clipped before the resize":
            return self.resize(self.op("Clip", x, *(self.constant(np.float32(v)) for v in (0, 1))), 2)
        return x


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("dilations", r"a convolution with dilations of \[2, 2\]"),
        ("groups", "a convolution in 2 groups"),
        ("5x5", "a convolution of 5x5"),
        ("edge", r"a Pad \(reflect\)"),
        ("residual", "an? Add of pictures where a 3x3 convolution should be"),
        ("each sample", "a Mul of pictures where a 3x3 convolution should be"),
        ("scaled input", "a Mul where a PReLU, LeakyReLU or ReLU should be"),
        ("no activation", "a Conv where a PReLU, LeakyReLU or ReLU should be"),
        ("computed weights", "weights of a convolution are computed"),
        ("quantised", "a Cast where a PReLU"),
        ("sigmoid", "a Sigmoid where a PReLU"),
        ("flipped", "a Slice where a 3x3 convolution"),
        ("linear skip", "what is added is enlarged by linear interpolation"),
        ("moved skip", "what is added is not the input with each pixel repeated"),
        ("planes exchanged", "what is added is not the input with each pixel repeated"),
        ("darker skip", "what is added is changed by a Mul"),
        ("blurred skip", "what is added is convolved"),
        ("another clip", r"it is clipped, but not to \[0, 1\]"),
        ("half a clip", r"it is clipped, but not to \[0, 1\]"),
        ("brighter", "the sum with the enlarged input is changed by a Mul"),
        ("corners", "align_corners"),
        ("antialias", "antialias"),
        ("clipped before the resize", "a Clip"),
    ],
)
def test_what_is_only_like_it_is_refused_with_the_reason(tmp_path, change, reason):
    with pytest.raises(NotCompact, match=reason):
        find_compact(Unlike(tmp_path / "unlike.onnx", change).build())


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"features": 129}, "129 features, more than 128"),
        ({"trunk": 65}, "65 layers between head and tail, more than 64"),
        ({"factor": 5}, "enlarges 5 times, more than 4"),
        ({"factor": 2, "resize": ("cubic", "half_pixel", 0.75), "size": (8, 8)}, "2 times 3/4 is not a whole number"),
    ],
)
def test_what_is_too_large_is_refused_with_the_reason(compact, how, reason):
    with pytest.raises(NotCompact, match=reason):
        find_compact(compact(**how))


def test_a_shuffle_in_another_order_of_pixels_is_refused(tmp_path):
    with pytest.raises(NotCompact, match="its pixels are not put where a pixel shuffle puts them"):
        find_compact(Unlike(tmp_path / "unlike.onnx", "transposed", size=(8, 8)).build())


def test_layers_of_different_widths_are_refused(graph):
    net = graph()
    x = net.bend(net.conv(net.input, 3, 8), 8)
    x = net.bend(net.conv(x, 8, 6), 6)
    path = net.save(net.shuffle(net.conv(x, 6, 12), 2))
    with pytest.raises(NotCompact, match="different numbers of features"):
        find_compact(path)


def test_a_stride_is_refused(graph):
    net = graph()
    x = net.bend(net.conv(net.input, 3, 8, strides=[2, 2]), 8)
    path = net.save(net.shuffle(net.conv(x, 8, 48), 4))
    with pytest.raises(NotCompact, match="strides"):
        find_compact(path)


def test_a_single_convolution_is_refused(graph):
    net = graph()
    with pytest.raises(NotCompact, match="one convolution"):
        find_compact(net.save(net.shuffle(net.conv(net.input, 3, 12), 2)))


@pytest.mark.parametrize(("channels", "outputs"), [(1, 1), (3, 1)])
def test_other_channels_than_red_green_and_blue_are_refused(upscaler, channels, outputs):
    with pytest.raises(NotCompact, match="not one picture of 3 planes"):
        find_compact(upscaler(channels=channels, outputs=outputs))


def test_weights_that_are_not_finite_are_refused(compact):
    path = compact()
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[5] = np.inf
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    with pytest.raises(NotCompact, match="not finite"):
        find_compact(path)


@pytest.mark.parametrize("content", [b"", b"not ONNX at all", bytes(range(256))])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(NotCompact):
        find_compact(path)


def test_a_skip_that_holds_for_one_size_only_is_refused_where_any_size_may_come(tmp_path):
    class OneSize(CompactGraph):
        def skip(self):
            return self.to_sizes(self.whole(1, 3, 14, 20))

    with pytest.raises(NotCompact):
        find_compact(OneSize(tmp_path / "net.onnx", Variant()).build())


def test_a_file_that_changed_is_read_again(compact):
    assert find_compact(compact()).features == 8
    assert find_compact(compact(features=12)).features == 12
