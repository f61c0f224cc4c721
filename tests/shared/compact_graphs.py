"""Networks of the Compact family as different exporters write them, and what they compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from onnx_graphs import ELEMENT_TYPES, Graph

from rave_trio.inference.onnx_precision import in_precision

ACTIVATIONS = ("prelu", "prelu of 4 axes", "prelu of 1 axis", "one slope", "leaky", "relu")
BIASES = ("fused", "added", "added to 4 axes", "scaled and added", "subtracted", "none")
PADDINGS = ("pads", "same", "pad")
SHUFFLES = ("CRD", "DCR", "reshaped", "reshaped DCR", "reshaped by arithmetic")
SKIPS = (
    "none",
    "scales",
    "sizes",
    "arithmetic",
    "half pixel",
    "gather",
    "tile",
    "expand",
    "transposed convolution",
    "packed gather",
    "packed concat",
    "packed convolution",
)
CLIPS = ("none", "clip", "minmax", "maxmin")


@attrs.frozen
class Variant:
    """A network and a way to write it."""

    features: int = 8
    trunk: int = 2
    factor: int = 2
    dtype: Any = np.float32
    size: tuple[int | str, int | str] = ("h", "w")
    seed: int = 0
    activation: str = "prelu"
    bias: str = "fused"
    padding: str = "pads"
    shuffle: str = "CRD"
    skip: str = "scales"
    resize: tuple[str, str, float] | None = None
    """Mode, coordinates and scale."""
    clip: str = "none"
    leftovers: bool = False
    """Identity, Cast and Dropout between the layers."""
    nodes: bool = False
    """Weights as nodes rather than initialisers."""


class CompactGraph(Graph):
    """A network of the family in the making."""

    def __init__(self, path: Path, variant: Variant) -> None:
        super().__init__(path, shape=("n", 3, *variant.size), dtype=variant.dtype)
        self.variant = variant
        self.random = np.random.default_rng(variant.seed)

    def constant(self, values: Any) -> str:
        values = np.asarray(values)
        if self.variant.nodes:
            return str(self.op("Constant", value=numpy_helper.from_array(values)))
        return super().constant(values)

    def numbers(self, *shape: int, spread: float = 1.0, middle: float = 0.0) -> str:
        return self.constant((middle + spread * self.random.standard_normal(shape)).astype(self.dtype))

    def whole(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def build(self) -> Path:
        """Write it."""
        how = self.variant
        x = self.input
        if how.leftovers:
            x = self.op("Identity", x)
        for inputs in [3, *[how.features] * how.trunk]:
            x = self.activated(self.layer(x, inputs, how.features), how.features)
            if how.leftovers:
                cast = self.op("Cast", self.op("Dropout", x), to=ELEMENT_TYPES[np.float32])
                x = self.op("Cast", cast, to=ELEMENT_TYPES[how.dtype])
        x = self.layer(x, how.features, 3 * how.factor**2)
        if how.skip.startswith("packed"):
            x = self.op("Add", x, self.skip())
        x = self.shuffled(x)
        if how.skip != "none" and not how.skip.startswith("packed"):
            x = self.op("Add", self.skip(), x)
        if how.resize:
            mode, where, scale = how.resize
            x = self.resize(x, scale, mode, where)
        return self.save(self.clipped(x))

    def layer(self, x: str, inputs: int, outputs: int) -> str:
        how: dict[str, Any] = {"kernel_shape": [3, 3]}
        if self.variant.padding == "pad":
            x = self.op("Pad", x, self.whole(0, 0, 1, 1, 0, 0, 1, 1))
        else:
            how |= {"auto_pad": "SAME_UPPER"} if self.variant.padding == "same" else {"pads": [1, 1, 1, 1]}
        weights = self.numbers(outputs, inputs, 3, 3, spread=(9 * inputs) ** -0.5)
        kind = self.variant.bias
        if kind == "fused":
            return str(self.op("Conv", x, weights, self.numbers(outputs, spread=0.1), **how))
        x = self.op("Conv", x, weights, **how)
        if kind == "none":
            return x
        if kind == "scaled and added":
            x = self.op("Mul", self.numbers(1, outputs, 1, 1, middle=1, spread=0.1), x)
        shape = (1, outputs, 1, 1) if kind == "added to 4 axes" else (outputs, 1, 1)
        return str(self.op("Sub" if kind == "subtracted" else "Add", x, self.numbers(*shape, spread=0.1)))

    def activated(self, x: str, channels: int) -> str:
        kind = self.variant.activation
        if kind == "relu":
            return str(self.op("Relu", x))
        if kind == "leaky":
            return str(self.op("LeakyRelu", x, alpha=0.2))
        shapes = {
            "prelu": (channels, 1, 1),
            "prelu of 4 axes": (1, channels, 1, 1),
            "prelu of 1 axis": (channels,),
            "one slope": (1,),
        }
        return str(self.op("PRelu", x, self.numbers(*shapes[kind], spread=0.3)))

    def shuffled(self, x: str) -> str:
        kind, r = self.variant.shuffle, self.variant.factor
        if kind in ("CRD", "DCR"):
            return self.shuffle(x, r, kind)
        if kind == "reshaped by arithmetic":
            height, width = self.sides(x)
            parts = self.op("Concat", self.whole(-1, 3, r, r), height, width, axis=0)
            sides = self.op("Mul", self.op("Concat", height, width, axis=0), self.whole(r, r))
            whole = self.op("Concat", self.whole(-1, 3), sides, axis=0)
            blocks = self.op("Transpose", self.op("Reshape", x, parts), perm=[0, 1, 4, 2, 5, 3])
            return str(self.op("Reshape", blocks, whole))
        assert not isinstance(self.variant.size[0], str)
        height, width = self.variant.size
        crd = kind == "reshaped"
        blocks = self.op("Reshape", x, self.whole(1, *((3, r, r) if crd else (r, r, 3)), height, width))
        blocks = self.op("Transpose", blocks, perm=[0, 1, 4, 2, 5, 3] if crd else [0, 3, 4, 1, 5, 2])
        return str(self.op("Reshape", blocks, self.whole(1, 3, height * r, width * r)))

    def sides(self, x: str) -> list[str]:
        """Height and width, as exporters compute them."""
        shape = self.op("Shape", x)
        return [
            self.op("Unsqueeze", self.op("Gather", shape, self.constant(np.int64(axis)), axis=0), self.whole(0))
            for axis in (2, 3)
        ]

    def skip(self) -> str:
        """The input enlarged, or as it is added before the shuffle."""
        kind, r = self.variant.skip, self.variant.factor
        if kind == "scales":
            return self.resize(self.input, r, "nearest", "asymmetric")
        if kind == "half pixel":
            return self.resize(self.input, r, "nearest", "half_pixel", nearest_mode="round_prefer_floor")
        if kind == "sizes":
            sizes = self.whole(1, 3, *(int(side) * r for side in self.variant.size))
            return self.to_sizes(sizes)
        if kind == "arithmetic":
            sides = self.op("Concat", *self.sides(self.input), axis=0)
            large = self.op("Cast", self.op("Floor", self.op("Mul", self.op("Cast", sides, to=1), self.one(r))), to=7)
            first = self.op("Slice", self.op("Shape", self.input), self.whole(0), self.whole(2), self.whole(0))
            return self.to_sizes(self.op("Concat", first, large, axis=0))
        if kind == "gather":
            x = self.input
            for axis in (2, 3):
                x = self.op("Gather", x, self.whole(*np.arange(int(self.variant.size[axis - 2])).repeat(r)), axis=axis)
            return x
        if kind == "transposed convolution":
            weights = self.constant(np.ones((3, 1, r, r), self.dtype))
            return str(self.op("ConvTranspose", self.input, weights, strides=[r, r], group=3, kernel_shape=[r, r]))
        if kind in ("tile", "expand"):
            return self.repeated(kind, r)
        return self.packed(kind, r)

    def repeated(self, kind: str, r: int) -> str:
        height, width = map(int, self.variant.size)
        x = self.op("Reshape", self.input, self.whole(1, 3, height, 1, width, 1))
        if kind == "tile":
            x = self.op("Tile", x, self.whole(1, 1, 1, r, 1, r))
        else:
            x = self.op("Expand", x, self.whole(1, 3, height, r, width, r))
        return str(self.op("Reshape", x, self.whole(1, 3, height * r, width * r)))

    def packed(self, kind: str, r: int) -> str:
        planes = np.arange(3).repeat(r * r) if self.variant.shuffle != "DCR" else np.tile(np.arange(3), r * r)
        if kind == "packed gather":
            return str(self.op("Gather", self.input, self.whole(*planes), axis=1))
        if kind == "packed concat":
            assert self.variant.shuffle == "DCR"
            return str(self.op("Concat", *[self.input] * (r * r), axis=1))
        weights = np.eye(3, dtype=self.dtype)[planes][:, :, np.newaxis, np.newaxis]
        return str(self.op("Conv", self.input, self.constant(weights), kernel_shape=[1, 1]))

    def to_sizes(self, sizes: str) -> str:
        return str(
            self.op(
                "Resize",
                self.input,
                "",
                "",
                sizes,
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        )

    def one(self, value: float) -> str:
        return self.constant(np.float32(value))

    def clipped(self, x: str) -> str:
        kind = self.variant.clip
        if kind == "none":
            return x
        low, high = (self.constant(np.array(value, self.dtype)) for value in (0, 1))
        if kind == "clip":
            return str(self.op("Clip", x, low, high))
        if kind == "minmax":
            return str(self.op("Min", self.op("Max", x, low), high))
        return str(self.op("Max", low, self.op("Min", high, x)))


@pytest.fixture
def compact(tmp_path: Path) -> Callable[..., Path]:
    """A maker of networks of the family: ``compact(**variant)`` is the file, ``name`` besides being its own."""

    def make(name: str = "compact", **how: Any) -> Path:
        return CompactGraph(tmp_path / f"{name}.onnx", Variant(**how)).build()

    return make


def computed(path: Path, picture: np.ndarray) -> np.ndarray:
    """What onnxruntime makes of 3 x H x W, all in fp32."""
    model = in_precision(onnx.load(path), np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: picture[np.newaxis].astype(np.float32)})
    return np.asarray(result[0])
