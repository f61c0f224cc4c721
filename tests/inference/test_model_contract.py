"""Which ONNX files are taken for a model, and what is said of those that are not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rave_trio import errors
from rave_trio.inference.catalogue import sha256_of
from rave_trio.inference.openvino_model import Model

NOT_ONNX = "FILE is not an ONNX file, or only a part of one"


def refusal(path: Path, kind: type[errors.RaveError]) -> str:
    """The message with which a file is refused: one line that names the file and shows no insides."""
    with pytest.raises(kind) as caught:
        Model(path.stem, path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert not re.search(r"Exception|Traceback|\.cpp|Check '", message), message
    assert len(message) < 600
    assert caught.value.remedy
    return message.replace(str(path), "FILE")


class TestAccepted:
    @pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=["fp32", "fp16"])
    @pytest.mark.parametrize("scale", [1, 2, 3, 4])
    def test_a_model_of_free_size_with_its_scale_found(self, upscaler, dtype, scale):
        path = upscaler(dtype=dtype, scale=scale)
        data = Model("mine", path).metadata
        assert (data.name, data.path, data.sha256) == ("mine", path, sha256_of(path))
        assert (data.scale, data.height, data.width) == (scale, None, None)
        assert (data.input_channels, data.output_channels) == (3, 3)

    def test_a_model_of_fixed_size(self, upscaler):
        data = Model("fixed", upscaler(size=(40, 56))).metadata
        assert (data.scale, data.height, data.width) == (2, 40, 56)

    @pytest.mark.parametrize("batch", [1, "n"])
    def test_a_batch_of_one_or_of_any_number(self, upscaler, batch):
        assert Model("batch", upscaler(batch=batch)).metadata.scale == 2

    @pytest.mark.parametrize(("inputs", "outputs"), [(3, 3), (1, 1), (3, 1)])
    def test_the_channels_that_it_may_have(self, upscaler, inputs, outputs):
        data = Model("channels", upscaler(channels=inputs, outputs=outputs)).metadata
        assert (data.input_channels, data.output_channels) == (inputs, outputs)

    def test_a_file_of_any_name(self, upscaler, tmp_path):
        path = upscaler().rename(tmp_path / "weights")
        assert Model("weights", path).metadata.scale == 2

    def test_weights_that_are_listed_as_inputs_too(self, graph):
        net = graph()
        out = net.shuffle(net.conv(net.input, 3, 12), 2)
        net.inputs.append(helper.make_tensor_value_info("constant0", TensorProto.FLOAT, (12, 3, 3, 3)))
        assert net.model(out).metadata.scale == 2


class TestResults:
    def test_each_colour_goes_through_a_model_of_one_channel_by_itself(self, upscaler, enlarge, noise):
        model = Model("grey", upscaler(channels=1))
        picture = noise(20, 24)
        result = enlarge(model, picture)
        assert result.shape == (3, 40, 48)
        for channel in range(3):
            alone = enlarge(model, np.stack([picture[channel]] * 3))
            np.testing.assert_array_equal(result[channel], alone[channel])

    def test_a_model_that_makes_grey_gives_one_plane(self, upscaler, enlarge, noise):
        assert enlarge(Model("grey", upscaler(outputs=1)), noise(20, 24)).shape == (1, 40, 48)

    @pytest.mark.parametrize(("height", "width"), [(20, 24), (21, 24), (20, 27), (21, 27), (1, 1)])
    def test_a_model_that_wants_a_multiple_gets_the_edge_repeated_and_the_rest_cut_off(
        self, graph, enlarge, noise, height, width
    ):
        net = graph()
        packed = net.op("SpaceToDepth", net.input, blocksize=2)
        model = net.model(net.shuffle(net.conv(packed, 12, 48), 4))
        picture = noise(height, width)
        even = np.pad(picture, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")

        result = enlarge(model, picture)

        assert result.shape == (3, 2 * height, 2 * width)
        np.testing.assert_allclose(result, enlarge(model, even)[:, : 2 * height, : 2 * width], atol=1e-6)

    def test_a_frame_smaller_than_a_model_of_fixed_size_gets_the_edge_repeated(self, upscaler, enlarge, noise):
        picture = noise(30, 50)
        result = enlarge(Model("fixed", upscaler(size=(40, 56))), picture)
        whole = enlarge(Model("free", upscaler("free")), np.pad(picture, ((0, 0), (0, 10), (0, 6)), mode="edge"))
        np.testing.assert_allclose(result, whole[:, :60, :100], atol=1e-6)

    def test_half_precision_weights_are_exact_in_fp32(self, upscaler, enlarge, noise):
        picture = noise(20, 24)
        half = enlarge(Model("half", upscaler("half", dtype=np.float16)), picture)
        single = enlarge(Model("single", upscaler("single")), picture)
        np.testing.assert_allclose(half, single, atol=2e-3)
        assert len(np.unique(half)) > 0.99 * len(np.unique(single))


class TestBatches:
    """Whether a graph is certain to compute several pictures as it would each alone."""

    @pytest.mark.parametrize("name", ["animevideo-x2", "animevideo-x3", "animevideo-x4"])
    def test_the_shipped_models_do(self, shipped, name):
        assert shipped(name).takes_batches

    @pytest.mark.parametrize("batch", ["n", 1])
    @pytest.mark.parametrize("size", [("h", "w"), (40, 56)])
    @pytest.mark.parametrize(("inputs", "outputs"), [(3, 3), (1, 1), (3, 1)])
    def test_convolutions_do(self, upscaler, batch, size, inputs, outputs):
        assert Model("net", upscaler(batch=batch, size=size, channels=inputs, outputs=outputs)).takes_batches

    def test_a_model_that_wants_a_multiple_does(self, graph):
        net = graph()
        packed = net.op("SpaceToDepth", net.input, blocksize=4)
        assert net.model(net.shuffle(net.conv(packed, 48, 192), 8)).takes_batches

    @pytest.mark.parametrize("axes", [[0, 1], [0, 1, 2, 3]])
    def test_a_mean_over_all_pictures_does_not(self, graph, axes):
        net = graph()
        mean = net.op("ReduceMean", net.input, net.constant(np.array(axes)), keepdims=1)
        assert not net.model(net.shuffle(net.conv(net.op("Sub", net.input, mean), 3, 12), 2)).takes_batches

    def test_a_shape_that_is_written_down_for_one_does_not(self, graph):
        net = graph(shape=(1, 3, 64, 64))
        flat = net.op("Reshape", net.input, net.constant(np.array([1, 3, 64 * 64])))
        back = net.op("Reshape", flat, net.constant(np.array([1, 3, 64, 64])))
        assert not net.model(net.shuffle(net.conv(back, 3, 12), 2)).takes_batches

    def test_pictures_that_change_places_with_channels_do_not(self, graph):
        net = graph()
        turned = net.op("Transpose", net.op("Transpose", net.input, perm=[1, 0, 2, 3]), perm=[1, 0, 2, 3])
        assert not net.model(net.shuffle(net.conv(turned, 3, 12), 2)).takes_batches


class TestUnsupported:
    @pytest.mark.parametrize(
        ("shape", "found"),
        [
            (("n", "h", "w", 3), "input shape [?,?,?,3]"),
            ((1, 64, 64, 3), "input shape [1,64,64,3]"),
            ((3, "h", "w"), "input shape [3,?,?]"),
            (("n", 4, "h", "w"), "input shape [?,4,?,?]"),
            (("n", "c", "h", "w"), "input shape [?,?,?,?]"),
            ((4, 3, "h", "w"), "a fixed batch of 4"),
            ((1, 3, 64, "w"), "input shape [1,3,64,?], of which only one side is fixed"),
        ],
    )
    def test_an_input_of_another_shape(self, graph, shape, found):
        net = graph(shape=shape)
        message = refusal(net.save(net.op("Relu", net.input), shape=shape), errors.ModelUnsupported)
        assert message.startswith("FILE is not a model that fits: expected one NCHW input and one NCHW output")
        assert message.endswith(f"; found {found}")

    def test_two_inputs(self, graph):
        net = graph()
        net.inputs.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, net.shape))
        message = refusal(net.save(net.op("Add", net.input, "noise")), errors.ModelUnsupported)
        assert message.endswith("; found 2 inputs and 1 outputs")

    def test_two_outputs(self, graph):
        net = graph()
        path = net.save(net.op("Relu", net.input), net.op("Sigmoid", net.input))
        assert refusal(path, errors.ModelUnsupported).endswith("; found 1 inputs and 2 outputs")

    def test_whole_numbers_in(self, graph):
        net = graph(dtype=np.int32)
        path = net.save(net.op("Abs", net.input))
        assert refusal(path, errors.ModelUnsupported).endswith("; found element type i32")

    @pytest.mark.parametrize(
        ("scales", "found"),
        [((1.5, 1.5), (96, 96)), ((2, 3), (128, 192)), ((0.5, 0.5), (32, 32))],
        ids=["by a fraction", "unequally", "smaller"],
    )
    def test_an_output_enlarged_in_another_way(self, graph, scales, found):
        net = graph()
        output = net.op("Resize", net.input, "", net.constant(np.array([1, 1, *scales], np.float32)))
        message = refusal(net.save(output), errors.ModelUnsupported)
        assert message.endswith(f"; found output shape [1, 3, {found[0]}, {found[1]}] for input shape [1, 3, 64, 64]")

    @pytest.mark.parametrize(("inputs", "outputs"), [(3, 4), (1, 3), (3, 2)])
    def test_an_output_with_other_channels(self, upscaler, inputs, outputs):
        message = refusal(upscaler(channels=inputs, outputs=outputs), errors.ModelUnsupported)
        assert f"found output shape [1, {outputs}, 128, 128] for input shape [1, {inputs}, 64, 64]" in message

    def test_an_output_of_another_rank(self, graph):
        net = graph()
        flat = net.op("ReduceMean", net.input, net.constant(np.array([1])), keepdims=0)
        assert refusal(net.save(flat, shape=(None,) * 3), errors.ModelUnsupported).endswith(
            "no output for an input of 64x64"
        )

    def test_a_model_that_takes_no_size_but_its_favourite_ones(self, graph):
        net = graph()
        coarse = net.op("AveragePool", net.input, kernel_shape=[63, 63], strides=[63, 63], ceil_mode=1)
        model = net.model(net.resize(coarse, 64))
        with pytest.raises(errors.ModelUnsupported, match="found only sizes that are multiples of more than 64"):
            model.geometry(100, 100, None)


class TestBroken:
    def test_a_text_file(self, tmp_path):
        path = tmp_path / "readme.onnx"
        path.write_text("not a model\n" * 9)
        assert refusal(path, errors.ModelBroken) == NOT_ONNX

    def test_an_empty_file(self, tmp_path):
        path = tmp_path / "empty.onnx"
        path.touch()
        assert refusal(path, errors.ModelBroken) == "FILE is empty"

    def test_a_video(self, bunny):
        assert refusal(bunny, errors.ModelBroken) == NOT_ONNX

    def test_nothing_is_written_to_stderr_about_a_file_of_another_kind(self, tmp_path, capfd):
        path = tmp_path / "weights.pth"
        path.write_bytes(b"PK\x03\x04" + bytes(1000))
        assert refusal(path, errors.ModelBroken) == NOT_ONNX
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
    def test_a_truncated_file(self, upscaler, share):
        path = upscaler()
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        assert refusal(path, errors.ModelBroken) == NOT_ONNX

    def test_an_operation_that_does_not_exist(self, graph):
        net = graph()
        message = refusal(net.save(net.op("Embellish", net.input)), errors.ModelBroken)
        assert message == "FILE cannot be read as ONNX: No conversion rule found for operations: Embellish-18"

    def test_weights_that_do_not_fit(self, graph):
        net = graph()
        message = refusal(net.save(net.conv(net.input, 5, 12)), errors.ModelBroken)
        assert "Data batch channel count (3) does not match filter input channel count (5)" in message

    def test_a_graph_that_reads_what_is_not_there(self, graph):
        net = graph()
        message = refusal(net.save(net.op("Relu", "nowhere")), errors.ModelBroken)
        assert message == 'FILE cannot be read as ONNX: Input tensor isn\'t found for node "nowhere"'

    def test_a_file_whose_weights_lie_elsewhere_and_are_missing(self, upscaler, tmp_path):
        path = upscaler()
        onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        assert Model("external", path).metadata.scale == 2
        (tmp_path / "weights.bin").unlink()
        refusal(path, errors.ModelBroken)
