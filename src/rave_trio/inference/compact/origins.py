"""Which sample of the input each sample of a value repeats, for values that only copy.

Exporters write "enlarge by nearest neighbour" in many ways; this asks what comes out rather than how it is written.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from rave_trio.inference.compact.graph import SHAPING, Graph, Node, NotCompact
from rave_trio.inference.compact.resampling import ROUNDINGS, WHERE, Resize

Places = npt.NDArray[np.int64]
"""Coordinates, one row each, as many columns as the value has axes."""

ORDERING = {*SHAPING, "Transpose", "DepthToSpace"}
"""Operators that keep all samples."""

SCALE_TOLERANCE = 1e-6
"""Scales are stored as float32."""


def origins(graph: Graph, name: str, at: Places) -> Places:
    """Where in the input the samples ``at`` of value ``name`` come from.  Raises NotCompact where it does not copy."""
    while name != graph.source:
        node = graph.producer(name)
        if node is None:
            raise NotCompact("what is added does not come from the input")
        if node.kind == "Concat":
            return _joined(graph, node, at)
        at = _before(graph, node, name, at)
        name = node.inputs[0]
    return at


def unshuffled(graph: Graph, name: str, at: Places) -> tuple[str, Places]:
    """The value of which ``name`` is the samples in another order, and where in it the samples ``at`` come from."""
    while (node := graph.producer(name)) is not None and (node.kind in ORDERING or graph.keeps(node, name)):
        at = _before(graph, node, name, at)
        name = node.inputs[0]
    return name, at


def _joined(graph: Graph, node: Node, at: Places) -> Places:
    axis = node.get("axis", 1) % at.shape[1]
    result = np.empty((len(at), len(graph.shape(graph.source))), np.int64)
    begin = 0
    for name in node.inputs:
        length = graph.shape(name)[axis]
        here = (at[:, axis] >= begin) & (at[:, axis] < begin + length)
        if here.any():
            inside = at[here].copy()
            inside[:, axis] -= begin
            result[here] = origins(graph, name, inside)
        begin += length
    return result


def _before(graph: Graph, node: Node, name: str, at: Places) -> Places:
    """The same before ``node``."""
    if graph.keeps(node, name):
        return at
    source = graph.shape(node.inputs[0]) if node.inputs and node.inputs[0] else ()
    if node.kind in SHAPING:
        return np.stack(np.unravel_index(np.ravel_multi_index(tuple(at.T), graph.shape(name)), source), axis=1)
    if node.kind == "Transpose":
        order = node.get("perm", list(reversed(range(len(source)))))
        return at[:, np.argsort(order)]
    if node.kind == "Expand":
        return np.where(np.array(source) == 1, 0, at[:, at.shape[1] - len(source) :])
    if node.kind == "Tile":
        return at % np.array(source, np.int64)
    if node.kind == "Gather":
        return _gathered(graph, node, at, source)
    if node.kind == "Slice":
        return _sliced(graph, node, at, source)
    if node.kind == "DepthToSpace":
        return _from_depth(node, at, source)
    if node.kind in ("Resize", "Upsample"):
        return _repeated(graph, node, name, at, source)
    if node.kind == "Conv":
        return _convolved(graph, node, at, source)
    if node.kind == "ConvTranspose":
        return _spread(graph, node, at, source)
    raise NotCompact(f"what is added is changed by a {node.kind}")


def _gathered(graph: Graph, node: Node, at: Places, source: tuple[int, ...]) -> Places:
    axis = node.get("axis", 0) % len(source)
    indices = graph.input(node, 1)
    if indices is None:
        raise NotCompact("a Gather depends on pixels")
    chosen = indices[tuple(at[:, axis + n] for n in range(indices.ndim))] % source[axis]
    return np.column_stack([at[:, :axis], chosen, at[:, axis + indices.ndim :]])


def _sliced(graph: Graph, node: Node, at: Places, source: tuple[int, ...]) -> Places:
    names = ("starts", "ends", "axes", "steps")
    given = [graph.input(node, n) if len(node.inputs) > 1 else node.get(name, None) for n, name in enumerate(names, 1)]
    starts, ends = given[0], given[1]
    if starts is None or ends is None:
        raise NotCompact("a Slice depends on pixels")
    axes = range(len(starts)) if given[2] is None else given[2]
    steps = [1] * len(starts) if given[3] is None else given[3]
    at = at.copy()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        begin, _, stride = slice(int(start), int(end), int(step)).indices(source[int(axis)])
        at[:, int(axis)] = begin + at[:, int(axis)] * stride
    return at


def _from_depth(node: Node, at: Places, source: tuple[int, ...]) -> Places:
    block, planes = node.get("blocksize", 1), source[1] // node.get("blocksize", 1) ** 2
    n, c, y, x = at.T
    inside = y % block * block + x % block
    channel = c * block**2 + inside if node.get("mode", "DCR") == "CRD" else inside * planes + c
    return np.column_stack([n, channel, y // block, x // block])


def resize_of(graph: Graph, node: Node, name: str) -> Resize:
    """What a Resize or Upsample does to height and width.  Raises NotCompact if that is not all, or depends on more."""
    before, after = graph.shape(node.inputs[0]), graph.shape(name)
    if len(before) != 4 or before[:2] != after[:2]:
        raise NotCompact(f"a {node.kind} of {before} to {after}")
    ratio = Fraction(after[2], before[2])
    if Fraction(after[3], before[3]) != ratio:
        raise NotCompact(f"a {node.kind} changes height and width differently, {before} to {after}")
    scales = _scales(graph, node)
    if scales is not None and not np.allclose(scales[-2:], float(ratio), rtol=SCALE_TOLERANCE, atol=0):
        raise NotCompact(f"a {node.kind} by {', '.join(map(str, scales[-2:]))} leaves a part of a pixel")
    if node.get("antialias", 0) or node.get("exclude_outside", 0):
        raise NotCompact(f"a {node.kind} with {'antialias' if node.get('antialias', 0) else 'exclude_outside'}")
    if _is_early(node):
        return Resize(ratio, node.get("mode", "nearest"), "asymmetric", "floor")
    where = node.get("coordinate_transformation_mode", "half_pixel")
    if where not in WHERE:
        raise NotCompact(f"a {node.kind} with coordinates {where}")
    rounding = node.get("nearest_mode", "round_prefer_floor")
    if rounding not in ROUNDINGS:
        raise NotCompact(f"a {node.kind} with nearest_mode {rounding}")
    return Resize(ratio, node.get("mode", "nearest"), where, rounding, node.get("cubic_coeff_a", -0.75))


def _repeated(graph: Graph, node: Node, name: str, at: Places, source: tuple[int, ...]) -> Places:
    resize = resize_of(graph, node, name)
    if resize.mode != "nearest":
        raise NotCompact(f"what is added is enlarged by {resize.mode} interpolation")
    at = at.copy()
    for axis in (2, 3):
        rows, back = np.unique(at[:, axis], return_inverse=True)
        nearest = np.array([resize.nearest(int(row)) for row in rows])
        at[:, axis] = np.clip(nearest, 0, source[axis] - 1)[back]
    return at


def _convolved(graph: Graph, node: Node, at: Places, source: tuple[int, ...]) -> Places:
    """Of a convolution that picks one sample for each."""
    weights, group, pads = _copying(graph, node), node.get("group", 1), node.get("pads", [0, 0, 0, 0])
    if list(node.get("strides", [1, 1])) != [1, 1] or node.get("auto_pad", "NOTSET") != "NOTSET":
        raise NotCompact("what is added is convolved")
    outputs, inputs = weights.shape[:2]
    which = np.argmax(weights.reshape(outputs, -1), axis=1)
    channel, ky, kx = np.unravel_index(which, weights.shape[1:])
    if not (np.count_nonzero(weights.reshape(outputs, -1), axis=1) == 1).all():
        raise NotCompact("what is added is convolved")
    dilations = node.get("dilations", [1, 1])
    n, c, y, x = at.T
    found = np.column_stack(
        [
            n,
            c // (outputs // group) * inputs + channel[c],
            y + ky[c] * dilations[0] - pads[0],
            x + kx[c] * dilations[1] - pads[1],
        ]
    )
    return _inside(found, source)


def _spread(graph: Graph, node: Node, at: Places, source: tuple[int, ...]) -> Places:
    """Of a transposed convolution whose kernels lie side by side."""
    weights, group = _copying(graph, node), node.get("group", 1)
    size = weights.shape[2:]
    plain = all(
        list(node.get(name, default)) == default
        for name, default in (("dilations", [1, 1]), ("output_padding", [0, 0]), ("pads", [0, 0, 0, 0]))
    )
    if tuple(node.get("strides", [1, 1])) != size or not plain or node.get("auto_pad", "NOTSET") != "NOTSET":
        raise NotCompact("what is added is convolved")
    inputs, outputs = weights.shape[0] // group, weights.shape[1]
    grouped = weights.reshape(group, inputs, outputs, *size)
    if not (np.count_nonzero(grouped, axis=1) == 1).all():
        raise NotCompact("what is added is convolved")
    which = np.argmax(grouped, axis=1)
    n, c, y, x = at.T
    channel = c // outputs * inputs + which[c // outputs, c % outputs, y % size[0], x % size[1]]
    return _inside(np.column_stack([n, channel, y // size[0], x // size[1]]), source)


def _copying(graph: Graph, node: Node) -> npt.NDArray[Any]:
    """The weights, zeros and ones, of a convolution without a bias."""
    weights, bias = graph.input(node, 1), graph.input(node, 2)
    if (
        weights is None
        or weights.ndim != 4
        or not np.isin(weights, (0, 1)).all()
        or np.any(0 if bias is None else bias)
    ):
        raise NotCompact("what is added is convolved")
    return weights


def _inside(at: Places, shape: tuple[int, ...]) -> Places:
    if ((at < 0) | (at >= np.array(shape))).any():
        raise NotCompact("what is added is moved")
    return at


def _scales(graph: Graph, node: Node) -> npt.NDArray[Any] | None:
    """The scales that an enlargement was given, if it was given any."""
    if "scales" in node.attributes:
        return np.array(node.attributes["scales"])
    at = 1 if _is_early(node) else 2
    scales = graph.input(node, at)
    return scales if scales is not None and scales.size else None


def _is_early(node: Node) -> bool:
    """Whether it is of a version before 11, which have no coordinates to choose; only those have two inputs."""
    return node.kind == "Upsample" or len(node.inputs) == 2
