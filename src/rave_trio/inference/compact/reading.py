"""An ONNX file at one size of its input: shapes of all values, and those that do not depend on pixels computed.

What exporters leave behind, such as arithmetic on shapes, is gone then, whatever it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from rave_trio.inference.compact.graph import Graph, Node, NotCompact
from rave_trio.inference.onnx_precision import in_precision

FREE_SIZES = ((7, 10), (9, 8))
"""Heights and widths at which a network of free size is read: what is meant for all sizes is the same at both."""

MOST_NODES = 2000
MOST_CONVOLUTIONS = 70
"""More are not looked at: 66 convolutions make the largest of the family, and a few more may copy the input."""

SMALL = 64
"""Elements of a constant that shape inference may want to see."""

RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}

OF_SHAPES = {"Shape", "Size"}

INNER = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


@attrs.frozen(eq=False)
class OnnxFile:
    """A network with one input of N x 3 x H x W, all in fp32."""

    model: onnx.ModelProto
    source: str
    """The input's name."""
    size: tuple[int, int] | None
    """Height and width, None where they are free."""

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Heights and widths at which it should be read."""
        return FREE_SIZES if self.size is None else (self.size,)

    def at(self, height: int, width: int) -> Graph:
        """The network for inputs of that size.  Raises NotCompact."""
        return _Reading(self, (1, 3, height, width)).graph()

    def run(self, picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """What ONNX's own reference says the file makes of 3 x H x W; None where it does not know an operator."""
        try:
            evaluator = ReferenceEvaluator(self.model, new_ops=[Upsample])
            results = evaluator.run(None, {self.source: picture[np.newaxis]})
        except NotImplementedError:
            return None
        result: npt.NDArray[np.float32] = results[0][0]
        return result


class Upsample(OpRun):  # type: ignore[misc]
    """ONNX's operator of versions 7 and 9, which its reference has not: nearest, whole scales."""

    op_domain = ""

    def _run(self, x: Any, scales: Any = None, mode: str = "nearest", **_how: Any) -> tuple[Any]:
        if mode != "nearest" or any(scale % 1 for scale in scales):
            raise NotImplementedError(f"Upsample {mode} by {scales}")
        for axis, scale in enumerate(scales):
            x = x.repeat(int(scale), axis=axis)
        return (x,)


def open_onnx(path: Path) -> OnnxFile:
    """Read a file.  Raises NotCompact for what is no such network at first sight."""
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's and the operating system's have nothing in common
        raise NotCompact(f"it cannot be read: {_line(error)}") from error
    if len(model.graph.node) > MOST_NODES:
        raise NotCompact(f"it has {len(model.graph.node)} nodes")
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    if convolutions > MOST_CONVOLUTIONS:
        raise NotCompact(f"it has {convolutions} convolutions")
    try:
        model = in_precision(model, np.float32)
    except (ValueError, TypeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise NotCompact(f"it contradicts itself: {_line(error)}") from error
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise NotCompact(f"it has {len(inputs)} inputs and {len(graph.output)} outputs")
    dims = [dim.dim_value or None for dim in inputs[0].type.tensor_type.shape.dim]
    if len(dims) != 4 or dims[1] not in (3, None) or dims[0] not in (1, None):
        raise NotCompact(f"its input is {'x'.join(str(dim or 'any') for dim in dims)}, not one picture of 3 planes")
    height, width = dims[2:]
    size = None if height is None or width is None else (height, width)
    return OnnxFile(model, inputs[0].name, size)


class _Reading:
    """One walk along the nodes."""

    def __init__(self, file: OnnxFile, shape: tuple[int, ...]) -> None:
        self._model = file.model
        self._source = file.source
        self._shapes: dict[str, tuple[int, ...]] = {file.source: shape}
        self._constants = {t.name: numpy_helper.to_array(t) for t in file.model.graph.initializer}
        self._constants.pop(file.source, None)
        self._producers: dict[str, Node] = {}
        self._opsets = file.model.opset_import

    def graph(self) -> Graph:
        output = self._model.graph.output[0].name
        for node in self._needed(output):
            self._read(node)
        if output not in self._shapes:
            raise NotCompact("its result does not depend on its input")
        return Graph(self._source, output, self._shapes, self._constants, self._producers)

    def _needed(self, output: str) -> list[onnx.NodeProto]:
        """The nodes from which ``output`` is computed, in order."""
        wanted, needed = {output}, []
        for node in reversed(self._model.graph.node):
            if wanted & set(node.output):
                wanted.update(node.input)
                needed.append(node)
        return needed[::-1]

    def _read(self, node: onnx.NodeProto) -> None:
        if node.domain not in ("", "ai.onnx") or any(each.type in INNER for each in node.attribute):
            raise NotCompact(f"it has a {node.op_type}")
        given = [name for name in node.input if name]
        for name in given:
            if name not in self._shapes and name not in self._constants:
                raise NotCompact(f"{name} comes from nowhere")
        pixels = [name for name in given if name in self._shapes]
        if not pixels and node.op_type not in RANDOM:
            self._constants.update(self._computed(node, {name: self._constants[name] for name in given}))
        elif pixels and node.op_type in OF_SHAPES:
            self._constants.update(self._computed(node, {pixels[0]: np.empty(self._shapes[pixels[0]], np.uint8)}))
        else:
            self._note(node)

    def _computed(self, node: onnx.NodeProto, values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """What a node makes of constants."""
        graph = helper.make_graph(
            [node],
            "node",
            [_value(name, array.shape, array.dtype) for name, array in values.items()],
            [helper.make_empty_tensor_value_info(name) for name in node.output if name],
        )
        model = helper.make_model(graph, opset_imports=self._opsets, ir_version=self._model.ir_version)
        try:
            results = ReferenceEvaluator(model).run(None, values)
        except Exception as error:  # whatever numpy makes of a broken file
            raise NotCompact(f"its {node.op_type} cannot be computed: {_line(error)}") from error
        return iter(zip([name for name in node.output if name], map(np.asarray, results), strict=True))

    def _note(self, node: onnx.NodeProto) -> None:
        """Take down a node that depends on pixels, and the shapes of its results."""
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        attributes = {name: each.decode() if isinstance(each, bytes) else each for name, each in attributes.items()}
        noted = Node(node.op_type, tuple(node.input), tuple(node.output), attributes)
        self._shapes.update(self._inferred(node))
        for name in node.output:
            self._producers[name] = noted

    def _inferred(self, node: onnx.NodeProto) -> dict[str, tuple[int, ...]]:
        given = dict.fromkeys(name for name in node.input if name)
        inputs, tensors = [], []
        for name in given:
            if name in self._shapes:
                inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, self._shapes[name]))
                continue
            array = self._constants[name]
            inputs.append(_value(name, array.shape, array.dtype))
            if array.size <= SMALL:
                tensors.append(numpy_helper.from_array(array, name))
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = helper.make_graph([node], "node", inputs, outputs, tensors)
        model = helper.make_model(graph, opset_imports=self._opsets, ir_version=self._model.ir_version)
        try:
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
            raise NotCompact(f"its {node.op_type} does not fit: {_line(error)}") from error
        shapes: dict[str, tuple[int, ...]] = {}
        for value in inferred.output:
            kind = value.type.tensor_type
            if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
                shapes[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
        if node.output[0] not in shapes:
            raise NotCompact(f"what its {node.op_type} gives has no shape that could be told")
        return shapes


def _value(name: str, shape: tuple[int, ...], dtype: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def _line(error: Exception) -> str:
    """The first line of what a library says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
