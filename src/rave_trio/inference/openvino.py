"""The CPU backend: OpenVINO.  The only module that imports it.

Every OpenVINO object here belongs to one thread at a time; requests run on OpenVINO's own threads.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from functools import cache
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt
import openvino as ov
import openvino.properties as properties
import openvino.properties.hint as hint

from rave_trio import errors
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.catalogue import sha256_of
from rave_trio.inference.model import CONTRACT, Geometry, ModelLoad, ModelMetadata
from rave_trio.inference.receptive_field import receptive_radius
from rave_trio.inference.tiling import Tile, tiles
from rave_trio.memory import HostPool

PRECISIONS = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16, "fp16": ov.Type.f16}
CAPABILITY = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}

PROBE_SIZE = 64
"""Height and width at which a model of free size is asked for its scale."""

ALIGNMENTS = (1, 2, 4, 8, 16, 32, 64)
"""Multiples that a model may want its input to have, tried in this order."""

UNKNOWN_OVERLAP = 32
"""Input pixels of overlap for a graph whose receptive field cannot be told."""


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

    def geometry(self, height: int, width: int, tile: int | None) -> Geometry:
        """How frames of ``height`` x ``width`` are applied: whole, or in tiles of at most ``tile`` pixels a side."""
        data = self.metadata
        if data.height and data.width:
            tile_height, tile_width = data.height, data.width
        else:
            limit = tile or max(height, width)
            tile_height, tile_width = self._fitting(min(height, limit), min(width, limit))
        if tile_height >= height and tile_width >= width:
            return Geometry(tile_height, tile_width, overlap=0, tiles=1)
        shaped = self._shaped(tile_height, tile_width)
        radius = receptive_radius(shaped)
        overlap = UNKNOWN_OVERLAP if radius is None else radius
        try:
            count = sum(1 for _ in tiles(height, width, tile_height, tile_width, overlap))
        except ValueError as error:
            raise errors.ModelUnsupported(
                f"model {data.name} looks {overlap} pixels far, too far for tiles of {tile_width}x{tile_height}",
                remedy="use a larger --tile" if tile else "use a model of free or larger size",
            ) from error
        return Geometry(tile_height, tile_width, overlap, count, overlap_known=radius is not None)

    def load(self, geometry: Geometry, precision: str) -> ModelLoad:
        """An estimate from the graph: the largest sum of tensors that are alive at the same time, and the weights."""
        return _measure(self._shaped(geometry.tile_height, geometry.tile_width), 4 if precision == "fp32" else 2)

    def compile(self, geometry: Geometry, precision: str, streams: int, threads: int) -> ov.CompiledModel:
        """Compile for one tile shape, float32 in and out, ``streams`` requests in parallel on ``threads`` threads."""
        prepared = ov.preprocess.PrePostProcessor(self._shaped(geometry.tile_height, geometry.tile_width))
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
            raise errors.ModelUnsupported(f"OpenVINO cannot compile {self._path}: {_first_line(error)}") from error

    def _read(self) -> ov.Model:
        try:
            return _core().read_model(self._path)
        except RuntimeError as error:
            raise errors.ModelBroken(f"{self._path} cannot be read as ONNX: {_first_line(error)}") from error

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
            raise _unsupported(path, f"no output shape for an input of {width}x{height}")
        scale = output[2] // height if height else 0
        if output[0] != 1 or output[1] not in (1, 3) or output[2:] != (height * scale, width * scale) or not scale:
            raise _unsupported(path, f"output shape {list(output)} for input 1x{shape[1]}x{height}x{width}")
        return ModelMetadata(
            name=self._name,
            path=path,
            sha256=sha256_of(path),
            scale=scale,
            input_name=source.get_any_name(),
            output_name=result.get_any_name(),
            input_channels=shape[1].get_length(),
            output_channels=output[1],
            height=height if fixed else None,
            width=width if fixed else None,
        )

    def _fitting(self, height: int, width: int) -> tuple[int, int]:
        """The smallest size from ``height`` x ``width`` up that the model takes and enlarges by its scale."""
        for alignment in ALIGNMENTS:
            h, w = (-(-side // alignment) * alignment for side in (height, width))
            shape = self._output_shape(h, w)
            if shape is not None and shape[2:] == (h * self.metadata.scale, w * self.metadata.scale):
                return h, w
        raise _unsupported(self._path, f"no output of the right size for an input of {width}x{height}")

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
        # One request more than there are streams, so that a stream that ends finds the next one waiting.
        self.depth = depth_for(geometry, streams)
        self._geometry = geometry
        self._pool = pool
        compiled = model.compile(geometry, precision, streams, threads)
        self._idle = [compiled.create_infer_request() for _ in range(streams + 1)]
        self._waiting: deque[_Piece] = deque()
        self._jobs: deque[_Job] = deque()

    def submit(self, frame: Frame) -> None:
        """Start on one frame, whose tensor is 3 x H x W; the frame is the backend's until it is collected."""
        source = frame.tensor
        scale = self.metadata.scale
        groups = 3 // self.metadata.input_channels
        shape = (self.metadata.output_channels * groups, source.shape[1] * scale, source.shape[2] * scale)
        lease = self._pool.lease(4 * math.prod(shape))
        job = _Job(frame, Tensor(lease.array(shape, np.float32), lease), self._pieces(source, groups))
        self._jobs.append(job)
        self._waiting.extend(job.pieces)
        self._start_waiting()

    def collect(self) -> Frame:
        """The oldest frame under way, with its result.  Blocks until it is there.

        Raises InferenceError if the model failed on it; the frame is closed then.
        """
        job = self._jobs.popleft()
        assert job.output.array is not None
        try:
            for piece in job.pieces:
                assert piece.request is not None, "pieces start in order and each makes room for the next"
                piece.request.wait()
                self._keep(job.output.array, piece.request.get_output_tensor(0).data[0], piece)
                self._idle.append(piece.request)
                self._start_waiting()
        except RuntimeError as error:
            job.close()
            raise errors.InferenceError(
                f"model {self.metadata.name} failed on frame {job.frame.index}: {_first_line(error)}"
            ) from error
        return job.frame.become(job.output)

    def close(self) -> None:
        """Wait for what runs and drop every frame that was not collected.  Idempotent."""
        self._waiting.clear()
        while self._jobs:
            job = self._jobs.popleft()
            for piece in job.pieces:
                if piece.request is not None:
                    with contextlib.suppress(RuntimeError):
                        piece.request.wait()
            job.close()

    def _start_waiting(self) -> None:
        while self._waiting and self._idle:
            piece = self._waiting.popleft()
            piece.request = self._idle.pop()
            piece.request.start_async({0: ov.Tensor(piece.array, shared_memory=True)})

    def _pieces(self, source: npt.NDArray[np.float32], groups: int) -> list[_Piece]:
        geometry, channels = self._geometry, self.metadata.input_channels
        height, width = source.shape[1:]
        cuts = list(tiles(height, width, geometry.tile_height, geometry.tile_width, geometry.overlap))
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
        down = self._geometry.tile_height - piece.shape[1]
        right = self._geometry.tile_width - piece.shape[2]
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
    order = [node for node in model.get_ordered_ops() if node.get_type_name() not in ("Constant", "Result")]
    last_use: dict[str, int] = {}
    for at, node in enumerate(order):
        for port in node.inputs():
            last_use[port.get_source_output().get_node().get_friendly_name()] = at
    alive: dict[str, int] = {}
    peak = flops = 0
    for at, node in enumerate(order):
        alive[node.get_friendly_name()] = value_bytes * sum(math.prod(o.get_shape()) for o in node.outputs())
        peak = max(peak, sum(alive.values()))
        for name in [name for name in alive if last_use.get(name, at) <= at]:
            del alive[name]
        if node.get_type_name() == "Convolution":
            flops += 2 * math.prod(node.output(0).get_shape()) * math.prod(node.input(1).get_shape()[1:])
    weights = sum(
        value_bytes * math.prod(node.output(0).get_shape())
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Constant"
    )
    return ModelLoad(peak, weights, flops)


def _unsupported(path: Path, found: str) -> errors.ModelUnsupported:
    return errors.ModelUnsupported(f"{path} is not a model that fits: expected {CONTRACT}; found {found}")


def _first_line(error: BaseException) -> str:
    """The part of OpenVINO's many-lined messages that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[0][:200]
