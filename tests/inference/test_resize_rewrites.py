"""Resizes as convolutions compute what the resizes of the natural graph compute."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino.properties import hint

from rave_trio.inference import openvino_runtime
from rave_trio.inference.catalogue import find_model
from rave_trio.inference.openvino_runtime import PRECISIONS, native_precisions
from rave_trio.inference.resize import SIGNIFICANT_BITS, rewrite_resizes

EXACT = 1e-5

RATIOS = [Fraction(p, q) for p, q in [(1, 2), (1, 3), (1, 4), (2, 3), (3, 4), (3, 2), (4, 3), (2, 1), (3, 1), (4, 1)]]

needs_bf16 = pytest.mark.skipif("bf16" not in native_precisions(), reason="this CPU does not compute bf16 natively")


def read(path: Path, *shape: int) -> ov.Model:
    model = openvino_runtime.core().read_model(path)
    model.reshape(list(shape))
    return model


def run(model: ov.Model, picture: np.ndarray, precision: str = "fp32") -> np.ndarray:
    prepared = ov.preprocess.PrePostProcessor(model)
    prepared.input().tensor().set_element_type(ov.Type.f32)
    prepared.output().tensor().set_element_type(ov.Type.f32)
    config = {hint.inference_precision(): PRECISIONS[precision]}
    return np.asarray(openvino_runtime.core().compile_model(prepared.build(), "CPU", config)([picture])[0])


def resizes_in(model: ov.Model) -> int:
    return sum(node.get_type_name() == "Interpolate" for node in model.get_ordered_ops())


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).random(shape, np.float32)


class TestShippedModels:
    @pytest.mark.parametrize("name", ["animevideo-x2", "animevideo-x3"])
    @pytest.mark.parametrize(("height", "width"), [(48, 64), (37, 53), (1, 1), (2, 9)])
    def test_give_the_same_without_a_resize_left(self, name, height, width):
        natural, rewritten = (read(find_model(name)[1], 1, 3, height, width) for _ in range(2))
        rewrite_resizes(rewritten, "fp32")
        picture = random(1, 3, height, width)
        assert resizes_in(rewritten) == 0
        np.testing.assert_allclose(run(rewritten, picture), run(natural, picture), rtol=0, atol=EXACT)

    def test_without_a_cubic_resize_are_left_alone(self):
        natural, same = (read(find_model("animevideo-x4")[1], 1, 3, 48, 64) for _ in range(2))
        rewrite_resizes(same, "bf16")
        assert len(same.get_ordered_ops()) == len(natural.get_ordered_ops())

    def test_keep_the_types_of_what_goes_in_and_out(self):
        model = read(find_model("animevideo-x3")[1], 1, 3, 8, 8)
        rewrite_resizes(model, "bf16")
        assert model.input(0).get_element_type() == model.output(0).get_element_type() == ov.Type.f16
        assert list(model.output(0).get_shape()) == [1, 3, 24, 24]


class TestCubicResizes:
    @pytest.mark.parametrize("ratio", RATIOS, ids=str)
    @pytest.mark.parametrize(("channels", "coefficient"), [(3, -0.75), (1, -0.5), (5, -0.75)])
    def test_become_convolutions_that_give_the_same(self, graph, ratio, channels, coefficient):
        net = graph(shape=(1, channels, 24, 36))
        path = net.save(net.resize(net.bend(net.input, channels), float(ratio), cubic_coeff_a=coefficient))
        natural, rewritten = (read(path, 1, channels, 24, 36) for _ in range(2))
        rewrite_resizes(rewritten, "fp32")
        picture = random(1, channels, 24, 36)
        assert (resizes_in(natural), resizes_in(rewritten)) == (1, 0)
        np.testing.assert_allclose(run(rewritten, picture), run(natural, picture), rtol=0, atol=EXACT)

    def test_one_after_the_other_are_all_rewritten(self, graph):
        net = graph(shape=(1, 3, 24, 36))
        path = net.save(net.op("Add", net.resize(net.resize(net.input, 2), 0.75), net.resize(net.input, 1.5)))
        natural, rewritten = (read(path, 1, 3, 24, 36) for _ in range(2))
        rewrite_resizes(rewritten, "fp32")
        assert (resizes_in(natural), resizes_in(rewritten)) == (3, 0)
        picture = random(1, 3, 24, 36)
        np.testing.assert_allclose(run(rewritten, picture), run(natural, picture), rtol=0, atol=EXACT)

    def test_given_by_their_size_are_rewritten_too(self, graph):
        net = graph(shape=(1, 3, 24, 36))
        size = net.constant(np.array([1, 3, 48, 72]))
        how = {"mode": "cubic", "coordinate_transformation_mode": "half_pixel"}
        path = net.save(net.op("Resize", net.input, "", "", size, **how))
        natural, rewritten = (read(path, 1, 3, 24, 36) for _ in range(2))
        rewrite_resizes(rewritten, "fp32")
        assert (resizes_in(natural), resizes_in(rewritten)) == (1, 0)
        picture = random(1, 3, 24, 36)
        np.testing.assert_allclose(run(rewritten, picture), run(natural, picture), rtol=0, atol=EXACT)

    @needs_bf16
    @pytest.mark.parametrize("ratio", RATIOS, ids=str)
    def test_keep_a_flat_area_at_its_level_in_bf16(self, graph, ratio):
        level = np.float32(0.69921875)  # a value that bf16 has
        net = graph(shape=(1, 3, 24, 36))
        model = read(net.save(net.resize(net.input, float(ratio))), 1, 3, 24, 36)
        rewrite_resizes(model, "bf16")
        result = run(model, np.full((1, 3, 24, 36), level), "bf16")
        np.testing.assert_allclose(result, level, rtol=0, atol=1e-4)

    @pytest.mark.parametrize(
        ("scale", "how"),
        [
            (0.5, {}),
            (1.25, {}),
            (2, {"where": "align_corners"}),
            (2, {"where": "asymmetric"}),
            (2, {"mode": "linear"}),
            (0.5, {"antialias": 1}),
            (1, {}),
        ],
        ids=["not divisible", "5/4", "aligned corners", "asymmetric", "linear", "antialias", "nothing"],
    )
    def test_of_other_kinds_are_left_alone(self, graph, scale, how):
        net = graph(shape=(1, 3, 25, 37))
        natural, rewritten = (read(path, 1, 3, 25, 37) for path in [net.save(net.resize(net.input, scale, **how))] * 2)
        rewrite_resizes(rewritten, "fp32")
        assert resizes_in(natural) == resizes_in(rewritten)
        assert len(natural.get_ordered_ops()) == len(rewritten.get_ordered_ops())

    def test_of_unequal_height_and_width_are_left_alone(self, graph):
        net = graph(shape=(1, 3, 24, 36))
        scales = net.constant(np.array([1, 1, 2, 3], np.float32))
        how = {"mode": "cubic", "coordinate_transformation_mode": "half_pixel"}
        model = read(net.save(net.op("Resize", net.input, "", scales, **how)), 1, 3, 24, 36)
        rewrite_resizes(model, "fp32")
        assert resizes_in(model) == 1


class TestCorrectedPictures:
    @staticmethod
    def corrected(net, block, where="asymmetric", rounding="floor"):
        shuffled = net.shuffle(net.conv(net.input, 3, 3 * block**2), block)
        return net.op("Add", net.resize(net.input, block, "nearest", where, nearest_mode=rounding), shuffled)

    @pytest.mark.parametrize("block", [1, 2, 3, 4])
    @pytest.mark.parametrize("ratio", [Fraction(1, 2), Fraction(1, 3), Fraction(3, 4), Fraction(2)], ids=str)
    def test_give_the_same(self, graph, block, ratio):
        net = graph(shape=(1, 3, 12, 24))
        path = net.save(net.resize(self.corrected(net, block), float(ratio)))
        natural, rewritten = (read(path, 1, 3, 12, 24) for _ in range(2))
        rewrite_resizes(rewritten, "fp32")
        assert resizes_in(rewritten) == (0 if (block * ratio).denominator == 1 else 1)
        picture = random(1, 3, 12, 24)
        np.testing.assert_allclose(run(rewritten, picture), run(natural, picture), rtol=0, atol=EXACT)

    @pytest.mark.parametrize(("where", "rounding"), [("half_pixel", "floor"), ("asymmetric", "round_prefer_ceil")])
    def test_give_the_same_where_pixels_are_not_just_repeated(self, graph, where, rounding):
        net = graph(shape=(1, 3, 12, 24))
        path = net.save(net.resize(self.corrected(net, 4, where, rounding), 0.5))
        natural, rewritten = (read(path, 1, 3, 12, 24) for _ in range(2))
        rewrite_resizes(rewritten, "fp32")
        assert resizes_in(rewritten) == 1
        picture = random(1, 3, 12, 24)
        np.testing.assert_allclose(run(rewritten, picture), run(natural, picture), rtol=0, atol=EXACT)

    def test_that_something_else_reads_too_stay_right(self, graph):
        net = graph(shape=(1, 3, 12, 24))
        x = self.corrected(net, 4)
        half = net.resize(x, 0.5)
        path = net.save(net.op("Add", half, net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])))
        natural, rewritten = (read(path, 1, 3, 12, 24) for _ in range(2))
        rewrite_resizes(rewritten, "fp32")
        picture = random(1, 3, 12, 24)
        np.testing.assert_allclose(run(rewritten, picture), run(natural, picture), rtol=0, atol=EXACT)

    @needs_bf16
    def test_leave_the_picture_in_fp32_when_the_network_runs_in_bf16(self, graph):
        net = graph(shape=(1, 3, 12, 24))
        silent = net.op("Mul", net.conv(net.input, 3, 48), net.constant(np.float32(0)))
        enlarged = net.resize(net.input, 4, "nearest", "asymmetric")
        path = net.save(net.resize(net.op("Add", net.shuffle(silent, 4), enlarged), 0.5))
        natural, rewritten = (read(path, 1, 3, 12, 24) for _ in range(2))
        rewrite_resizes(rewritten, "bf16")
        picture = random(1, 3, 12, 24) / 16 + np.float32(0.7)
        exact = run(natural, picture)
        assert abs(run(rewritten, picture, "bf16") - exact).max() < abs(run(natural, picture, "bf16") - exact).max() / 4


@pytest.mark.parametrize("precision", SIGNIFICANT_BITS)
@pytest.mark.parametrize("ratio", RATIOS, ids=str)
def test_weights_have_the_precisions_bits_and_add_up_to_one(graph, ratio, precision):
    net = graph(shape=(1, 1, 12, 12))
    model = read(net.save(net.resize(net.input, float(ratio))), 1, 1, 12, 12)
    rewrite_resizes(model, precision)
    (convolution,) = (node for node in model.get_ordered_ops() if node.get_type_name() == "GroupConvolution")
    weights = convolution.input_value(1).get_node().get_data().astype(np.float64)
    mantissas = np.ldexp(np.frexp(weights)[0], SIGNIFICANT_BITS[precision])
    np.testing.assert_array_equal(mantissas, np.rint(mantissas))
    np.testing.assert_allclose(weights.sum(axis=(2, 3, 4)), 1, rtol=0, atol=1e-5)
