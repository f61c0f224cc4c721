"""A network as nodes between named values, of which all that does not depend on pixels is known."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

FLOAT_CASTS = {1, 10, 11}
"""Element types, by ONNX's numbers, that a Cast may make of pixels: float, float16 and double."""

SHAPING = {"Reshape", "Squeeze", "Unsqueeze", "Flatten"}
"""Operators that keep all samples in their order."""


class NotCompact(ValueError):
    """A network that is not of the family; the text says why, as the end of "this model is not of the family: "."""


@attrs.frozen(eq=False)
class Node:
    """One operation on pixels."""

    kind: str
    """ONNX's op_type."""
    inputs: tuple[str, ...]
    """Names, empty where an optional one is left out."""
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def get(self, name: str, default: Any) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(name, default)


@attrs.frozen(eq=False)
class Graph:
    """A network for inputs of one shape."""

    source: str
    """The input's name."""
    output: str
    _shapes: dict[str, tuple[int, ...]]
    _constants: dict[str, npt.NDArray[Any]]
    _producers: dict[str, Node]

    def shape(self, name: str) -> tuple[int, ...]:
        """Of any value."""
        return self._shapes[name] if name in self._shapes else self._constants[name].shape

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """A value that does not depend on pixels; None for others, and for an input that is left out."""
        return self._constants.get(name)

    def input(self, node: Node, at: int) -> npt.NDArray[Any] | None:
        """The constant that is input ``at`` of a node; None where it is none or left out."""
        return self.constant(node.inputs[at]) if at < len(node.inputs) and node.inputs[at] else None

    def producer(self, name: str) -> Node | None:
        """Whose result a value is; None for the input."""
        return self._producers.get(name)

    def pixels(self, node: Node) -> list[str]:
        """The inputs of a node that depend on pixels."""
        return [name for name in node.inputs if name in self._shapes]

    def peel(self, name: str) -> str:
        """The same samples before all that leaves them as they are."""
        while (node := self.producer(name)) is not None and self.keeps(node, name):
            name = node.inputs[0]
        return name

    def keeps(self, node: Node, name: str) -> bool:
        """Whether ``name``, a result of ``node``, is the samples of its first input as they are."""
        if not node.inputs or node.inputs[0] not in self._shapes or name != node.outputs[0]:
            return False
        if node.kind == "Dropout":
            training = self.input(node, 2)
            return training is None or not bool(training)
        if node.kind == "Cast":
            return node.get("to", None) in FLOAT_CASTS
        if node.kind == "Identity":
            return True
        if self.shape(name) != self.shape(node.inputs[0]):
            return False
        if node.kind in SHAPING or node.kind == "Expand":
            return True
        if node.kind == "Transpose":
            rank = len(self.shape(name))
            return list(node.get("perm", reversed(range(rank)))) == list(range(rank))
        if node.kind == "Slice":
            steps = self.input(node, 4)
            return len(node.inputs) < 5 or not node.inputs[4] or (steps is not None and bool(np.all(steps > 0)))
        if node.kind == "Pad":
            pads = self.input(node, 1)
            return not np.any(node.get("pads", []) if pads is None else pads)
        return False
