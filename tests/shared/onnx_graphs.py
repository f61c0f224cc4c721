"""ONNX models made on the spot, and pictures: fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rave_trio.inference.openvino_model import Model

ELEMENT_TYPES = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16, np.int32: TensorProto.INT32}


class Graph:
    """A network in the making.  Each method adds one operation and returns the name of its result.

    Weights are random and positive, so that whatever can change a result does.
    """

    input = "in"

    def __init__(
        self,
        path: Path,
        *,
        shape: tuple[int | str, ...] = ("n", 3, "h", "w"),
        dtype: Any = np.float32,
        opset: int = 18,
    ) -> None:
        self.path = path
        self.opset = opset
        self.shape = shape
        self.dtype = dtype
        self.inputs = [helper.make_tensor_value_info(self.input, ELEMENT_TYPES[dtype], shape)]
        self.random = np.random.default_rng(7)
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, outputs: int = 1, name: str = "", **attributes: Any) -> Any:
        """Any operation; the name of its result, or the names if there are more."""
        results = [f"{kind}{len(self._nodes)}_{at}" for at in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, results, name=name, **attributes))
        return results[0] if outputs == 1 else results

    def constant(self, values: Any) -> str:
        self._tensors.append(numpy_helper.from_array(np.asarray(values), f"constant{len(self._tensors)}"))
        return self._tensors[-1].name

    def weights(self, *shape: int) -> str:
        values = self.random.uniform(0.5, 1.5, shape)
        return self.constant((values / np.prod(shape[1:])).astype(self.dtype))

    def conv(self, source: str, inputs: int, outputs: int, kernel: int = 3, bias: bool = False, **how: Any) -> str:
        """A convolution that keeps the size, unless ``how`` has pads of its own."""
        reach = (kernel - 1) * how.get("dilations", [1])[0]
        if "auto_pad" not in how:
            how.setdefault("pads", [reach // 2, reach // 2, reach - reach // 2, reach - reach // 2])
        weights = self.weights(outputs, inputs // how.get("group", 1), kernel, kernel)
        biases = [self.constant(np.linspace(-0.1, 0.1, outputs).astype(self.dtype))] if bias else []
        return self.op("Conv", source, weights, *biases, kernel_shape=[kernel, kernel], **how)

    def bend(self, source: str, channels: int) -> str:
        return self.op("PRelu", source, self.constant(np.full((channels, 1, 1), 0.25, self.dtype)))

    def shuffle(self, source: str, block: int, mode: str = "CRD") -> str:
        return self.op("DepthToSpace", source, blocksize=block, mode=mode)

    def resize(self, source: str, scale: float, mode: str = "cubic", where: str = "half_pixel", **how: Any) -> str:
        scales = self.constant(np.array([1, 1, scale, scale], np.float32))
        if mode == "nearest":
            how.setdefault("nearest_mode", "floor")
        return self.op("Resize", source, "", scales, mode=mode, coordinate_transformation_mode=where, **how)

    def save(self, *outputs: str, shape: tuple[int | str | None, ...] = (None, None, None, None)) -> Path:
        """Write the network whose results are ``outputs``."""
        kind = ELEMENT_TYPES[self.dtype]
        results = [helper.make_tensor_value_info(output, kind, shape) for output in outputs]
        graph = helper.make_graph(self._nodes, "test", self.inputs, results, self._tensors)
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8), self.path
        )
        return self.path

    def model(self, output: str) -> Model:
        return Model(self.path.stem, self.save(output))


@pytest.fixture
def graph(tmp_path: Path) -> Callable[..., Graph]:
    """A maker of networks: ``graph(shape=("n", 3, "h", "w"), dtype=np.float32)``."""

    def make(name: str = "net", **how: Any) -> Graph:
        return Graph(tmp_path / f"{name}.onnx", **how)

    return make


@pytest.fixture
def upscaler(graph: Callable[..., Graph]) -> Callable[..., Path]:
    """A maker of small networks that enlarge: 3x3 convolutions with bends between them, then DepthToSpace."""

    def make(
        name: str = "upscaler",
        *,
        scale: int = 2,
        channels: int = 3,
        outputs: int | None = None,
        layers: int = 3,
        batch: int | str = "n",
        size: tuple[int | str, int | str] = ("h", "w"),
        dtype: Any = np.float32,
    ) -> Path:
        net = graph(name, shape=(batch, channels, *size), dtype=dtype)
        x, width = net.input, channels
        for _ in range(layers - 1):
            x, width = net.bend(net.conv(x, width, 4, bias=True), 4), 4
        x = net.conv(x, width, (outputs or channels) * scale**2, bias=True)
        return net.save(net.shuffle(x, scale))

    return make


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Random pictures, the same in every run: ``noise(height, width)`` is 3 x H x W in [0, 1]."""

    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).random((3, height, width), np.float32)

    return make


@pytest.fixture(scope="session")
def shipped() -> Callable[[str], Model]:
    """A shipped model by its name."""
    from rave_trio.inference.catalogue import find_model

    return lambda name: Model(*find_model(name))
