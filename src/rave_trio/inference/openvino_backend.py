"""The CPU backend: frames through a compiled OpenVINO model.

Every OpenVINO object here belongs to one thread at a time; requests run on OpenVINO's own threads.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque

import attrs
import numpy as np
import numpy.typing as npt
import openvino as ov

from rave_trio import errors
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.model import Geometry
from rave_trio.inference.openvino_model import Model
from rave_trio.inference.openvino_runtime import is_out_of_memory, reason
from rave_trio.inference.tiling import Tile, tiles
from rave_trio.memory import HostPool


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

        Raises InferenceError if the model failed on it, OutOfMemory if it found no memory; the frame is closed then.
        """
        job = self._jobs[0]
        try:
            for piece in job.pieces:
                self._finish(piece, job.output)
        except RuntimeError as error:
            self._drop(self._jobs.popleft())
            self._start_waiting()
            if is_out_of_memory(error):
                raise errors.OutOfMemory(
                    f"model {self.metadata.name} found no memory for frame {job.frame.index}: {reason(error)}"
                ) from error
            raise errors.InferenceError(
                f"model {self.metadata.name} failed on frame {job.frame.index}: {reason(error)}"
            ) from error
        self._jobs.popleft()
        return job.frame.become(job.output)

    def close(self) -> None:
        """Wait for what runs, drop every frame that was not collected, and let go of the model.  Idempotent."""
        while self._jobs:
            self._drop(self._jobs.popleft())
        self._idle.clear()  # the compiled model and its threads live as long

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
