"""The CPU backend: OpenVINO.  The only module that imports it, with ``resize``.

Every OpenVINO object here belongs to one thread at a time; requests run on OpenVINO's own threads.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import deque
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import openvino as ov
import openvino.frontend as frontend
import openvino.properties as properties
import openvino.properties.hint as hint

from rave_trio import errors
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.catalogue import sha256_of
from rave_trio.inference.graph import input_shape, key, output_shape, sources
from rave_trio.inference.model import CONTRACT, Geometry, ModelLoad, ModelMetadata
from rave_trio.inference.receptive_field import receptive_field
from rave_trio.inference.resize import rewrite_resizes
from rave_trio.inference.tiling import Tile, tiles
from rave_trio.memory import HostPool

PRECISIONS = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16, "fp16": ov.Type.f16}
CAPABILITY = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}

ALIGNMENTS = (1, 2, 4, 8, 16, 32, 64)
"""Multiples that a model may want its input's height and width to be, tried in this order."""

PROBE_SIZE = ALIGNMENTS[-1]
"""Height and width at which a model of free size is asked for its scale."""

UNKNOWN_OVERLAP = 32
"""Input pixels of overlap for a graph whose receptive field cannot be told."""

LARGEST_SHARE = 4
"""At most one part in so many of a tile's side is overlap on each side where all of a model's reach does not fit."""

LONGEST_REASON = 300
"""Characters of OpenVINO's own words in a message."""

NOISE = re.compile(
    r"(Caught exception: )?Exception from \S+"
    r"|Check '.*' failed at \S+"
    r"|FrontEnd API failed with \w+:"
    r"|Loading input model"
    r"|Model wasn't fully converted\..*"
    r"|Summary:"
    r"|While validating .*"
    r"|.* with a message:"
)
"""What OpenVINO's messages contain and a user cannot use."""

READING_FAILURES = (
    frontend.GeneralFailure,
    frontend.InitializationFailure,
    frontend.NotImplementedFailure,
    frontend.OpConversionFailure,
    frontend.OpValidationFailure,
    RuntimeError,
)
"""What OpenVINO raises for a file that it cannot make a model of; they have no base in common."""


@cache
def _core() -> ov.Core:
    return ov.Core()


def native_precisions() -> tuple[str, ...]:
    """Precisions that this CPU computes natively, fastest first."""
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name in ("bf16", "fp16", "fp32") if CAPABILITY[name] in capabilities)


def choose_precision(asked: str) -> str:
    """The precision to run in.  ``auto`` is bf16 where it is native, else fp32.

    Raises PrecisionUnsupported for one that the CPU would only emulate.
    """
    native = native_precisions()
    if asked == "auto":
        return "bf16" if "bf16" in native else "fp32"
    if asked not in native:
        raise errors.PrecisionUnsupported(
            f"this CPU does not compute {asked} natively, only {' and '.join(native)}",
            remedy=f"use --precision {' or '.join(native)}",
        )
    return asked


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
            return _core().compile_model(prepared.build(), "CPU", config)
        except RuntimeError as error:
            raise errors.ModelUnsupported(f"OpenVINO cannot compile {self._path}: {_reason(error)}") from error

    def _read(self) -> ov.Model:
        # The core would try its readers of other formats as well, which complain on stderr.
        reader = frontend.FrontEndManager().load_by_framework("onnx")
        try:
            if not reader.supported(self._path):
                what = "not an ONNX file, or only a part of one" if self._path.stat().st_size else "empty"
                raise errors.ModelBroken(f"{self._path} is {what}")
            return reader.convert(reader.load(self._path))
        except READING_FAILURES as error:
            raise errors.ModelBroken(f"{self._path} cannot be read as ONNX: {_reason(error)}") from error

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

    def _shaped(self, height: int, width: int) -> ov.Model:
        model = self._model.clone()
        channels = model.input(0).get_partial_shape()[1].get_length()
        model.reshape([1, channels, height, width])
        return model


@attrs.define(eq=False)
class _Piece:
    """One tile of one group of channels, as the model wants it (1 x C x h x w), and the request that works on it."""

    group: int
    tile: Tile
    array: npt.NDArray[np.float32]
    request: ov.InferRequest | None = None


@attrs.define(eq=False)
class _Job:
    """A frame on its way: its pieces, and where their results go."""

    frame: Frame
    output: Tensor
    pieces: list[_Piece]

    def close(self) -> None:
        self.output.close()
        self.frame.close()


class OpenVinoBackend:
    """Frames with tensors in, the same frames with larger tensors out, in order.

    :meth:`submit` starts a frame and :meth:`collect` waits for the oldest; up to :attr:`depth` frames may be under way.
    One caller at a time, from any thread.
    """

    def __init__(
        self,
        model: Model,
        geometry: Geometry,
        *,
        precision: str,
        streams: int,
        threads: int,
        pool: HostPool,
    ) -> None:
        self.metadata = model.metadata
        self.depth = depth_for(geometry, streams)
        self._geometry = geometry
        self._pool = pool
        compiled = model.compile(geometry, precision, streams, threads)
        # One request more than there are streams, so that a stream that ends finds the next one waiting.
        self._idle = [compiled.create_infer_request() for _ in range(streams + 1)]
        self._waiting: deque[_Piece] = deque()
        self._jobs: deque[_Job] = deque()

    def submit(self, frame: Frame) -> None:
        """Start on one frame, whose tensor is 3 x H x W; the frame is the backend's until it is collected."""
        source = frame.tensor
        scale = self.metadata.scale
        groups = 3 // self.metadata.input_channels
        shape = (self.metadata.output_channels * groups, source.shape[1] * scale, source.shape[2] * scale)
        pieces = self._pieces(source, groups)
        lease = self._pool.lease(4 * math.prod(shape))
        self._jobs.append(_Job(frame, Tensor(lease.array(shape, np.float32), lease), pieces))
        self._waiting.extend(pieces)
        self._start_waiting()

    def collect(self) -> Frame:
        """The oldest frame under way, with its result.  Blocks until it is there.

        Raises InferenceError if the model failed on it; the frame is closed then.
        """
        job = self._jobs[0]
        try:
            for piece in job.pieces:
                self._finish(piece, job.output)
        except RuntimeError as error:
            self._drop(self._jobs.popleft())
            self._start_waiting()
            raise errors.InferenceError(
                f"model {self.metadata.name} failed on frame {job.frame.index}: {_reason(error)}"
            ) from error
        self._jobs.popleft()
        return job.frame.become(job.output)

    def close(self) -> None:
        """Wait for what runs and drop every frame that was not collected.  Idempotent."""
        while self._jobs:
            self._drop(self._jobs.popleft())

    def _finish(self, piece: _Piece, output: Tensor) -> None:
        """Wait for a piece, put its result in place, and let its request go on with the next one waiting."""
        assert piece.request is not None, "pieces start in order and each makes room for the next"
        assert output.array is not None
        piece.request.wait()
        self._keep(output.array, piece.request.get_output_tensor(0).data[0], piece)
        self._release(piece)
        self._start_waiting()

    def _drop(self, job: _Job) -> None:
        """Give back all that a frame holds, once nothing works on it any more."""
        for piece in job.pieces:
            if piece.request is None:
                continue
            with contextlib.suppress(RuntimeError):
                piece.request.wait()
            self._release(piece)
        self._waiting = deque(piece for piece in self._waiting if piece not in job.pieces)
        job.close()

    def _release(self, piece: _Piece) -> None:
        assert piece.request is not None
        self._idle.append(piece.request)
        piece.request = None

    def _start_waiting(self) -> None:
        while self._waiting and self._idle:
            piece = self._waiting.popleft()
            piece.request = self._idle.pop()
            piece.request.start_async({0: ov.Tensor(piece.array, shared_memory=True)})

    def _pieces(self, source: npt.NDArray[np.float32], groups: int) -> list[_Piece]:
        geometry, channels = self._geometry, self.metadata.input_channels
        height, width = source.shape[1:]
        cuts = list(tiles(height, width, geometry.tile_height, geometry.tile_width, geometry.overlap, geometry.period))
        pieces = []
        for group in range(groups):
            planes = source[group * channels : (group + 1) * channels]
            for tile in cuts:
                rows, columns = tile.rows.start, tile.columns.start
                cut = planes[:, rows : rows + geometry.tile_height, columns : columns + geometry.tile_width]
                pieces.append(_Piece(group, tile, self._padded(cut)[np.newaxis]))
        return pieces

    def _padded(self, piece: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The piece at the tile's full size, its last row and column repeated where the picture is smaller."""
        height, width = piece.shape[1:]
        down, right = self._geometry.tile_height - height, self._geometry.tile_width - width
        if down or right:
            return np.pad(piece, ((0, 0), (0, down), (0, right)), mode="edge")
        return np.ascontiguousarray(piece)

    def _keep(self, output: npt.NDArray[np.float32], result: npt.NDArray[np.float32], piece: _Piece) -> None:
        scale, channels = self.metadata.scale, self.metadata.output_channels
        rows, columns = piece.tile.rows, piece.tile.columns
        output[
            piece.group * channels : (piece.group + 1) * channels,
            rows.keep * scale : rows.end * scale,
            columns.keep * scale : columns.end * scale,
        ] = result[
            :,
            (rows.keep - rows.start) * scale : (rows.end - rows.start) * scale,
            (columns.keep - columns.start) * scale : (columns.end - columns.start) * scale,
        ]


def depth_for(geometry: Geometry, streams: int) -> int:
    """Frames under way at once: one more than the streams, or two where the tiles of one keep them all busy."""
    return streams + 1 if geometry.tiles == 1 else 2


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


def _reason(error: BaseException) -> str:
    """The part of OpenVINO's many-lined messages that says something, on one line."""
    lines = (NOISE.sub("", line).strip(" .").removeprefix("-- ") for line in str(error).splitlines())
    return "; ".join(filter(None, lines))[:LONGEST_REASON] or type(error).__name__
