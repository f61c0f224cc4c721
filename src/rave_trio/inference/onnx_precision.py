"""An ONNX model computed in another floating-point type: fp32 made fp16, or fp16 made fp32.

Which values have to stay float32 is read from the ONNX standard's own schemas: an input or output of an operator that
may be float32 and may not be float16, such as the scales of a Resize, keeps its type, and a Cast stands before or after
it.  So there is no list of operators here.

onnxruntime 1.31 ships a converter too, to fp16 only, which keeps a list; of the shipped models made fp32 both make the
same graph.  The other way is needed where a file declares fp16 and the run is in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper, shape_inference

FLOAT_TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16}
ELEMENT_TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float16): TensorProto.FLOAT16}
TYPED = ("to", "dtype")
"""Attributes that name an element type."""
GRAPH, GRAPHS, TENSOR = onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS, onnx.AttributeProto.TENSOR


class NoSchema(ValueError):
    """The model has an operator that the ONNX standard does not know."""


def in_precision(model: onnx.ModelProto, dtype: npt.DTypeLike) -> onnx.ModelProto:
    """The same network with every float32 and float16 value as ``dtype``, its input, output and weights among them.

    float64 stays.  Finite weights beyond float16's range become its largest.  Raises NoSchema.
    """
    target = ELEMENT_TYPES[np.dtype(dtype)]
    if model.functions:
        model = inliner.inline_local_functions(model)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    _Rewriting(changed, target).rewrite(changed.graph)
    return changed


class _Rewriting:
    """The rewriting of one model in place."""

    def __init__(self, model: onnx.ModelProto, target: int) -> None:
        self._target = target
        self._versions = {opset.domain: opset.version for opset in model.opset_import}
        self._types: dict[str, int] = {}
        """What each value was before, by name."""
        self._learn(shape_inference.infer_shapes(model).graph)

    def rewrite(self, graph: onnx.GraphProto) -> None:
        """Rewrite one graph, and those within it."""
        pinned: set[str] = set()
        free: set[str] = set()
        for node in _nodes(graph):
            for at, name in enumerate(node.input):
                (pinned if self._is_pinned(node, "in", at) else free).add(name)
        kept = {t.name for t in graph.initializer if t.name in pinned - free and t.data_type == TensorProto.FLOAT}
        for tensor in graph.initializer:
            if tensor.name not in kept:
                self._retype(tensor)
        for value in (*graph.input, *graph.output):
            kind = value.type.tensor_type
            if kind.elem_type in FLOAT_TYPES and value.name not in kept:
                kind.elem_type = self._target
        del graph.value_info[:]
        nodes = []
        for node in graph.node:
            before, after = self._casts(node, kept)
            self._rewrite_attributes(node)
            nodes += [*before, node, *after]
        del graph.node[:]
        graph.node.extend(nodes)

    def _casts(self, node: onnx.NodeProto, kept: set[str]) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
        """What has to stand before and after a node whose inputs or outputs stay float32; it is renamed to match."""
        before: list[onnx.NodeProto] = []
        after: list[onnx.NodeProto] = []
        for at, name in enumerate(node.input):
            if name not in kept and self._types.get(name) in FLOAT_TYPES and self._is_pinned(node, "in", at):
                node.input[at] = f"{node.output[0]}/{name}/fp32"
                before.append(helper.make_node("Cast", [name], [node.input[at]], to=TensorProto.FLOAT))
        for at, name in enumerate(node.output):
            if self._types.get(name) in FLOAT_TYPES and self._is_pinned(node, "out", at):
                node.output[at] = f"{name}/fp32"
                after.append(helper.make_node("Cast", [node.output[at]], [name], to=self._target))
        return before, after

    def _rewrite_attributes(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant":
            _as_tensor(node)
        for attribute in node.attribute:
            if attribute.type == TENSOR:
                self._retype(attribute.t)
            elif attribute.type in (GRAPH, GRAPHS):
                for inner in (attribute.g, *attribute.graphs):
                    self.rewrite(inner)
            elif attribute.name in TYPED and attribute.i in FLOAT_TYPES:
                attribute.i = self._target

    def _retype(self, tensor: onnx.TensorProto) -> None:
        if tensor.data_type not in FLOAT_TYPES or tensor.data_type == self._target:
            return
        values = numpy_helper.to_array(tensor)
        if self._target == TensorProto.FLOAT16:
            largest = np.finfo(np.float16).max
            values = np.where(np.isfinite(values), np.clip(values, -largest, largest), values)
        dtype = helper.tensor_dtype_to_np_dtype(self._target)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(dtype), tensor.name))

    def _is_pinned(self, node: onnx.NodeProto, side: str, at: int) -> bool:
        """Whether the standard allows float32 there and not float16; nothing is in the way of making all float32."""
        if self._target == TensorProto.FLOAT:
            return False
        try:
            schema = onnx.defs.get_schema(node.op_type, self._versions.get(node.domain, 1), node.domain)
        except onnx.defs.SchemaError as error:
            if all(self._types.get(name) != TensorProto.FLOAT for name in (*node.input, *node.output)):
                return False
            raise NoSchema(f"operator {node.domain or 'ai.onnx'}.{node.op_type} is not in the standard") from error
        formal = schema.inputs if side == "in" else schema.outputs
        types = formal[min(at, len(formal) - 1)].types  # the last one may be repeated
        return "tensor(float)" in types and "tensor(float16)" not in types

    def _learn(self, graph: onnx.GraphProto) -> None:
        for value in (*graph.input, *graph.output, *graph.value_info):
            self._types[value.name] = value.type.tensor_type.elem_type
        for tensor in graph.initializer:
            self._types[tensor.name] = tensor.data_type
        for inner in _inner(graph):
            self._learn(inner)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of those within it."""
    yield from graph.node
    for inner in _inner(graph):
        yield from _nodes(inner)


def _inner(graph: onnx.GraphProto) -> Iterator[Any]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == GRAPH:
                yield attribute.g
            elif attribute.type == GRAPHS:
                yield from attribute.graphs


def _as_tensor(node: onnx.NodeProto) -> None:
    """Let a Constant that is given as numbers be given as a tensor."""
    for attribute in node.attribute:
        if attribute.name in ("value_float", "value_floats"):
            values = np.array(attribute.f if attribute.name == "value_float" else list(attribute.floats), np.float32)
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(values)))
            return
