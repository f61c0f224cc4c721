"""How far a convolutional network looks: the input pixels around a point that can change the output there.

The graph is walked from the input on.  For each tensor two exact numbers are kept: its resolution relative to the input
and the radius, in input pixels, that its values depend on.  An operation that mixes places without a bound, or that is
not known here, makes the answer unknown.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import attrs

CUBIC_SUPPORT = 2
LINEAR_SUPPORT = 1

POINTWISE = {
    "Abs", "Add", "Ceiling", "Clamp", "Concat", "Convert", "Divide", "Elu", "Exp", "FakeQuantize", "Floor", "Gelu",
    "HSigmoid", "HSwish", "HardSigmoid", "LeakyRelu", "Log", "Maximum", "Minimum", "Mish", "Multiply", "Negative",
    "PRelu", "Power", "Relu", "Result", "Round", "Selu", "Sigmoid", "SoftPlus", "Split", "Sqrt", "SquaredDifference",
    "Subtract", "Swish", "Tanh", "VariadicSplit", "Select", "Greater", "GreaterEqual", "Less", "LessEqual",
}  # fmt: skip


@attrs.frozen
class Reach:
    """A tensor's resolution relative to the input and how far its values look, in input pixels."""

    resolution: Fraction
    radius: Fraction


def receptive_radius(model: Any) -> int | None:
    """Input pixels that an output pixel's value may depend on in each direction; None if that cannot be told.

    ``model`` is an ``openvino.Model`` with one input, of static shape.
    """
    known: dict[str, Reach | None] = {}
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Parameter":
            known[node.get_friendly_name()] = Reach(Fraction(1), Fraction(0))
            continue
        reaches = [
            known[source.get_friendly_name()]
            for source in (port.get_source_output().get_node() for port in node.inputs())
            if source.get_friendly_name() in known
        ]
        if not reaches:
            continue  # made of constants only
        if kind == "ShapeOf":
            continue  # depends on the size, not on the pixels
        if any(reach is None for reach in reaches):
            return None
        reach = _apply(node, kind, [reach for reach in reaches if reach is not None])
        if reach is None:
            return None
        known[node.get_friendly_name()] = reach
    result = known.get(model.get_results()[0].get_friendly_name())
    return None if result is None else -(-result.radius.numerator // result.radius.denominator)


def _apply(node: Any, kind: str, reaches: list[Reach]) -> Reach | None:
    resolution = reaches[0].resolution
    radius = max(reach.radius for reach in reaches)
    if any(reach.resolution != resolution for reach in reaches):
        return None
    if kind in POINTWISE:
        return Reach(resolution, radius)
    match kind:
        case "Convolution" | "GroupConvolution":
            kernel = list(node.input(1).get_shape())[-2:]
            dilations, strides = node.get_dilations(), node.get_strides()
            grow = max((k - 1) * d for k, d in zip(kernel, dilations, strict=True))
            # Uneven padding can put the whole kernel on one side; counting it all keeps the bound safe.
            even = all(b == e for b, e in zip(node.get_pads_begin(), node.get_pads_end(), strict=True)) and not any(
                (k - 1) * d % 2 for k, d in zip(kernel, dilations, strict=True)
            )
            return _resampled(
                Reach(resolution, radius + Fraction(grow, 2 if even else 1) / resolution),
                Fraction(1, strides[0]),
                strides[0] == strides[1],
            )
        case "ConvolutionBackpropData" | "GroupConvolutionBackpropData":
            kernel = list(node.input(1).get_shape())[-2:]
            strides = node.get_strides()
            grow = -(-max(kernel) // min(strides))
            return _resampled(
                Reach(resolution, radius + Fraction(grow) / resolution), Fraction(strides[0]), strides[0] == strides[1]
            )
        case "MaxPool" | "AvgPool":
            kernel, strides = node.get_kernel(), node.get_strides()
            return _resampled(
                Reach(resolution, radius + Fraction(max(kernel) - 1) / resolution),
                Fraction(1, strides[0]),
                strides[0] == strides[1],
            )
        case "DepthToSpace" | "SpaceToDepth" | "Interpolate":
            before, after = list(node.input(0).get_shape())[2:], list(node.output(0).get_shape())[2:]
            factors = {Fraction(b, a) for a, b in zip(before, after, strict=True)}
            factor = factors.pop()
            grow_by = Fraction(0)
            if kind == "Interpolate":
                mode = str(node.get_attributes().get("mode", "cubic"))
                support = {"nearest": 1, "linear": 1, "linear_onnx": 1}.get(mode, CUBIC_SUPPORT)
                grow_by = support * max(Fraction(1), 1 / factor) / resolution
            elif kind == "SpaceToDepth":
                grow_by = (1 / factor - 1) / resolution
            return _resampled(Reach(resolution, radius + grow_by), factor, not factors)
        case _:
            return None


def _resampled(reach: Reach, factor: Fraction, isotropic: bool) -> Reach | None:
    return Reach(reach.resolution * factor, reach.radius) if isotropic else None
