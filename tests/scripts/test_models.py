"""The shipped models are what the catalogue says, and the converter that made them takes nothing on trust."""

from __future__ import annotations

import hashlib
import importlib.util
import struct
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
CATALOGUE: dict[str, dict[str, Any]] = tomllib.loads((MODELS / "catalogue.toml").read_text())


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


converter = load_script("ncnn_to_onnx")


@pytest.fixture(params=CATALOGUE.values(), ids=list(CATALOGUE))
def entry(request: pytest.FixtureRequest) -> dict[str, Any]:
    entry: dict[str, Any] = request.param
    return entry


def load(entry: dict[str, Any]) -> onnx.ModelProto:
    return onnx.load(MODELS / entry["file"])


class TestCatalogue:
    def test_it_offers_scales_two_three_and_four(self) -> None:
        assert {name: entry["scale"] for name, entry in CATALOGUE.items()} == {
            "animevideo-x2": 2,
            "animevideo-x3": 3,
            "animevideo-x4": 4,
        }

    def test_each_file_has_the_sha256_it_states(self, entry: dict[str, Any]) -> None:
        assert hashlib.sha256((MODELS / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]

    def test_each_file_is_about_1_2_megabytes(self, entry: dict[str, Any]) -> None:
        assert 1_200_000 < (MODELS / entry["file"]).stat().st_size < 1_300_000

    def test_each_model_is_accepted_by_the_onnx_checker(self, entry: dict[str, Any]) -> None:
        onnx.checker.check_model(load(entry), full_check=True)

    def test_each_model_stores_its_weights_as_fp16(self, entry: dict[str, Any]) -> None:
        graph = load(entry).graph
        weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
        resize_scales = {node.input[2] for node in graph.node if node.op_type == "Resize"}
        assert {weights[name] for name in weights.keys() - resize_scales} == {TensorProto.FLOAT16}

    def test_each_model_has_the_layers_it_states(self, entry: dict[str, Any]) -> None:
        graph = load(entry).graph
        shapes = [list(t.dims) for t in graph.initializer if t.name.endswith(".weight")]
        features = entry["features"]
        assert shapes == [
            [features, 3, 3, 3],
            *[[features, features, 3, 3]] * entry["convolutions"],
            [48, features, 3, 3],
        ]

    def test_each_model_enlarges_by_the_scale_it_states(self, entry: dict[str, Any]) -> None:
        graph = load(entry).graph
        (shuffle,) = (node for node in graph.node if node.op_type == "DepthToSpace")
        block = next(a.i for a in shuffle.attribute if a.name == "blocksize")
        final = graph.node[-1]
        scales = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        shrink = scales[final.input[2]] if final.op_type == "Resize" else np.ones(4)
        assert list(shrink * [1, 1, block, block]) == [1, 1, entry["scale"], entry["scale"]]


WEIGHT = np.arange(9).reshape(3, 3, 1, 1) / 8
BIAS = np.array([0.5, -1.5, 3])
SLOPES = np.array([0.25, -0.125, 2])
PARAM = """\
7767517
3 3
Input data 0 1 data
Convolution mix 1 1 data mixed 0=3 1=1 5=1 6=9
PReLU bend 1 1 mixed output 0=3
"""
# Nine fp16 values leave two bytes of padding before the bias.
WEIGHTS = b"".join(
    [
        struct.pack("<I", 0x01306B47),
        WEIGHT.astype("<f2").tobytes(),
        bytes(2),
        BIAS.astype("<f4").tobytes(),
        SLOPES.astype("<f4").tobytes(),
    ]
)


def convert(folder: Path, param: str = PARAM, weights: bytes = WEIGHTS) -> onnx.ModelProto:
    (folder / "tiny.param").write_text(param)
    (folder / "tiny.bin").write_bytes(weights)
    model: onnx.ModelProto = converter.convert(folder / "tiny.param", folder / "tiny.bin", "tiny")
    return model


class TestConverter:
    def test_it_carries_the_weights_of_a_tiny_network_over(self, tmp_path: Path) -> None:
        graph = convert(tmp_path).graph

        assert [(n.op_type, list(n.input), list(n.output)) for n in graph.node] == [
            ("Conv", ["input", "mix.weight", "mix.bias"], ["mixed"]),
            ("PRelu", ["mixed", "bend.slope"], ["output"]),
        ]
        tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        assert {name: values.dtype for name, values in tensors.items()} == dict.fromkeys(
            ["mix.weight", "mix.bias", "bend.slope"], np.dtype(np.float16)
        )
        np.testing.assert_array_equal(tensors["mix.weight"], WEIGHT)
        np.testing.assert_array_equal(tensors["mix.bias"], BIAS)
        np.testing.assert_array_equal(tensors["bend.slope"], SLOPES.reshape(3, 1, 1))

    def test_it_gives_the_same_bytes_twice(self, tmp_path: Path) -> None:
        first, second = (convert(tmp_path).SerializeToString(deterministic=True) for _ in range(2))
        assert first == second

    def test_it_refuses_an_unknown_layer_by_name(self, tmp_path: Path) -> None:
        param = PARAM.replace("PReLU bend 1 1 mixed output 0=3", "Swish bend 1 1 mixed output")
        with pytest.raises(ValueError, match=r"tiny\.param: bend: ncnn layer Swish is not known"):
            convert(tmp_path, param)

    def test_it_refuses_an_unknown_parameter_by_name(self, tmp_path: Path) -> None:
        param = PARAM.replace("1=1 5=1", "1=1 3=2 5=1")
        with pytest.raises(ValueError, match=r"tiny\.param: mix: parameter 3=2 of Convolution is not known"):
            convert(tmp_path, param)

    def test_it_refuses_an_unknown_interpolation_by_name(self, tmp_path: Path) -> None:
        param = PARAM.replace("PReLU bend 1 1 mixed output 0=3", "Interp grow 1 1 mixed output 0=2 1=2 2=2")
        with pytest.raises(ValueError, match="grow: ncnn interpolation 2 is not known"):
            convert(tmp_path, param)

    def test_it_refuses_a_wrong_magic(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"tiny\.param: not an ncnn param file \(first line '7767518'\)"):
            convert(tmp_path, PARAM.replace("7767517", "7767518"))

    def test_it_refuses_a_param_file_that_lacks_a_layer(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"tiny\.param: 2 layers where 3 are announced"):
            convert(tmp_path, PARAM[: PARAM.index("PReLU")])

    @pytest.mark.parametrize("size", [2, 10, 23, len(WEIGHTS) - 1])
    def test_it_refuses_a_truncated_weight_file(self, tmp_path: Path, size: int) -> None:
        with pytest.raises(ValueError, match=r"tiny\.bin: the weight file ends early"):
            convert(tmp_path, weights=WEIGHTS[:size])

    def test_it_refuses_weights_that_are_left_over(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"tiny\.bin: 4 bytes of weights are left over"):
            convert(tmp_path, weights=WEIGHTS + bytes(4))

    def test_it_refuses_weights_in_another_storage(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"tiny\.bin: storage tag 0x00000000, expected 0x01306b47"):
            convert(tmp_path, weights=bytes(4) + WEIGHTS[4:])
