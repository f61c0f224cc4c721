"""Reading the nodes of an ``openvino.Model`` whose input has a static shape, without importing OpenVINO."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

SCALE_TOLERANCE = 1e-6
"""Scales are stored as float32."""


def key(node: Any) -> str:
    """What tells a node from all others.  A friendly name does not: it is the file's, which may repeat it."""
    name: str = node.get_name()
    return name


def sources(node: Any) -> list[Any]:
    """The nodes whose results ``node`` reads, in the order of its inputs."""
    return [port.get_source_output().get_node() for port in node.inputs()]


def input_shape(node: Any, at: int) -> tuple[int, ...]:
    """The shape of input ``at``; empty if it depends on the pixels."""
    return _static(node.input(at).get_partial_shape())


def output_shape(node: Any, at: int = 0) -> tuple[int, ...]:
    """The shape of output ``at``; empty if it depends on the pixels."""
    return _static(node.output(at).get_partial_shape())


def _static(shape: Any) -> tuple[int, ...]:
    return tuple(shape.to_shape()) if shape.is_static else ()


def constant(node: Any, at: int) -> list[Any] | None:
    """The values of input ``at``, flat; None if it is not a constant or not there."""
    if at >= node.get_input_size():
        return None
    source = node.input_value(at).get_node()
    return list(source.get_data().flatten()) if source.get_type_name() == "Constant" else None


def resize_ratio(node: Any, axis: int) -> Fraction | None:
    """By how much an Interpolate enlarges ``axis``, if its pixels' places follow from the sizes alone; else None."""
    how = node.get_attributes()
    before, after = input_shape(node, 0), output_shape(node)
    if len(before) != 4 or len(after) != 4 or any(how["pads_begin"]) or any(how["pads_end"]):
        return None
    ratio = Fraction(after[axis], before[axis])
    if how["shape_calculation_mode"] == "scales":
        scales = constant(node, 1)
        # Scales may be given for all axes or for the last two.
        if scales is None or not math.isclose(scales[axis - 4], ratio, rel_tol=SCALE_TOLERANCE):
            return None
    return ratio
