"""A network in another precision is the same network: in fp32 to rounding, and there and back again exactly."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from rave_trio.color import SurfaceToTensor
from rave_trio.inference.model import Geometry
from rave_trio.inference.onnx_model import prepared
from rave_trio.inference.onnx_precision import NoSchema, in_precision
from rave_trio.inference.openvino_model import Model
from rave_trio.media.decoder import LibavDecoder
from rave_trio.media.probe import probe

MODELS = ["animevideo-x2", "animevideo-x3", "animevideo-x4"]
PRECISIONS = [np.float32, np.float16]


def run(model: onnx.ModelProto | bytes, picture: np.ndarray) -> np.ndarray:
    """One picture (1 x C x H x W) through a network; the result must be in what its input is in."""
    session = session_of(model)
    (source,) = session.get_inputs()
    dtype = {"tensor(float)": np.float32, "tensor(float16)": np.float16}[source.type]
    (result,) = session.run(None, {source.name: picture.astype(dtype)})
    assert result.dtype == dtype
    return result.astype(np.float32)


def run_rounded(model: onnx.ModelProto, picture: np.ndarray) -> np.ndarray:
    """The same node by node: each adds up in fp32 and rounds its result to fp16, as a GPU does."""
    graph = in_precision(model, np.float32).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values[graph.input[0].name] = picture.astype(np.float16).astype(np.float32)
    for node in graph.node:
        given = {name: values[name] for name in node.input if name}
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, given[name].shape) for name in given]
        outputs = [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)]
        alone = helper.make_graph([node], "alone", inputs, outputs)
        session = session_of(helper.make_model(alone, opset_imports=list(model.opset_import), ir_version=8))
        values[node.output[0]] = session.run(None, given)[0].astype(np.float16).astype(np.float32)
    return values[graph.output[0].name]


def session_of(model: onnx.ModelProto | bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    written = model if isinstance(model, bytes) else model.SerializeToString()
    return ort.InferenceSession(written, options, providers=["CPUExecutionProvider"])


def dtypes_of(model: onnx.ModelProto) -> set[str]:
    """What the network's input, output and weights are in, those aside that have to be float32."""
    kinds = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    kinds |= {t.data_type for t in model.graph.initializer if t.data_type != TensorProto.INT64 and t.dims != [4]}
    return {TensorProto.DataType.Name(kind) for kind in kinds}


@pytest.fixture
def resized(graph):
    """Convolutions, a resize whose scales are weights, and one whose scales are computed."""
    net = graph("resized")
    x = net.bend(net.conv(net.input, 3, 6, bias=True), 6)
    x = net.resize(x, 2, "linear")
    ones = net.constant(np.ones(4, np.float32))
    x = net.op("Resize", net.conv(x, 6, 3), "", net.op("Mul", ones, net.constant(np.float32([1, 1, 2, 2]))))
    return onnx.load(net.save(x))


@pytest.fixture
def picture():
    return np.random.default_rng(0).random((1, 3, 20, 24), np.float32)


class TestBothWays:
    def test_the_result_is_the_same_to_rounding(self, resized, picture):
        half = in_precision(resized, np.float16)
        assert dtypes_of(half) == {"FLOAT16"}
        np.testing.assert_allclose(run(half, picture), run(resized, picture), atol=4e-3)

    def test_a_network_in_half_precision_is_computed_exactly_in_fp32(self, upscaler, picture):
        half = onnx.load(upscaler(dtype=np.float16))
        single = in_precision(half, np.float32)
        assert dtypes_of(single) == {"FLOAT"}
        np.testing.assert_allclose(run(single, picture), run(half, picture), atol=4e-3)
        for before, after in zip(half.graph.initializer, single.graph.initializer, strict=True):
            np.testing.assert_array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after))

    @pytest.mark.parametrize("name", MODELS)
    def test_a_shipped_model_comes_back_as_it_was(self, shipped, name):
        model = onnx.load(shipped(name).metadata.path)
        there_and_back = in_precision(in_precision(model, np.float32), np.float16)
        assert there_and_back.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)

    @pytest.mark.parametrize("dtype", PRECISIONS)
    def test_what_is_given_stays_as_it_is(self, resized, dtype):
        before = resized.SerializeToString(deterministic=True)
        in_precision(resized, dtype)
        assert resized.SerializeToString(deterministic=True) == before


class TestWhatStaysInFp32:
    def test_are_scales_that_are_weights(self, resized):
        half = in_precision(resized, np.float16)
        scales = next(node for node in half.graph.node if node.op_type == "Resize").input[2]
        kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
        assert kinds[scales] == TensorProto.FLOAT

    def test_are_computed_scales_by_a_cast(self, resized):
        half = in_precision(resized, np.float16)
        scales = [node for node in half.graph.node if node.op_type == "Resize"][1].input[2]
        assert next(node.op_type for node in half.graph.node if scales in node.output) == "Cast"

    def test_are_weights_that_others_read_as_well_by_a_cast(self, graph, picture):
        net = graph()
        scales = net.constant(np.float32([1, 1, 2, 2]))
        grown = net.op("Resize", net.input, "", scales)
        net = onnx.load(net.save(net.op("Add", grown, net.op("ReduceMean", scales, keepdims=0))))
        np.testing.assert_allclose(run(in_precision(net, np.float16), picture), run(net, picture), atol=4e-3)

    def test_is_what_an_operator_does_not_compute_in_half_precision(self, graph, picture):
        net = graph()
        summed = net.op("Upsample", net.op("Relu", net.input), net.constant(np.float32([1, 1, 2, 2])))
        model = onnx.load(net.save(net.op("Relu", summed)))
        del model.opset_import[:]
        model.opset_import.append(helper.make_opsetid("", 9))
        range_of_it = in_precision(model, np.float16)
        np.testing.assert_allclose(run(range_of_it, picture), run(model, picture), atol=4e-3)


class TestOtherPlacesOfATypedValue:
    def test_are_casts_and_constants(self, graph, picture):
        net = graph()
        counted = net.op("Cast", net.op("Cast", net.input, to=TensorProto.INT32), to=TensorProto.FLOAT)
        half = net.op("Constant", value_float=0.5)
        row = net.op("Constant", value_floats=[0.25, 0.5, 0.75])
        tensor = net.op("Constant", value=numpy_helper.from_array(np.full((1, 3, 1, 1), 2, np.float32)))
        x = net.op("Add", net.op("Mul", counted, half), net.op("Mul", net.input, tensor))
        x = net.op("Add", x, net.op("Reshape", row, net.constant(np.array([1, 3, 1, 1]))))
        net = onnx.load(net.save(x))
        np.testing.assert_allclose(run(in_precision(net, np.float16), picture), run(net, picture), atol=4e-3)

    def test_are_the_branches_of_a_condition(self, graph, picture):
        net = graph()
        weight = net.constant(np.float32(0.5))

        def branch(kind):
            node = helper.make_node(kind, [net.input, weight], [kind])
            made = helper.make_tensor_value_info(kind, TensorProto.FLOAT, None)
            return helper.make_graph([node], kind, [], [made])

        chosen = net.op("If", net.constant(np.array(True)), then_branch=branch("Mul"), else_branch=branch("Add"))
        net = onnx.load(net.save(chosen))
        np.testing.assert_allclose(run(in_precision(net, np.float16), picture), picture / 2, atol=4e-3)

    def test_are_functions_of_the_models_own(self, graph, picture):
        net = graph()
        halved = helper.make_node("Mul", ["x", "w"], ["y"])
        value = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(np.float32(0.5)))
        opset = helper.make_opsetid("", 18)
        model = onnx.load(net.save(net.op("Half", net.input, domain="own")))
        model.functions.append(helper.make_function("own", "Half", ["x"], ["y"], [value, halved], [opset]))
        model.opset_import.append(helper.make_opsetid("own", 1))
        np.testing.assert_allclose(run(in_precision(model, np.float16), picture), picture / 2, atol=4e-3)


class TestNumbers:
    def test_beyond_the_range_of_half_precision_become_its_largest(self, graph):
        net = graph()
        weights = net.constant(np.float32([1e6, -1e6, np.inf, 1e-9, 3]).reshape(5, 1, 1))
        half = in_precision(onnx.load(net.save(net.op("Mul", net.input, weights))), np.float16)
        values = numpy_helper.to_array(half.graph.initializer[0]).ravel()
        np.testing.assert_array_equal(values, np.float16([65504, -65504, np.inf, 0, 3]))

    def test_that_an_operator_outside_the_standard_reads_are_refused(self, graph):
        net = graph()
        model = onnx.load(net.save(net.op("Gelu", net.input, domain="com.microsoft")))
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        with pytest.raises(NoSchema, match=r"com\.microsoft\.Gelu is not in the standard"):
            in_precision(model, np.float16)
        in_precision(model, np.float32)


class TestPrepared:
    @pytest.mark.parametrize("dtype", PRECISIONS)
    def test_has_one_shape(self, upscaler, dtype):
        data = Model("net", upscaler()).metadata
        made = onnx.ModelProto.FromString(prepared(data, Geometry(20, 24, 0, 1), dtype))
        assert [d.dim_value for d in made.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 20, 24]
        session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        assert session.get_outputs()[0].shape == [1, 3, 40, 48]


class TestQuality:
    @pytest.mark.parametrize("name", MODELS)
    def test_fp16_rounded_after_each_operation_is_within_62_db_of_fp32_on_a_real_frame(
        self, shipped, bunny, pool, name
    ):
        media = probe(bunny)
        decoder = LibavDecoder(media)
        converted = SurfaceToTensor(media.video.surface, pool).convert(decoder.read())
        real = converted.tensor[np.newaxis, :, 40:136, 80:240].copy()
        converted.close()
        decoder.close()
        model = onnx.load(shipped(name).metadata.path)
        exact = run(in_precision(model, np.float32), real)
        half, single = (np.rint(255 * result.clip(0, 1)) for result in (run_rounded(model, real), exact))
        assert 10 * np.log10(255**2 / np.mean((half - single) ** 2)) >= 62
