"""Whether an ONNX graph is a network of the Compact family, told by what it computes and not by names.

From the result back to the input: a clip, a resize, the enlarged input that is added, the pixel shuffle, and the
convolutions with what stands behind each.  All else is refused with the reason.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.inference.compact.graph import Graph, Node, NotCompact
from rave_trio.inference.compact.kernels_protocol import PLANES, Resampling
from rave_trio.inference.compact.net import (
    MOST_FACTOR,
    MOST_FEATURES,
    MOST_TRUNK_LAYERS,
    CompactNet,
    Layer,
    outputs_of,
)
from rave_trio.inference.compact.origins import Places, origins, resize_of, unshuffled
from rave_trio.inference.compact.resampling import CannotResize, Resize

LOOKED_AT = 24
"""Rows and columns at each edge, and as many in between, of which it is looked at where their samples come from."""

ONES = [1, 1]

SUMS = ("Add", "Sum")
CHANGES = ("Add", "Sub", "Mul", "Div")
"""Of which one term may be a constant."""


@attrs.frozen(eq=False)
class _Changed:
    """A value, channel by channel times ``factor`` and plus ``offset``."""

    before: str
    factor: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]

    @property
    def unchanged(self) -> bool:
        return bool(np.all(self.factor == 1) and np.all(self.offset == 0))


@attrs.frozen(eq=False)
class _Shuffle:
    """A pixel shuffle of ``before``; ``order`` is the channel, in there, of plane c's sample (i, j) of a block."""

    before: str
    factor: int
    order: npt.NDArray[np.int64]


def recognised(graph: Graph) -> CompactNet:
    """The network that ``graph`` is.  Raises NotCompact."""
    shape = graph.shape(graph.output)
    if len(shape) != 4 or shape[:2] != (1, PLANES):
        raise NotCompact(f"its result is {'x'.join(map(str, shape))}, not one picture of 3 planes")
    name, clip = _without_clip(graph, graph.peel(graph.output))
    name, resize = _without_resize(graph, name)
    correction, skip = _terms(graph, name)
    changed = _changed(graph, correction, PLANES)
    shuffle = _shuffle(graph, changed.before)
    packed = shuffle.before
    if skip is not None:
        _check_repeats(graph, skip, shuffle.factor, np.arange(PLANES))
    else:
        packed, skip = _terms(graph, packed)
        if skip is not None:
            if not changed.unchanged:
                raise NotCompact("the sum with the enlarged input is changed by a Mul, Div, Add or Sub")
            planes = np.argsort(shuffle.order.reshape(-1)) // shuffle.factor**2
            _check_repeats(graph, skip, 1, planes)
    *layers, tail = _layers(graph, packed)
    net = CompactNet(
        (*layers, _ordered(tail, shuffle, changed)),
        shuffle.factor,
        skip is not None,
        _resampling(resize, shuffle.factor),
        clip,
    )
    _check_sizes(net)
    return net


def _without_clip(graph: Graph, name: str) -> tuple[str, bool]:
    """The value before a clip to [0, 1], and whether there is one."""
    bounds: dict[str, Any] = {}
    while (node := graph.producer(name)) is not None and node.kind in ("Clip", "Min", "Max"):
        (source, *others) = graph.pixels(node)
        if others:
            raise NotCompact(f"a {node.kind} of two pictures")
        if node.kind == "Clip":
            found = {"min": _bound(graph, node, 1, "min"), "max": _bound(graph, node, 2, "max")}
        else:
            kind, at = ("max", "min")[node.kind == "Max"], 1 - node.inputs.index(source)
            found = {kind: graph.input(node, at)}
        for key, value in found.items():
            if value is not None and np.any(bounds.setdefault(key, value) != value):
                raise NotCompact("it is clipped twice, and differently")
        name = graph.peel(source)
    if not bounds:
        return name, False
    if set(bounds) != {"min", "max"} or np.any(bounds["min"] != 0) or np.any(bounds["max"] != 1):
        raise NotCompact("it is clipped, but not to [0, 1]")
    return name, True


def _bound(graph: Graph, node: Node, at: int, name: str) -> Any:
    given = graph.input(node, at)
    return node.get(name, None) if given is None else given


def _without_resize(graph: Graph, name: str) -> tuple[str, Resize | None]:
    """The value before a final resize, and what that does."""
    node = graph.producer(name)
    if node is None or node.kind not in ("Resize", "Upsample"):
        return name, None
    resize = resize_of(graph, node, name)
    return graph.peel(node.inputs[0]), None if resize.ratio == 1 else resize


def _resampling(resize: Resize | None, factor: int) -> Resampling | None:
    if resize is None:
        return None
    try:
        return resize.over(factor)
    except CannotResize as error:
        raise NotCompact(f"it ends in a resize that is not known: {error}") from error


def _terms(graph: Graph, name: str) -> tuple[str, str | None]:
    """The terms of a sum of two pictures, that with the longer way from the input first; or a value alone."""
    node = graph.producer(name)
    if node is None or node.kind not in SUMS or len(graph.pixels(node)) != 2:
        return name, None
    one, other = sorted(map(graph.peel, graph.pixels(node)), key=lambda term: -_depth(graph, term))
    if graph.shape(one) != graph.shape(other):
        raise NotCompact(f"a sum of {graph.shape(one)} and {graph.shape(other)}")
    return one, other


def _depth(graph: Graph, name: str) -> int:
    """How many nodes a value is computed by."""
    seen, waiting = set(), [name]
    while waiting:
        node = graph.producer(waiting.pop())
        if node is not None and id(node) not in seen:
            seen.add(id(node))
            waiting += graph.pixels(node)
    return len(seen)


def _changed(graph: Graph, name: str, channels: int) -> _Changed:
    """What stands before multiplications and additions of constants, each the same for a whole channel."""
    factor, offset = np.ones(channels), np.zeros(channels)
    while True:
        name = graph.peel(name)
        node = graph.producer(name)
        if node is None or node.kind not in CHANGES or len(graph.pixels(node)) != 1:
            return _Changed(name, factor, offset)
        (source,) = graph.pixels(node)
        at = node.inputs.index(source)
        constant = graph.input(node, 1 - at)
        assert constant is not None
        value = _per_channel(constant, channels, node.kind)
        if node.kind == "Mul":
            factor = factor * value
        elif node.kind == "Div":
            if at == 1:
                raise NotCompact("something is divided by pixels")
            factor = factor / value
        elif node.kind == "Add":
            offset = offset + factor * value
        else:
            offset = offset + factor * (value if at == 1 else -value)
            factor = -factor if at == 1 else factor
        name = source


def _per_channel(constant: npt.NDArray[Any], channels: int, kind: str) -> npt.NDArray[np.float64]:
    """A constant that is broadcast to N x C x H x W, for each channel."""
    shape = (1,) * (4 - constant.ndim) + constant.shape
    if constant.ndim > 4 or shape[0] != 1 or shape[1] not in (1, channels) or shape[2:] != (1, 1):
        raise NotCompact(f"a {kind} of a constant of {constant.shape}")
    return np.broadcast_to(constant.reshape(-1), channels).astype(np.float64)


def _shuffle(graph: Graph, name: str) -> _Shuffle:
    """The pixel shuffle that ``name`` is, which may be none at all."""
    shape = graph.shape(name)
    inner, _ = unshuffled(graph, name, np.zeros((1, 4), np.int64))
    before = graph.shape(inner)
    if len(before) != 4 or before[0] != 1 or shape[2] % before[2] or before[1] != PLANES * (shape[2] // before[2]) ** 2:
        raise NotCompact(f"{before} becomes {shape} by other means than a pixel shuffle")
    factor = shape[2] // before[2]
    node = graph.producer(inner)
    if node is None or node.kind not in ("Conv", *SUMS, *CHANGES):
        raise NotCompact(f"{_described(graph, node)} where a 3x3 convolution should be")
    corner = np.stack(np.unravel_index(np.arange(PLANES * factor**2), (1, PLANES, factor, factor)), axis=1)
    order = unshuffled(graph, name, corner)[1][:, 1].reshape(PLANES, factor, factor)
    at = _places(shape)
    n, c, y, x = at.T
    expected = np.column_stack([n, order[c, y % factor, x % factor], y // factor, x // factor])
    if not np.array_equal(unshuffled(graph, name, at)[1], expected):
        raise NotCompact("its pixels are not put where a pixel shuffle puts them")
    return _Shuffle(inner, factor, order)


def _check_repeats(graph: Graph, name: str, factor: int, planes: npt.NDArray[np.int64]) -> None:
    """Raises NotCompact unless each channel of ``name`` is the input's plane of ``planes``, its pixels repeated."""
    at = _places(graph.shape(name))
    n, c, y, x = at.T
    expected = np.column_stack([n, planes[c], y // factor, x // factor])
    if not np.array_equal(origins(graph, name, at), expected):
        raise NotCompact("what is added is not the input with each pixel repeated")


def _places(shape: tuple[int, ...]) -> Places:
    """Samples of all channels: both ends of rows and columns and some in between, each with each."""
    sides = []
    for length in shape[2:]:
        between = np.linspace(0, length - 1, LOOKED_AT).astype(np.int64)
        ends = np.arange(LOOKED_AT)
        sides.append(np.unique(np.clip(np.concatenate([ends, between, length - 1 - ends]), 0, length - 1)))
    grid = np.meshgrid([0], np.arange(shape[1]), *sides, indexing="ij")
    return np.stack([axis.reshape(-1) for axis in grid], axis=1).astype(np.int64)


def _layers(graph: Graph, name: str) -> list[Layer]:
    """All convolutions from the input to ``name``."""
    layers: list[Layer] = []
    while True:
        name = graph.peel(name)
        slope, name = _without_activation(graph, name) if layers else (None, name)
        channels = graph.shape(name)[1]
        changed = _changed(graph, name, channels)
        node = graph.producer(changed.before)
        if node is None or node.kind != "Conv":
            raise NotCompact(f"{_described(graph, node)} where a 3x3 convolution should be")
        weights, bias, before = _convolution(graph, node)
        layers.insert(
            0,
            Layer(
                (weights * changed.factor[:, None, None, None]).astype(np.float32),
                (bias * changed.factor + changed.offset).astype(np.float32),
                slope if slope is None else _slope(slope, channels, graph.shape(name)[3]),
            ),
        )
        if before == graph.source:
            return layers
        name = before


def _described(graph: Graph, node: Node | None) -> str:
    if node is None:
        return "the input"
    if node.kind in ("Add", "Sum", "Mul", "Concat") and len(graph.pixels(node)) > 1:
        return f"a {node.kind} of pictures"
    return f"a {node.kind}"


def _without_activation(graph: Graph, name: str) -> tuple[npt.NDArray[Any], str]:
    """The slopes of an activation, and the value before it."""
    node = graph.producer(name)
    if node is not None and node.kind == "Relu":
        return np.zeros(1), graph.peel(node.inputs[0])
    if node is not None and node.kind == "LeakyRelu":
        return np.array([node.get("alpha", 0.01)]), graph.peel(node.inputs[0])
    if node is not None and node.kind == "PRelu":
        slope = graph.input(node, 1)
        if slope is None:
            raise NotCompact("the slopes of a PRelu are computed")
        return slope, graph.peel(node.inputs[0])
    raise NotCompact(f"{_described(graph, node)} where a PReLU, LeakyReLU or ReLU should be")


def _slope(slope: npt.NDArray[Any], channels: int, width: int) -> npt.NDArray[np.float32]:
    """One slope for each channel; those of one axis are meant so, though ONNX would have them along the columns."""
    if slope.ndim == 1 and slope.size == channels and channels != width:
        return slope.astype(np.float32)
    return _per_channel(slope, channels, "PRelu").astype(np.float32)


def _convolution(graph: Graph, node: Node) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], str]:
    """Weights, bias, and the value before a convolution.  Raises NotCompact unless it is plain, 3x3, of equal size."""
    weights, bias = graph.input(node, 1), graph.input(node, 2)
    if weights is None or (bias is None and len(node.inputs) > 2 and node.inputs[2]):
        raise NotCompact("the weights of a convolution are computed")
    if weights.shape[2:] != (3, 3):
        raise NotCompact(f"a convolution of {'x'.join(map(str, weights.shape[2:]))}")
    if node.get("group", 1) != 1:
        raise NotCompact(f"a convolution in {node.get('group', 1)} groups")
    for name in ("strides", "dilations"):
        if list(node.get(name, ONES)) != ONES:
            raise NotCompact(f"a convolution with {name} of {node.get(name, ONES)}")
    before = graph.peel(node.inputs[0])
    pads = [0] * 4 if node.get("auto_pad", "NOTSET") == "VALID" else list(node.get("pads", [0] * 4))
    if node.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        pads = [1] * 4
    if pads == [0] * 4:
        before = _without_padding(graph, before)
    elif pads != [1] * 4:
        raise NotCompact(f"a convolution with pads of {pads}")
    plain = np.zeros(len(weights)) if bias is None else bias.astype(np.float64)
    return weights.astype(np.float64), plain, before


def _without_padding(graph: Graph, name: str) -> str:
    """The value before zeros were put around it, one on each side."""
    node = graph.producer(name)
    if node is None or node.kind != "Pad":
        raise NotCompact("a convolution that makes its picture smaller")
    pads, value, axes = graph.input(node, 1), graph.input(node, 2), graph.input(node, 3)
    pads = np.array(node.get("pads", [])) if pads is None else pads
    value = np.array(node.get("value", 0.0)) if value is None else value
    expected = [0, 0, 1, 1] * 2 if axes is None else [1] * 4
    if axes is not None and sorted(int(axis) % 4 for axis in axes) != [2, 3]:
        raise NotCompact("a Pad of more than height and width")
    if node.get("mode", "constant") != "constant" or np.any(value != 0) or pads.tolist() != expected:
        raise NotCompact(
            f"a convolution behind a Pad ({node.get('mode', 'constant')}) that is not of zeros, one a side"
        )
    return graph.peel(node.inputs[0])


def _ordered(tail: Layer, shuffle: _Shuffle, changed: _Changed) -> Layer:
    """The last layer with its outputs in PyTorch's order, and with what was done to the planes behind it."""
    order = shuffle.order.reshape(-1)
    if len(tail.bias) != len(order):
        raise NotCompact(f"its last convolution has {len(tail.bias)} outputs, and {len(order)} are shuffled")
    factor, offset = (np.repeat(each, shuffle.factor**2) for each in (changed.factor, changed.offset))
    return Layer(
        (tail.weights[order] * factor[:, None, None, None]).astype(np.float32),
        (tail.bias[order] * factor + offset).astype(np.float32),
    )


def _check_sizes(net: CompactNet) -> None:
    if len(net.layers) < 2:
        raise NotCompact("it has one convolution")
    features, trunk = net.features, net.trunk
    if any(layer.weights.shape[:2] != (features, features) for layer in trunk):
        raise NotCompact("its layers have different numbers of features")
    if features > MOST_FEATURES:
        raise NotCompact(f"it has {features} features, more than {MOST_FEATURES}")
    if len(trunk) > MOST_TRUNK_LAYERS:
        raise NotCompact(f"it has {len(trunk)} layers between head and tail, more than {MOST_TRUNK_LAYERS}")
    if net.factor > MOST_FACTOR:
        raise NotCompact(f"its pixel shuffle enlarges {net.factor} times, more than {MOST_FACTOR}")
    if len(net.layers[-1].bias) != outputs_of(net.factor):
        raise NotCompact("its last convolution has the wrong number of outputs")
    for layer in net.layers:
        arrays = (layer.weights, layer.bias, *([] if layer.slope is None else [layer.slope]))
        if not all(np.isfinite(array).all() for array in arrays):
            raise NotCompact("some of its weights are not finite")
