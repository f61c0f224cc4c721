"""Reading an ONNX file with OpenVINO, holding it to the contract, and compiling it for one shape."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import openvino as ov
import openvino.frontend as frontend
import openvino.properties as properties
import openvino.properties.hint as hint

from rave_trio import errors
from rave_trio.inference.catalogue import sha256_of
from rave_trio.inference.graph import input_shape, key, output_shape, sources
from rave_trio.inference.model import CONTRACT, Geometry, ModelLoad, ModelMetadata
from rave_trio.inference.openvino_runtime import PRECISIONS, core, is_out_of_memory, reason
from rave_trio.inference.receptive_field import keeps_pictures_apart, receptive_field
from rave_trio.inference.resize import rewrite_resizes
from rave_trio.inference.tiling import tiles

ALIGNMENTS = (1, 2, 4, 8, 16, 32, 64)
"""Multiples that a model may want its input's height and width to be, tried in this order."""

PROBE_SIZE = ALIGNMENTS[-1]
"""Height and width at which a model of free size is asked for its scale."""

PROBE_BATCH = 7
"""Pictures with which a model is asked whether it takes several."""

UNKNOWN_OVERLAP = 32
"""Input pixels of overlap for a graph whose receptive field cannot be told."""

LARGEST_SHARE = 4
"""At most one part in so many of a tile's side is overlap on each side where all of a model's reach does not fit."""

READING_FAILURES = (
    frontend.GeneralFailure,
    frontend.InitializationFailure,
    frontend.NotImplementedFailure,
    frontend.OpConversionFailure,
    frontend.OpValidationFailure,
    RuntimeError,
)
"""What OpenVINO raises for a file that it cannot make a model of; they have no base in common."""


class Model:
    """An ONNX file that meets the contract, read but not compiled.  Blocking methods; not thread-safe."""

    def __init__(self, name: str, path: Path) -> None:
        """Read and check the file.  Raises ModelBroken or ModelUnsupported."""
        self._path = path
        self._name = name
        self._model = self._read()
        self.metadata = self._inspect()

    def geometry(self, height: int, width: int, tile: int | None, *, seamless: bool = True) -> Geometry:
        """How frames of ``height`` x ``width`` are applied: whole, or in tiles of at most ``tile`` pixels a side.

        Tiles overlap by what the model's graph can see.  Where a model of fixed size leaves no room for that, or
        ``seamless`` is not asked for, they overlap by as much as there is room for.  Otherwise raises ModelUnsupported.
        """
        data = self.metadata
        if data.height and data.width:
            tile_height, tile_width = data.height, data.width
        else:
            limit = max(self._alignment, tile // self._alignment * self._alignment) if tile else max(height, width)
            tile_height, tile_width = self._fitting(min(height, limit), min(width, limit))
        if tile_height >= height and tile_width >= width:
            return Geometry(tile_height, tile_width, overlap=0, tiles=1, reach=None)
        field = receptive_field(self._shaped(tile_height, tile_width))
        reach = None if field is None else field.radius
        overlap = UNKNOWN_OVERLAP if reach is None else reach
        period = math.lcm(self._alignment, 1 if field is None else field.period)
        if data.height or not seamless:
            overlap = min(overlap, min(tile_height, tile_width) // LARGEST_SHARE)
        try:
            count = sum(1 for _ in tiles(height, width, tile_height, tile_width, overlap, period))
        except ValueError as error:
            raise errors.ModelUnsupported(
                f"model {data.name} looks {overlap} pixels far, too far for tiles of {tile_width}x{tile_height}",
                remedy="use a model of free or larger size" if data.height else "use a larger --tile",
            ) from error
        return Geometry(tile_height, tile_width, overlap, count, reach, period)

    @cached_property
    def takes_batches(self) -> bool:
        """Whether several pictures at once are certain to give what each gives alone, by what the graph says."""
        data = self.metadata
        try:
            several = self._shaped(data.height or PROBE_SIZE, data.width or PROBE_SIZE, PROBE_BATCH)
        except RuntimeError:
            return False
        return keeps_pictures_apart(several)

    def load(self, geometry: Geometry, precision: str) -> ModelLoad:
        """An estimate from the graph: the largest sum of tensors that are alive at the same time, and the weights."""
        return _measure(self._shaped(geometry.tile_height, geometry.tile_width), 4 if precision == "fp32" else 2)

    def compile(self, geometry: Geometry, precision: str, streams: int, threads: int) -> ov.CompiledModel:
        """Compile for one tile shape, float32 in and out, ``streams`` requests in parallel on ``threads`` threads."""
        model = self._shaped(geometry.tile_height, geometry.tile_width)
        rewrite_resizes(model, precision)
        prepared = ov.preprocess.PrePostProcessor(model)
        prepared.input().tensor().set_element_type(ov.Type.f32)
        prepared.output().tensor().set_element_type(ov.Type.f32)
        config = {
            hint.inference_precision(): PRECISIONS[precision],
            hint.execution_mode(): hint.ExecutionMode.ACCURACY
            if precision == "fp32"
            else hint.ExecutionMode.PERFORMANCE,
            properties.num_streams(): streams,
            properties.inference_num_threads(): threads,
        }
        try:
            return core().compile_model(prepared.build(), "CPU", config)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise errors.OutOfMemory(f"OpenVINO found no memory to compile {self._path}") from error
            raise errors.ModelUnsupported(f"OpenVINO cannot compile {self._path}: {reason(error)}") from error

    def _read(self) -> ov.Model:
        # The core would try its readers of other formats as well, which complain on stderr.
        reader = frontend.FrontEndManager().load_by_framework("onnx")
        try:
            if not reader.supported(self._path):
                what = "not an ONNX file, or only a part of one" if self._path.stat().st_size else "empty"
                raise errors.ModelBroken(f"{self._path} is {what}")
            return reader.convert(reader.load(self._path))
        except READING_FAILURES as error:
            raise errors.ModelBroken(f"{self._path} cannot be read as ONNX: {reason(error)}") from error

    def _inspect(self) -> ModelMetadata:
        model, path = self._model, self._path
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise _unsupported(path, f"{len(model.inputs)} inputs and {len(model.outputs)} outputs")
        source, result = model.input(0), model.output(0)
        for port in (source, result):
            if port.get_element_type() not in (ov.Type.f32, ov.Type.f16):
                raise _unsupported(path, f"element type {port.get_element_type().get_type_name()}")
        shape = source.get_partial_shape()
        if shape.rank.is_dynamic or len(shape) != 4:
            raise _unsupported(path, f"input shape {shape}")
        if shape[1].is_dynamic or shape[1].get_length() not in (1, 3):
            raise _unsupported(path, f"input shape {shape}")
        if shape[0].is_static and shape[0].get_length() != 1:
            raise _unsupported(path, f"a fixed batch of {shape[0].get_length()}")
        if shape[2].is_static != shape[3].is_static:
            raise _unsupported(path, f"input shape {shape}, of which only one side is fixed")
        fixed = shape[2].is_static
        height = shape[2].get_length() if fixed else PROBE_SIZE
        width = shape[3].get_length() if fixed else PROBE_SIZE
        output = self._output_shape(height, width)
        if output is None:
            raise _unsupported(path, f"no output for an input of {width}x{height}")
        scale = output[2] // height if height else 0
        channels = shape[1].get_length()
        enlarged = scale > 0 and output[2:] == (height * scale, width * scale)
        if not enlarged or output[0] != 1 or output[1] not in {1, channels}:
            raise _unsupported(path, f"output shape {list(output)} for input shape {[1, channels, height, width]}")
        return ModelMetadata(
            name=self._name,
            path=path,
            sha256=sha256_of(path),
            scale=scale,
            input_name=source.get_any_name(),
            output_name=result.get_any_name(),
            input_channels=channels,
            output_channels=output[1],
            height=height if fixed else None,
            width=width if fixed else None,
        )

    @cached_property
    def _alignment(self) -> int:
        """What height and width have to be multiples of for the model to enlarge them by its scale."""
        if self.metadata.height:
            return 1
        for alignment in ALIGNMENTS:
            # A multiple of this alignment and of none that is tried later.
            if self._enlarges(PROBE_SIZE + alignment, PROBE_SIZE + alignment):
                return alignment
        raise _unsupported(self._path, f"only sizes that are multiples of more than {ALIGNMENTS[-1]}")

    def _fitting(self, height: int, width: int) -> tuple[int, int]:
        """The smallest size from ``height`` x ``width`` up that the model takes."""
        fitting = (-(-height // self._alignment) * self._alignment, -(-width // self._alignment) * self._alignment)
        if not self._enlarges(*fitting):
            raise _unsupported(self._path, f"no output of the right size for an input of {width}x{height}")
        return fitting

    def _enlarges(self, height: int, width: int) -> bool:
        shape, scale = self._output_shape(height, width), self.metadata.scale
        return shape is not None and shape[2:] == (height * scale, width * scale)

    def _output_shape(self, height: int, width: int) -> tuple[int, ...] | None:
        try:
            shape = self._shaped(height, width).output(0).get_partial_shape()
        except RuntimeError:
            return None
        return tuple(shape.to_shape()) if shape.is_static and len(shape) == 4 else None

    def _shaped(self, height: int, width: int, batch: int = 1) -> ov.Model:
        model = self._model.clone()
        channels = model.input(0).get_partial_shape()[1].get_length()
        model.reshape([batch, channels, height, width])
        return model


def _measure(model: ov.Model, value_bytes: int) -> ModelLoad:
    """Walk the graph in order, freeing each tensor after its last reader: the peak is what a request must hold."""
    nodes = model.get_ordered_ops()
    order = [node for node in nodes if node.get_type_name() not in ("Constant", "Result")]
    last_use = {key(source): at for at, node in enumerate(order) for source in sources(node)}
    alive: dict[str, int] = {}
    peak = 0
    for at, node in enumerate(order):
        alive[key(node)] = value_bytes * sum(math.prod(output_shape(node, at)) for at in range(node.get_output_size()))
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last_use.get(name, at) > at}
    weights = value_bytes * sum(math.prod(output_shape(node)) for node in nodes if node.get_type_name() == "Constant")
    return ModelLoad(peak, weights, sum(_flops(node) for node in order))


def _flops(node: Any) -> int:
    """Multiplications and additions of a convolution; the rest is small beside them."""
    kind = node.get_type_name()
    if kind.removesuffix("BackpropData") not in ("Convolution", "GroupConvolution"):
        return 0
    places = input_shape(node, 0) if kind.endswith("BackpropData") else output_shape(node)
    taps = input_shape(node, 1)[2 if kind.startswith("Group") else 1 :]
    return 2 * math.prod(places) * math.prod(taps)


def _unsupported(path: Path, found: str) -> errors.ModelUnsupported:
    return errors.ModelUnsupported(f"{path} is not a model that fits: expected {CONTRACT}; found {found}")
