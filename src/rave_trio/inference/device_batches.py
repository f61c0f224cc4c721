"""Whole frames and tiles of them, computed several at a time on a device.

Pictures of a batch must lie one behind another, where frames do not lie, so each is copied into a buffer and out of
one.  That is done within the device, at its memory's speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import Event, Stream, use
from rave_trio.frames import Frame, Surface, Tensor
from rave_trio.inference.device_tiles import Copy, cut, paste, planes
from rave_trio.inference.model import Geometry, ModelMetadata
from rave_trio.inference.tiling import Tile, tiles

LEAST_DEPTH = 3
"""Frames under way at least: one is computed, one waits for it, and one is on its way to or from the stage."""

Compute = Callable[[DeviceArray, DeviceArray, Callable[[Any], None], tuple[Any, ...]], object]
"""Launches the network: from, into, what is given its failure, and what must stay open until it is done."""


def tiles_of(picture: DeviceArray, geometry: Geometry) -> list[Tile]:
    """How a picture is cut."""
    height, width = picture.shape[1:]
    return list(tiles(height, width, geometry.tile_height, geometry.tile_width, geometry.overlap, geometry.period))


def pieces_of(
    source: DeviceArray, target: DeviceArray, data: ModelMetadata, pictures: int = 1
) -> list[tuple[DeviceArray, DeviceArray]]:
    """A frame's planes for ``pictures`` of the model's at a time, and where their results go."""
    taken, given = pictures * data.input_channels, pictures * data.output_channels
    return [
        (planes(source, run * taken, taken), planes(target, run * given, given))
        for run in range(3 // data.input_channels // pictures)
    ]


def together(geometry: Geometry, batch: int, streams: int) -> int:
    """Frames that fill one batch on each stream."""
    return -(-batch // geometry.tiles) * streams


def depth_for(geometry: Geometry, batch: int = 1, streams: int = 1) -> int:
    """Frames under way at once: for each stream those of a batch that is computed and of one that waits for it, and one
    that is on its way to or from the stage.
    """
    return max(LEAST_DEPTH - 1, -(-2 * batch // geometry.tiles)) * streams + 1


@attrs.define(eq=False)
class Job:
    """A frame on the device, where its result goes, and what was said against it."""

    frame: Frame
    output: Surface | Tensor
    failures: list[Any] = attrs.field(factory=list)
    """Exceptions, or a library's own words."""
    done: Event | None = None
    """When the result is there; None while not all of the frame is launched."""
    cells: int = 0
    """How many of its cells wait for others to fill a batch."""

    @property
    def held(self) -> tuple[Any, ...]:
        """What must stay open until the work on it is done."""
        assert self.frame.picture is not None
        return self.frame.picture.lease, self.output.lease

    @property
    def result(self) -> DeviceArray:
        """The samples of an output that is a tensor."""
        assert isinstance(self.output, Tensor)
        array: DeviceArray = self.output.array
        return array

    def close(self) -> None:
        """Drop the frame, its result, and the failures: an error's traceback and this would keep each other alive."""
        self.failures.clear()
        self.output.close()
        self.frame.close()


@attrs.frozen(eq=False)
class _Cell:
    """A tile of some planes of a frame (C x H x W, what the model takes as one picture), and where its result goes."""

    job: Job
    picture: DeviceArray
    tile: Tile
    target: DeviceArray


class Batches:
    """Cells that wait until they fill a batch, and the pair of buffers that all batches go through.

    Everything is launched on ``stream``, so one pair serves all.  Not for several threads at once.
    """

    def __init__(
        self, size: int, source: DeviceArray, target: DeviceArray, compute: Compute, *, stream: Stream, copy: Copy
    ) -> None:
        """``source`` (size * C x h x w) and ``target`` (size * C' x H x W) are dense; ``compute`` works on them."""
        self._size = size
        self._source, self._target = source, target
        self._scale = target.shape[1] // source.shape[1]
        self._compute, self._stream, self._copy = compute, stream, copy
        self._waiting: list[_Cell] = []

    def add(self, job: Job, data: ModelMetadata, geometry: Geometry) -> None:
        """Take in a frame, and launch each batch that is full.  If this raises, nothing of the frame waits any more."""
        cuts = tiles_of(job.frame.tensor, geometry)
        pieces = pieces_of(job.frame.tensor, job.result, data)
        job.cells = len(cuts) * len(pieces)
        try:
            for picture, target in pieces:
                for tile in cuts:
                    self._waiting.append(_Cell(job, picture, tile, target))
                    if len(self._waiting) == self._size:
                        self.launch()
        except BaseException:
            self._waiting = [cell for cell in self._waiting if cell.job is not job]
            raise

    def launch(self) -> None:
        """Launch what waits, however little that is: slots without a cell compute what was in them before.

        What fails, in launching or later, is a failure of every frame in the batch and of no other.
        """
        cells, self._waiting = self._waiting, []
        try:
            if alive := [cell for cell in cells if not cell.job.failures]:
                self._run(alive)
        except Exception as error:
            for job in _jobs(cells):
                job.failures.append(error)
        finally:
            for cell in cells:
                cell.job.cells -= 1
                if not cell.job.cells:
                    cell.job.done = self._stream.record()

    def clear(self) -> None:
        """Drop all that waits."""
        self._waiting.clear()

    def _run(self, cells: list[_Cell]) -> None:
        jobs = _jobs(cells)

        def failed(reason: Any) -> None:
            for job in jobs:
                job.failures.append(reason)

        pictures = [array.memory for cell in cells for array in (cell.picture, cell.target)]
        memories = {id(memory): memory for memory in (*pictures, self._source.memory, self._target.memory)}
        with use(self._stream, *memories.values()):
            for at, cell in enumerate(cells):
                cut(self._copy, self._stream, cell.picture, cell.tile, self._slot(self._source, at))
            self._compute(self._source, self._target, failed, tuple(lease for job in jobs for lease in job.held))
            for at, cell in enumerate(cells):
                if not cell.job.failures:
                    result = self._slot(self._target, at)
                    paste(self._copy, self._stream, result, cell.tile, cell.target, self._scale)

    def _slot(self, buffer: DeviceArray, at: int) -> DeviceArray:
        channels = buffer.shape[0] // self._size
        return planes(buffer, at * channels, channels)


def _jobs(cells: list[_Cell]) -> list[Job]:
    return list({id(cell.job): cell.job for cell in cells}.values())
