"""Making an ONNX file ready for a library that runs it as it stands: one shape, one precision, in memory."""

from __future__ import annotations

import numpy.typing as npt
import onnx

from rave_trio import errors
from rave_trio.inference.model import Geometry, ModelMetadata
from rave_trio.inference.onnx_precision import NoSchema, in_precision

CONSTANT_INITIALIZERS = 4
"""From this IR version on, weights that are not listed as inputs are constants."""


def prepared(metadata: ModelMetadata, geometry: Geometry, dtype: npt.DTypeLike, batch: int = 1) -> bytes:
    """The model as an ONNX file of input batch x C x tile height x tile width and ``dtype`` (float32 or float16).

    Made anew each time and kept nowhere: it takes about 15 ms for the shipped models, less from the second on.  Raises
    ModelUnsupported for what the ONNX standard does not describe.
    """
    path = metadata.path
    try:
        model: bytes = in_precision(_fixed(onnx.load(path), metadata, geometry, batch), dtype).SerializeToString()
        return model
    except NoSchema as error:
        raise errors.ModelUnsupported(f"{path} cannot be computed in another precision: {error}") from error
    except onnx.shape_inference.InferenceError as error:
        raise errors.ModelUnsupported(f"{path} contradicts itself: {error}") from error


def _fixed(model: onnx.ModelProto, metadata: ModelMetadata, geometry: Geometry, batch: int) -> onnx.ModelProto:
    """The model, changed in place: its one input of fixed shape, its weights constant, all other shapes left open."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    (source,) = [value for value in graph.input if value.name not in weights]
    shape = (batch, metadata.input_channels, geometry.tile_height, geometry.tile_width)
    for dimension, size in zip(source.type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = size
    del graph.input[:]
    graph.input.append(source)
    model.ir_version = max(model.ir_version, CONSTANT_INITIALIZERS)
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    return model
