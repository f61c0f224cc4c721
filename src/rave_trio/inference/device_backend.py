"""Frames through a model on a device with memory and streams of its own, whatever library computes it.

A frame that the model takes whole, and that begins where the library wants it to, is read and written in place.  All
others go tile by tile through a pair of buffers of the model's shape: cut, compute and paste follow one another on one
stream, so one pair serves all frames under way.  With batches, whole frames and tiles alike go through such a pair,
several at a time.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from rave_trio import errors
from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import DeviceMemory, Event, LaunchError, Stream, use
from rave_trio.frames import Frame, Surface, Tensor
from rave_trio.inference.device_batches import Batches, Job, depth_for, pieces_of, tiles_of
from rave_trio.inference.device_tiles import Copy, cut, paste, stacked
from rave_trio.inference.model import Geometry, ModelMetadata
from rave_trio.inference.tiling import Tile
from rave_trio.memory import Lease

DTYPES: dict[str, np.dtype[Any]] = {
    "fp8": np.dtype(np.float16),
    "fp16": np.dtype(np.float16),
    "fp32": np.dtype(np.float32),
}
"""Of tensors, by precision: fp8 is between a network's layers only."""


class Network(Protocol):
    """A model made ready for one shape, as a library runs it."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its input and its output."""

    @property
    def alignment(self) -> int:
        """Bytes of whose multiples the addresses of both must be."""

    def launch(
        self, stream: Stream, source: DeviceArray, target: DeviceArray, failed: Callable[[Exception], None], *held: Any
    ) -> None:
        """Run on ``source`` into ``target``, dense and N x C x h x w, in ``stream``'s order, and return at once.

        N is the batch that the network was made for.

        A failure that leaves the stream usable is given to ``failed``; ``held`` must stay open until the work is done.
        """

    def describe(self, error: Exception) -> tuple[bool, str]:
        """Whether a failure is for want of memory, and its reason in one line."""

    def close(self) -> None:
        """Let go of its memory.  Idempotent; nothing may be under way."""


class DevicePool(Protocol):
    """Lends a device's memory; see :class:`rave_trio.memory.Pool`."""

    def lease(self, nbytes: int) -> Lease[Any]:
        """A loan of at least ``nbytes`` of device memory."""


class DeviceBackend:
    """Frames with tensors in, the same frames with larger tensors out, in order.

    A tensor's array is a :class:`~rave_trio.devices.arrays.DeviceArray`, 3 x H x W of the network's dtype; what comes
    out is 3 (or 1) x H*scale x W*scale, dense, in memory leased from ``pool``.  :meth:`submit` starts a frame on the
    stream and :meth:`collect` waits for the oldest; up to :attr:`depth` frames may be under way, and more only wait.
    With a ``batch`` above 1 a frame may wait for others to start with, until it is collected at the latest.
    Work that others launched before with a frame's memory comes first: see ``last_use`` in
    :mod:`rave_trio.devices.interface`.  One caller at a time, from any thread.
    """

    def __init__(
        self,
        metadata: ModelMetadata,
        geometry: Geometry,
        network: Network,
        *,
        stream: Stream,
        pool: DevicePool,
        copy: Copy,
        batch: int = 1,
    ) -> None:
        """``batch`` is the N of what ``network`` takes, the backend's own from now on."""
        self.metadata = metadata
        self.depth = depth_for(geometry, batch)
        self._geometry = geometry
        self._network = network
        self._stream = stream
        self._pool = pool
        self._copy = copy
        self._batch = batch
        self._batches: Batches | None = None
        """For more than one at a time, once a frame has come."""
        self._jobs: deque[Job] = deque()
        self._buffers: dict[str, Lease[Any]] = {}
        """For tiles: the network's input and output, once they are needed."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the tensors are in, on both sides."""
        return self._network.dtype

    def submit(self, frame: Frame) -> None:
        """Start on one frame, which is the backend's until it is collected.  Waits for memory if there is a limit.

        Raises OutOfMemory if there can be none, and TypeError for a tensor of another dtype; the frame stays the
        caller's then.
        """
        job = Job(frame, self._output(frame))
        try:
            if self._batch == 1:
                job.done = self._start(job)
            else:
                self._gather(job)
        except BaseException:
            job.output.close()
            raise
        self._jobs.append(job)

    def collect(self) -> Frame:
        """The oldest frame under way, with its result.  Blocks until it is there.

        Raises InferenceError if the model failed on it, OutOfMemory if it found no memory; the frame is closed then,
        and the others are as they were.  If the device itself failed, they will fail as well.
        """
        job = self._jobs[0]
        name, index = self.metadata.name, job.frame.index
        if job.done is None and self._batches is not None:
            self._batches.launch()
        assert job.done is not None
        try:
            job.done.wait()
        except LaunchError as error:
            self._jobs.popleft().close()
            raise errors.InferenceError(f"model {name} failed on frame {index}: {error}") from error
        self._jobs.popleft()
        if not job.failures:
            return job.frame.become(job.output)
        first = job.failures[0]
        job.close()
        scarce, reason = self._network.describe(first)
        if scarce:
            raise errors.OutOfMemory(f"model {name} found no memory for frame {index}: {reason}") from first
        raise errors.InferenceError(f"model {name} failed on frame {index}: {reason}") from first

    def close(self) -> None:
        """Wait for what runs, drop every frame that was not collected, and let go of the network.  Idempotent."""
        if self._batches is not None:
            self._batches.clear()
        if self._jobs:
            with contextlib.suppress(LaunchError):
                self._stream.synchronize()
        while self._jobs:
            self._jobs.popleft().close()
        while self._buffers:
            self._buffers.popitem()[1].close()
        self._network.close()

    def _output(self, frame: Frame) -> Surface | Tensor:
        """Room for what a frame becomes."""
        source: DeviceArray = frame.tensor
        if source.dtype != self.dtype:
            raise TypeError(f"frame {frame.index} is {source.dtype}, model {self.metadata.name} runs in {self.dtype}")
        scale, groups = self.metadata.scale, 3 // self.metadata.input_channels
        return self._leased((self.metadata.output_channels * groups, source.shape[1] * scale, source.shape[2] * scale))

    def _start(self, job: Job) -> Event:
        """Launch all that a frame takes; the moment at which it is done."""
        source, output = job.frame.tensor, job.result
        entry, result = self._shapes()
        cuts, pieces = tiles_of(source, self._geometry), pieces_of(source, output, self.metadata)
        into = None if all(self._fits(each, entry) for each, _ in pieces) else self._buffer("input", entry)
        out = None if all(self._fits(each, result) for _, each in pieces) else self._buffer("output", result)
        memories: list[DeviceMemory] = [array.memory for array in (source, output, into, out) if array is not None]
        with use(self._stream, *memories):
            for picture, target in pieces:
                for tile in cuts:
                    self._compute(picture, tile, target, into, out, job.failures, job.held)
        return self._stream.record()

    def _gather(self, job: Job) -> None:
        """Have a frame computed together with others, as soon as those are there."""
        if self._batches is None:
            source, target = (
                self._buffer(kind, (self._batch * channels, *size))
                for kind, (channels, *size) in zip(("input", "output"), self._shapes(), strict=True)
            )
            self._batches = Batches(
                self._batch, source, target, self._compute_batch, stream=self._stream, copy=self._copy
            )
        self._batches.add(job, self.metadata, self._geometry)

    def _compute_batch(
        self, source: DeviceArray, target: DeviceArray, failed: Callable[[Any], None], held: tuple[Any, ...]
    ) -> None:
        source, target = stacked(source, self._batch), stacked(target, self._batch)
        self._network.launch(self._stream, source, target, failed, *held)

    def _shapes(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Of one picture as the network takes it, and of its result: C x h x w."""
        data, geometry = self.metadata, self._geometry
        return (
            (data.input_channels, geometry.tile_height, geometry.tile_width),
            (data.output_channels, geometry.tile_height * data.scale, geometry.tile_width * data.scale),
        )

    def _compute(
        self,
        picture: DeviceArray,
        tile: Tile,
        target: DeviceArray,
        into: DeviceArray | None,
        out: DeviceArray | None,
        failures: list[Exception],
        held: tuple[Any, ...],
    ) -> None:
        if failures:
            return
        if into is not None:
            cut(self._copy, self._stream, picture, tile, into)
        read, written = picture if into is None else into, target if out is None else out
        self._network.launch(self._stream, stacked(read, 1), stacked(written, 1), failures.append, *held)
        if out is not None:
            paste(self._copy, self._stream, out, tile, target, self.metadata.scale)

    def _fits(self, array: DeviceArray, shape: tuple[int, ...]) -> bool:
        """Whether the network can take the array as it lies."""
        dense = array.pitch == array.row_bytes
        return array.shape == shape and dense and array.pointer % self._network.alignment == 0

    def _buffer(self, kind: str, shape: tuple[int, ...]) -> DeviceArray:
        if kind not in self._buffers:
            self._buffers[kind] = self._pool.lease(math.prod(shape) * self.dtype.itemsize)
        return DeviceArray(self._buffers[kind].memory, shape, self.dtype)

    def _leased(self, shape: tuple[int, ...]) -> Tensor:
        lease = self._pool.lease(math.prod(shape) * self.dtype.itemsize)
        return Tensor(DeviceArray(lease.memory, shape, self.dtype), lease)
