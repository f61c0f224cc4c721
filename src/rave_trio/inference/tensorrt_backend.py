"""The TensorRT backend: frames through execution contexts, each on a stream of its own.

No thread waits but in :meth:`TensorRtBackend.collect` and :meth:`TensorRtBackend.close`: all order is the streams'.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import operator
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from rave_trio import errors
from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import DeviceMemory, LaunchError, Player, Stream, use
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.device_batches import Batches, Job, depth_for, pieces_of, tiles_of
from rave_trio.inference.device_tiles import Copy, cut, paste
from rave_trio.inference.model import Geometry, ModelMetadata
from rave_trio.inference.tensorrt_library import is_out_of_memory, listening, reason
from rave_trio.inference.tensorrt_runtime import LoadedEngine
from rave_trio.inference.tiling import Tile
from rave_trio.memory import Ledger

log = logging.getLogger("rave_trio.inference")

ALIGNMENT = 256
"""Bytes: what TensorRT wants scratch and tensors to begin at a multiple of, and CUDA's allocations do."""

DEFAULT_STREAMS = (0, 1, 2)
"""CUDA's handles of the default streams, which would make every other stream wait."""

WEIGHTS_OWNER = "engine weights"


class DeviceLease(Protocol):
    """A loan of a device's memory."""

    @property
    def memory(self) -> DeviceMemory: ...

    def close(self) -> None: ...


class DevicePool(Protocol):
    """Lends a device's memory: a :class:`~rave_trio.memory.Pool` of it."""

    def lease(self, nbytes: int) -> DeviceLease: ...


@attrs.define(eq=False)
class _Lane:
    """One context, the stream it runs on, and its part of the scratch: frames of one lane run one after another."""

    stream: Stream
    handle: int
    context: Any
    input: DeviceArray | None = None
    """Where pieces of a picture are put for the engine, planes x h x w; None before that is needed."""
    output: DeviceArray | None = None
    batches: Batches | None = None
    """Where frames wait for one another, if the engine takes several at a time."""
    known: set[tuple[int, int]] = attrs.field(factory=set)
    """Addresses of input and output that were run with before."""


class TensorRtBackend:
    """Frames with tensors in a device's memory in, the same frames with larger tensors out, in order.

    A tensor's array is a :class:`~rave_trio.devices.arrays.DeviceArray`, 3 x H x W of :attr:`input_dtype`; what comes
    out is 3 (or 1) x H*scale x W*scale of :attr:`output_dtype`, dense, in memory leased from ``pool``.  A frame that
    fits the engine, and is dense and aligned, is read and written where it lies; others go through tiles by device
    copies, and so do all where the engine takes several at a time.

    :meth:`submit` launches a frame on the next stream in turn and returns; :meth:`collect` blocks until the oldest is
    done, so its result may be read by the host.  In batches a frame may wait for others to start with, until it is
    collected at the latest.  One caller at a time, from any thread.
    """

    def __init__(
        self,
        engine: LoadedEngine,
        metadata: ModelMetadata,
        geometry: Geometry,
        *,
        streams: Sequence[Stream],
        pool: DevicePool,
        scratch: DevicePool,
        ledger: Ledger,
        copy: Copy,
        size: tuple[int, int] | None = None,
        batch: int = 1,
        handle: Callable[[Any], int] = operator.attrgetter("handle"),
        current: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
        keep_compiled: Callable[[bytes], object] | None = None,
        player: Player | None = None,
    ) -> None:
        """The engine is the backend's from the call on, and closed with it, also if this raises.

        ``pool`` lends the results, ``scratch`` what the engine needs beside them.  ``size`` is the frames' height and
        width, if known: whether room for pieces is needed is known then, too, and it is taken at once.  ``batch`` is
        the number of pictures in the engine's input: 3 lets a model of one channel take all planes of a frame at once,
        and what does not divide a frame's planes is filled by several frames or tiles.
        ``handle`` gives CUDA's handle of a stream.  ``current`` makes the device current in the calling thread for as
        long as it is entered.  ``keep_compiled`` is given what the engine compiled, when the backend is closed.
        ``player`` replays what is run again with the same addresses, and is closed with the engine; without one, or
        where the engine cannot be replayed, TensorRT launches its kernels anew each time.

        Raises OutOfMemory, and InferenceError if the engine is not one of this model and geometry.
        """
        self._closing = contextlib.ExitStack()
        self._closing.callback(engine.close)
        if player is not None:
            self._closing.callback(player.close)
        self._current = current
        self._player = player
        try:
            with current(), contextlib.ExitStack() as undo:
                undo.callback(self._closing.close)
                self.metadata = metadata
                self.depth = depth_for(geometry, batch, len(streams))
                self.input_dtype, self.output_dtype = engine.input.dtype, engine.output.dtype
                self._engine, self._geometry, self._copy = engine, geometry, copy
                self._pool, self._scratch = pool, scratch
                self._batch = batch
                self._gathers = (3 // metadata.input_channels) % batch != 0
                self._closing.callback(ledger.enter(WEIGHTS_OWNER, engine.nbytes).close)
                tile = (geometry.tile_height, geometry.tile_width)
                self._input_shape = (batch, metadata.input_channels, *tile)
                self._output_shape = (batch, metadata.output_channels, *(side * metadata.scale for side in tile))
                staged = self._gathers or geometry.tiles > 1 or size not in (None, tile)
                self._lanes = self._make_lanes(streams, handle, staged=staged)
                self._jobs: deque[Job] = deque()
                self._submitted = 0
                self._keep_compiled = keep_compiled
                undo.pop_all()
        except BaseException:
            self._closing.close()
            raise

    def submit(self, frame: Frame) -> None:
        """Start on one frame, which is the backend's from the moment this returns; if it raises, it is the caller's.

        Raises TypeError for a tensor of another dtype or elsewhere than on the device, OutOfMemory, and InferenceError
        where the device has failed.
        """
        source = self._checked(frame)
        data = self.metadata
        shape = (data.output_channels * (3 // data.input_channels), *(side * data.scale for side in source.shape[1:]))
        lease = self._pool.lease(math.prod(shape) * self.output_dtype.itemsize)
        try:
            job = Job(frame, Tensor(DeviceArray(lease.memory, shape, self.output_dtype), lease))
            lane = self._lanes[self._submitted % len(self._lanes)]
            with self._current():
                if self._gathers:
                    self._gather(lane, job)
                else:
                    self._start(lane, source, job.result, job.failures)
                    job.done = lease.memory.last_use
        except LaunchError as error:
            lease.close()
            raise self._failure(frame, str(error), scarce=False) from error
        except BaseException:
            lease.close()
            raise
        self._jobs.append(job)
        self._submitted += 1

    def collect(self) -> Frame:
        """The oldest frame under way, with its result.  Blocks until it is there.

        Raises InferenceError if the work on it failed or was refused, OutOfMemory if it found no memory; the frame is
        closed then.
        """
        job = self._jobs[0]
        try:
            with self._current():
                if job.done is None:
                    self._launch_oldest()
                assert job.done is not None
                job.done.wait()
        except LaunchError as error:
            self._jobs.popleft().close()
            raise self._failure(job.frame, str(error), scarce=is_out_of_memory([str(error)])) from error
        self._jobs.popleft()
        if job.failures:
            said = [str(failure) for failure in job.failures]
            job.close()
            raise self._failure(job.frame, reason(said), scarce=is_out_of_memory(said))
        return job.frame.become(job.output)

    def close(self) -> None:
        """Wait for what runs, drop every frame that was not collected, and let go of the engine.  Idempotent."""
        with self._current():
            for lane in self._lanes:
                if lane.batches is not None:
                    lane.batches.clear()
                with contextlib.suppress(LaunchError):
                    lane.stream.synchronize()
            while self._jobs:
                self._jobs.popleft().close()
            keep_compiled, self._keep_compiled = self._keep_compiled, None
            try:
                if keep_compiled is not None and (compiled := self._engine.compiled()) is not None:
                    keep_compiled(compiled)
            finally:
                self._lanes = []
                self._closing.close()

    def _make_lanes(self, streams: Sequence[Stream], handle: Callable[[Any], int], *, staged: bool) -> list[_Lane]:
        """A lane for each stream, all in one piece of memory: one that came later could wait for one before it."""
        handles = [int(handle(stream)) for stream in streams]
        if not handles or any(number in DEFAULT_STREAMS for number in handles):
            raise ValueError(f"streams of their own are needed, not {handles}")
        lanes = [
            _Lane(stream, number, self._engine.context(self._input_shape))
            for stream, number in zip(streams, handles, strict=True)
        ]
        for lane in lanes:
            self._check_output(lane.context)
        needs = [int(lane.context.update_device_memory_size_for_shapes()) for lane in lanes]
        places = [_aligned(needed) for needed in needs]
        memory = self._taken(lanes, sum(places) + (self._piece_bytes * len(lanes) if staged else 0))
        for at, (lane, needed) in enumerate(zip(lanes, needs, strict=True)):
            lane.context.set_device_memory(memory.pointer + sum(places[:at]), needed)
        if staged:
            self._place_pieces(lanes, memory, sum(places))
        return lanes

    @property
    def _piece_bytes(self) -> int:
        """Room for one input of the engine and its output."""
        sides = ((self._input_shape, self.input_dtype), (self._output_shape, self.output_dtype))
        return sum(_aligned(math.prod(shape) * dtype.itemsize) for shape, dtype in sides)

    def _taken(self, lanes: list[_Lane], nbytes: int) -> DeviceMemory:
        """Memory that is the lanes' until the backend is closed."""
        lease = self._scratch.lease(max(nbytes, 1))
        self._closing.callback(lease.close)
        memory = lease.memory
        if memory.pointer % ALIGNMENT:
            raise errors.InferenceError(f"memory begins at {memory.pointer:#x}, which is no multiple of {ALIGNMENT}")
        for lane in lanes:
            if memory.last_use is not None:
                lane.stream.wait(memory.last_use)
        return memory

    def _place_pieces(self, lanes: list[_Lane], memory: DeviceMemory, begin: int) -> None:
        for lane in lanes:
            lane.input = DeviceArray(memory, _flat(self._input_shape), self.input_dtype, begin)
            lane.output = DeviceArray(
                memory, _flat(self._output_shape), self.output_dtype, begin + _aligned(lane.input.nbytes)
            )
            begin += self._piece_bytes
            if self._gathers:
                compute = functools.partial(self._compute_batch, lane)
                lane.batches = Batches(
                    self._batch, lane.input, lane.output, compute, stream=lane.stream, copy=self._copy
                )

    def _check_output(self, context: Any) -> None:
        found = tuple(context.get_tensor_shape(self._engine.output.name))
        if found != self._output_shape:
            raise errors.InferenceError(
                f"the engine of {self.metadata.name} gives {' x '.join(map(str, found))} "
                f"where {' x '.join(map(str, self._output_shape))} was expected"
            )

    def _checked(self, frame: Frame) -> DeviceArray:
        source = frame.tensor
        if not isinstance(source, DeviceArray):
            raise TypeError(f"frame {frame.index} is not in a device's memory")
        if source.dtype != self.input_dtype or len(source.shape) != 3 or source.shape[0] != 3:
            raise TypeError(
                f"frame {frame.index} is {' x '.join(map(str, source.shape))} of {source.dtype}, "
                f"model {self.metadata.name} takes three planes of {self.input_dtype}"
            )
        return source

    def _failure(self, frame: Frame, why: str, *, scarce: bool) -> errors.RaveError:
        name = self.metadata.name
        if scarce:
            return errors.OutOfMemory(f"model {name} found no memory for frame {frame.index}: {why}")
        return errors.InferenceError(f"model {name} failed on frame {frame.index}: {why}")

    def _start(self, lane: _Lane, source: DeviceArray, target: DeviceArray, refusals: list[str]) -> None:
        """Put all work of one frame on the lane's stream, up to the first refusal."""
        cuts, pieces = tiles_of(source, self._geometry), pieces_of(source, target, self.metadata, self._batch)
        whole = all(
            _lies_well(picture, self._input_shape) and _lies_well(result, self._output_shape)
            for picture, result in pieces
        )
        if not whole and lane.input is None:
            self._place_pieces(self._lanes, self._taken(self._lanes, self._piece_bytes * len(self._lanes)), 0)
        with use(lane.stream, source.memory, target.memory):
            for picture, result in pieces:
                for tile in cuts:
                    if not refusals:
                        self._compute(lane, picture, tile, result, refusals, whole=whole)

    def _gather(self, lane: _Lane, job: Job) -> None:
        """Have a frame computed together with others of its lane, as soon as those are there."""
        assert lane.batches is not None
        lane.batches.add(job, self.metadata, self._geometry)

    def _launch_oldest(self) -> None:
        """Launch what waits in the lane of the oldest frame, which is there."""
        lane = self._lanes[(self._submitted - len(self._jobs)) % len(self._lanes)]
        assert lane.batches is not None
        lane.batches.launch()

    def _compute(
        self, lane: _Lane, picture: DeviceArray, tile: Tile, result: DeviceArray, refusals: list[str], *, whole: bool
    ) -> None:
        if whole:
            self._execute(lane, picture, result, refusals)
            return
        assert lane.input is not None
        assert lane.output is not None
        cut(self._copy, lane.stream, picture, tile, lane.input)
        self._execute(lane, lane.input, lane.output, refusals)
        paste(self._copy, lane.stream, lane.output, tile, result, self.metadata.scale)

    def _compute_batch(
        self,
        lane: _Lane,
        source: DeviceArray,
        target: DeviceArray,
        failed: Callable[[Any], None],
        _held: tuple[Any, ...],
    ) -> None:
        refusals: list[str] = []
        self._execute(lane, source, target, refusals)
        for refusal in refusals:
            failed(refusal)

    def _execute(self, lane: _Lane, source: DeviceArray, target: DeviceArray, refusals: list[str]) -> None:
        with listening() as heard:
            started = self._run(lane, source.pointer, target.pointer)
        if not started:
            refusals.extend(heard or ["TensorRT refused to run it"])

    def _run(self, lane: _Lane, source: int, target: int) -> bool:
        """Whether TensorRT takes it.  It may set itself up when it first runs, so only what comes again is recorded."""
        again = (source, target) in lane.known
        lane.known.add((source, target))
        if self._player is None or not again:
            return self._enqueue(lane, source, target)

        def work(_raw: Any) -> None:
            if not self._enqueue(lane, source, target):
                raise _Refused

        try:
            self._player.play(lane.stream, (lane.handle, source, target), work)
        except (_Refused, LaunchError) as error:
            log.info("%s is not replayed as a CUDA graph: %s", self.metadata.name, error or "TensorRT refused")
            self._player = None
            return self._enqueue(lane, source, target)
        return True

    def _enqueue(self, lane: _Lane, source: int, target: int) -> bool:
        context, engine = lane.context, self._engine
        return bool(
            context.set_tensor_address(engine.input.name, source)
            and context.set_tensor_address(engine.output.name, target)
            and context.execute_async_v3(lane.handle)
        )


class _Refused(Exception):
    """TensorRT does not run it while it is recorded."""


def _lies_well(array: DeviceArray, shape: tuple[int, ...]) -> bool:
    """Whether the engine can take the array where it lies."""
    dense = array.pitch == array.row_bytes
    return array.shape == _flat(shape) and dense and array.pointer % ALIGNMENT == 0


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The same with the planes of all pictures in one axis."""
    return (shape[0] * shape[1], *shape[2:])


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
