"""Turn an ncnn network of the Compact family into an fp16 ONNX file.

Reads the two files of an ncnn network: the param text (magic 7767517, a count line, then one layer a line)
and the weights.  Only the layers and parameters that Real-ESRGAN's animevideov3 is made of are known; any
other is refused by name.  The same input gives the same bytes.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

PARAM_MAGIC = "7767517"
FP16_TAG = 0x01306B47
OPSET = 17
IR_VERSION = 8

NCNN_NEAREST = 1
NCNN_BICUBIC = 3
RESIZE: dict[int, dict[str, Any]] = {
    NCNN_NEAREST: {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    },
    NCNN_BICUBIC: {
        "mode": "cubic",
        "coordinate_transformation_mode": "half_pixel",
        "cubic_coeff_a": -0.75,
    },
}

KNOWN_PARAMETERS = {
    "Input": set[int](),
    "Split": set[int](),
    "Convolution": {0, 1, 4, 5, 6},  # outputs, kernel, padding, with a bias, number of weights
    "PReLU": {0},  # slopes
    "PixelShuffle": {0},  # block size
    "Interp": {0, 1, 2},  # kind, height scale, width scale
    "BinaryOp": set[int](),  # no parameters: the sum of two tensors
}

Array = npt.NDArray[np.floating[Any]]


class Layer(NamedTuple):
    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    parameters: dict[int, str]

    def integer(self, key: int) -> int:
        return int(self.parameters.get(key, "0"))


def read_param(path: Path) -> list[Layer]:
    """Parse an ncnn param file into its layers, in execution order."""
    lines = path.read_text().split("\n")
    if lines[0].strip() != PARAM_MAGIC:
        raise ValueError(f"{path}: not an ncnn param file (first line {lines[0]!r})")
    layers = [parse_layer(path, line) for line in lines[2:] if line.strip()]
    announced = int(lines[1].split()[0])
    if len(layers) != announced:
        raise ValueError(f"{path}: {len(layers)} layers where {announced} are announced")
    return layers


def parse_layer(path: Path, line: str) -> Layer:
    kind, name, inputs, outputs, *rest = line.split()
    n, m = int(inputs), int(inputs) + int(outputs)
    parameters = {int(key): value for key, value in (item.split("=", 1) for item in rest[m:])}
    if kind not in KNOWN_PARAMETERS:
        raise ValueError(f"{path}: {name}: ncnn layer {kind} is not known here")
    for key in sorted(parameters.keys() - KNOWN_PARAMETERS[kind]):
        raise ValueError(f"{path}: {name}: parameter {key}={parameters[key]} of {kind} is not known here")
    return Layer(kind, name, rest[:n], rest[n:m], parameters)


class Weights:
    """An ncnn weight file, read in the order of the layers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = path.read_bytes()
        self._at = 0

    def tagged(self, count: int) -> Array:
        """``count`` values behind a storage tag; only fp16 storage is known.  Padded to four bytes."""
        (tag,) = struct.unpack("<I", self._take(4))
        if tag != FP16_TAG:
            raise ValueError(f"{self._path}: storage tag {tag:#010x}, expected {FP16_TAG:#010x} (fp16)")
        values = np.frombuffer(self._take(2 * count), "<f2")
        self._take(-(2 * count) % 4)
        return values

    def plain(self, count: int) -> Array:
        """``count`` untagged fp32 values."""
        return np.frombuffer(self._take(4 * count), "<f4")

    def finish(self) -> None:
        if self._at != len(self._data):
            raise ValueError(f"{self._path}: {len(self._data) - self._at} bytes of weights are left over")

    def _take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        if len(piece) != size:
            raise ValueError(f"{self._path}: the weight file ends early")
        self._at += size
        return piece


class GraphWriter:
    """Collects ONNX nodes and initialisers while the layers are walked."""

    def __init__(self, weights: Weights) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._weights = weights
        self._alias: dict[str, str] = {}

    def add(self, layer: Layer) -> None:
        inputs = [self._alias.get(name, name) for name in layer.inputs]
        match layer.kind:
            case "Input":
                self._alias[layer.outputs[0]] = "input"
            case "Split":
                self._alias.update(dict.fromkeys(layer.outputs, inputs[0]))
            case "Convolution":
                self._convolution(layer, inputs)
            case "PReLU":
                slopes = self._weights.plain(layer.integer(0)).reshape(-1, 1, 1)
                self._node("PRelu", layer, [*inputs, self._half(f"{layer.name}.slope", slopes)])
            case "PixelShuffle":
                self._node("DepthToSpace", layer, inputs, blocksize=layer.integer(0), mode="CRD")
            case "Interp":
                self._interp(layer, inputs)
            case "BinaryOp":
                self._node("Add", layer, inputs)

    def _convolution(self, layer: Layer, inputs: list[str]) -> None:
        outputs, kernel, pad = layer.integer(0), layer.integer(1), layer.integer(4)
        weight = self._weights.tagged(layer.integer(6)).reshape(outputs, -1, kernel, kernel)
        names = [*inputs, self._half(f"{layer.name}.weight", weight)]
        if layer.integer(5):
            names.append(self._half(f"{layer.name}.bias", self._weights.plain(outputs)))
        self._node("Conv", layer, names, kernel_shape=[kernel, kernel], pads=[pad] * 4)

    def _interp(self, layer: Layer, inputs: list[str]) -> None:
        height_scale, width_scale = (float(layer.parameters.get(key, "1")) for key in (1, 2))
        scales = self._initializer(f"{layer.name}.scales", np.array([1, 1, height_scale, width_scale], "<f4"))
        names = [*inputs, "", scales]
        kind = layer.integer(0)
        if kind not in RESIZE:
            raise ValueError(f"{layer.name}: ncnn interpolation {kind} is not known here")
        self._node("Resize", layer, names, **RESIZE[kind])

    def _node(self, operation: str, layer: Layer, inputs: list[str], **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operation, inputs, layer.outputs, name=layer.name, **attributes))

    def _half(self, name: str, values: Array) -> str:
        return self._initializer(name, values.astype("<f2"))

    def _initializer(self, name: str, values: Array) -> str:
        self.initializers.append(numpy_helper.from_array(values, name))
        return name


def convert(param: Path, weights: Path, name: str) -> onnx.ModelProto:
    """The network as an ONNX model: ``input`` and ``output`` are NCHW RGB fp16 with dynamic N, H and W."""
    reader = Weights(weights)
    writer = GraphWriter(reader)
    for layer in read_param(param):
        writer.add(layer)
    reader.finish()
    writer.nodes[-1].output[0] = "output"
    graph = helper.make_graph(
        writer.nodes,
        name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT16, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT16, ["n", 3, "out_h", "out_w"])],
        writer.initializers,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="rave-trio",
    )
    onnx.checker.check_model(model, full_check=True)
    return model
