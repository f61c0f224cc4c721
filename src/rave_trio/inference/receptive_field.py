"""How far a convolutional network looks: the input pixels around a point that can change the output there.

The graph is walked from the input on, one axis at a time.  For each tensor it is known, in exact numbers, how its
elements lie on the input and from where to where each of them looks.  An operation that mixes places without a bound,
or that is not known here, makes the answer unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from typing import Any

import attrs

from rave_trio.inference.graph import constant, input_shape, key, output_shape, resize_ratio, sources

POINTWISE = {
    "Abs", "Add", "BatchNormInference", "Ceiling", "Clamp", "Concat", "Convert", "Divide", "Elu", "Erf", "Exp",
    "FakeQuantize", "Floor", "Gelu", "Greater", "GreaterEqual", "HSigmoid", "HSwish", "HardSigmoid", "LeakyRelu",
    "Less", "LessEqual", "Log", "Maximum", "Minimum", "Mish", "Multiply", "Negative", "PRelu", "Power", "ReduceL2",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Result", "Round", "Select", "Selu", "Sigmoid",
    "Sign", "SoftPlus", "SoftSign", "Split", "Sqrt", "SquaredDifference", "Subtract", "Swish", "Tanh", "VariadicSplit",
}  # fmt: skip
"""Operations that, where they leave height and width alone, mix channels at most."""

SHUFFLES: dict[tuple[int, ...], tuple[int, int]] = {(0, 1, 4, 2, 5, 3): (2, 3), (0, 3, 4, 1, 5, 2): (1, 2)}
"""DepthToSpace as Reshape, Transpose, Reshape: how the six axes are reordered, and which two were the block's."""

UNSHUFFLES: dict[tuple[int, ...], tuple[int, int]] = {(0, 1, 3, 5, 2, 4): (3, 5), (0, 3, 5, 1, 2, 4): (3, 5)}
"""SpaceToDepth likewise."""

HALF = Fraction(1, 2)
LINEAR_SUPPORT, CUBIC_SUPPORT = 1, 2

CENTRES: dict[str, Callable[[int, Fraction], Fraction]] = {
    "asymmetric": lambda pixel, ratio: pixel / ratio,
    "half_pixel": lambda pixel, ratio: (pixel + HALF) / ratio - HALF,
    "pytorch_half_pixel": lambda pixel, ratio: (pixel + HALF) / ratio - HALF,
    "tf_half_pixel_for_nn": lambda pixel, ratio: (pixel + HALF) / ratio,
}
"""Where an output pixel of a resize lies on what it reads.  With aligned corners that depends on the whole size."""

ROUNDINGS: dict[str, Callable[[Fraction, Fraction], int]] = {
    "ceil": lambda place, _: math.ceil(place),
    "floor": lambda place, _: math.floor(place),
    "round_prefer_ceil": lambda place, _: math.floor(place + HALF),
    "round_prefer_floor": lambda place, _: math.ceil(place - HALF),
    "simple": lambda place, ratio: math.floor(place) if ratio >= 1 else math.ceil(place),
}
"""Which pixel is the nearest one."""


@attrs.frozen
class ReceptiveField:
    """What tiles must respect, in input pixels.

    An output pixel depends on nothing farther than ``radius`` from the input pixel that it lies in.  An input moved by
    a multiple of ``period`` gives the same output, moved; by anything else it may give another one.
    """

    radius: int
    period: int


@attrs.frozen
class _View:
    """Element i of a tensor looks at input pixels i / resolution + first to i / resolution + last."""

    resolution: Fraction = Fraction(1)
    first: Fraction = Fraction(0)
    last: Fraction = Fraction(0)

    def through(self, reads: _Reads) -> _View:
        """The view that an operation's result has on the input."""
        return _View(
            self.resolution / reads.stride,
            self.first + reads.first / self.resolution,
            self.last + reads.last / self.resolution,
        )


@attrs.frozen
class _Reads:
    """Element i of an operation's result needs elements i * stride + first to i * stride + last of what it reads."""

    stride: Fraction = Fraction(1)
    first: Fraction = Fraction(0)
    last: Fraction = Fraction(0)


def receptive_field(model: Any) -> ReceptiveField | None:
    """The field of an ``openvino.Model`` with one input N x C x H x W, of static shape; None if it cannot be told."""
    fields = [_along(model, axis) for axis in (2, 3)]
    known = [field for field in fields if field is not None]
    if len(known) < len(fields):
        return None
    return ReceptiveField(max(field.radius for field in known), math.lcm(*(field.period for field in known)))


def keeps_pictures_apart(model: Any) -> bool:
    """Whether a model whose input has several pictures has them along the first axis all the way, and no operation
    that may mix them.  The number of pictures should be that of nothing else in the graph.
    """
    if receptive_field(model) is None:
        return False
    pictures = model.input(0).get_shape()[0]
    touched: set[str] = set()
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind != "Parameter" and (kind == "ShapeOf" or not touched.intersection(map(key, sources(node)))):
            continue
        touched.add(key(node))
        if any(output_shape(node, at)[:1] != (pictures,) for at in range(node.get_output_size())):
            return False
    return True


def _along(model: Any, axis: int) -> ReceptiveField | None:
    views: dict[str, _View | None] = {}
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Parameter":
            views[key(node)] = _View()
            continue
        seen = {at: views[key(source)] for at, source in enumerate(_read_by(node)) if key(source) in views}
        # What is made of constants, or of sizes, depends on no pixel.
        if seen and kind != "ShapeOf":
            view, reads = _joined(seen.values()), _reads(node, axis, seen)
            views[key(node)] = None if view is None or reads is None else view.through(reads)
    view = views.get(key(model.get_results()[0]))
    scale = Fraction(model.output(0).get_shape()[axis], model.input(0).get_shape()[axis])
    if view is None or view.resolution != scale or scale.denominator > 1:
        return None
    # The last output pixel that lies in an input pixel is (scale - 1) / scale to the right of the first one.
    radius = max(math.floor(view.last + 1 - 1 / scale), -math.ceil(view.first))
    return ReceptiveField(radius, math.lcm(*(view.resolution.denominator for view in views.values() if view)))


def _joined(views: Collection[_View | None]) -> _View | None:
    known = [view for view in views if view is not None]
    if len(known) < len(views) or len({view.resolution for view in known}) > 1:
        return None
    return _View(known[0].resolution, min(view.first for view in known), max(view.last for view in known))


def _read_by(node: Any) -> list[Any]:
    """The nodes that ``node`` reads; for the end of a shuffle written as three operations, what the first one reads."""
    return sources(node) if _shuffled_by(node) is None else sources(sources(sources(node)[0])[0])[:1]


def _reads(node: Any, axis: int, inputs: Collection[int]) -> _Reads | None:
    """What one operation reads along one axis of those ``inputs`` that depend on pixels; None if unknown."""
    if (factor := _shuffled_by(node)) is not None:
        return _shuffle(factor)
    shapes = [input_shape(node, at) for at in inputs] + [output_shape(node, at) for at in range(node.get_output_size())]
    if any(len(shape) != 4 for shape in shapes):
        return None
    match node.get_type_name():
        case "Convolution" | "GroupConvolution":
            kernel, dilation = input_shape(node, 1)[axis - 4], node.get_dilations()[axis - 2]
            return _window(node, axis, (kernel - 1) * dilation)
        case "MaxPool" | "AvgPool":
            dilations = node.get_attributes().get("dilations", [1, 1])
            return _window(node, axis, (node.get_kernel()[axis - 2] - 1) * dilations[axis - 2])
        case "ConvolutionBackpropData" | "GroupConvolutionBackpropData":
            reach = (input_shape(node, 1)[axis - 4] - 1) * node.get_dilations()[axis - 2]
            stride, pad = node.get_strides()[axis - 2], node.get_pads_begin()[axis - 2]
            return _Reads(Fraction(1, stride), Fraction(pad - reach, stride), Fraction(pad, stride))
        case "DepthToSpace":
            return _shuffle(Fraction(node.get_attributes()["block_size"]))
        case "SpaceToDepth":
            return _shuffle(Fraction(1, node.get_attributes()["block_size"]))
        case "Pad":
            before = constant(node, 1)
            return None if before is None else _Reads(Fraction(1), *(Fraction(-int(before[axis])),) * 2)
        case "Interpolate":
            return _resize(node, axis)
        case kind:
            same_places = len({shape[2:] for shape in shapes}) == 1
            return _Reads() if kind in POINTWISE and same_places else None


def _window(node: Any, axis: int, reach: int) -> _Reads:
    stride, pad = node.get_strides()[axis - 2], node.get_pads_begin()[axis - 2]
    return _Reads(Fraction(stride), Fraction(-pad), Fraction(reach - pad))


def _shuffle(factor: Fraction) -> _Reads:
    """Blocks of channels become blocks of places, or the other way round where ``factor`` is below 1."""
    if factor >= 1:
        return _Reads(1 / factor, 1 / factor - 1, Fraction(0))
    return _Reads(1 / factor, Fraction(0), 1 / factor - 1)


def _shuffled_by(node: Any) -> Fraction | None:
    """The factor of a DepthToSpace (above 1) or SpaceToDepth (below) that ``node`` is the last of three steps of."""
    steps = [node]
    for kind in ("Reshape", "Transpose", "Reshape"):
        if steps[-1].get_type_name() != kind:
            return None
        steps.append(sources(steps[-1])[0])
    last, transpose, first, _ = steps
    before, split, after = input_shape(first, 0), output_shape(first), output_shape(last)
    order = tuple(int(axis) for axis in constant(transpose, 1) or ())
    blocks = SHUFFLES.get(order) or UNSHUFFLES.get(order)
    if blocks is None or len(before) != 4 or len(split) != 6 or len(after) != 4:
        return None
    block = split[blocks[0]]
    factor = Fraction(block) if order in SHUFFLES else Fraction(1, block)
    whole = split[blocks[1]] == block and all(after[axis] == before[axis] * factor for axis in (2, 3))
    return factor if whole else None


def _resize(node: Any, axis: int) -> _Reads | None:
    how, ratio = node.get_attributes(), resize_ratio(node, axis)
    centre = CENTRES.get(how["coordinate_transformation_mode"])
    if ratio is None or centre is None:
        return None
    # The places repeat after as many output pixels as the numerator says.
    read = [_neighbours(how, centre(pixel, ratio), ratio) for pixel in range(ratio.numerator)]
    return _Reads(
        1 / ratio,
        min(first - pixel / ratio for pixel, (first, _) in enumerate(read)),
        max(last - pixel / ratio for pixel, (_, last) in enumerate(read)),
    )


def _neighbours(how: Mapping[str, Any], place: Fraction, ratio: Fraction) -> tuple[int, int]:
    """The first and the last pixel that a resize reads for an output pixel that lies at ``place``."""
    mode = how["mode"]
    if mode == "nearest":
        nearest = ROUNDINGS[how["nearest_mode"]](place, ratio)
        return nearest, nearest
    support = Fraction(CUBIC_SUPPORT if "cubic" in mode else LINEAR_SUPPORT)
    if how["antialias"] or mode.endswith("pillow"):
        support *= max(Fraction(1), 1 / ratio)
    return math.floor(place - support) + 1, math.ceil(place + support) - 1
