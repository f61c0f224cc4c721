"""The TensorRT backend: frames through execution contexts, each on a stream of its own.

No thread waits but in :meth:`TensorRtBackend.collect` and :meth:`TensorRtBackend.close`: all order is the streams'.
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from rave_trio import errors
from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import DeviceMemory, Event, LaunchError, Stream, use
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.device_tiles import Copy, cut, paste, planes
from rave_trio.inference.model import Geometry, ModelMetadata
from rave_trio.inference.tensorrt_library import is_out_of_memory, listening
from rave_trio.inference.tensorrt_runtime import LoadedEngine
from rave_trio.inference.tiling import Tile, tiles
from rave_trio.memory import Ledger

ALIGNMENT = 256
"""Bytes: what TensorRT wants scratch and tensors to begin at a multiple of, and CUDA's allocations do."""

DEFAULT_STREAMS = (0, 1, 2)
"""CUDA's handles of the default streams, which would make every other stream wait."""

SCRATCH_OWNER = "engine scratch"
WEIGHTS_OWNER = "engine weights"


class DeviceLease(Protocol):
    """A loan of a device's memory."""

    @property
    def memory(self) -> DeviceMemory: ...

    def close(self) -> None: ...


class DevicePool(Protocol):
    """Lends a device's memory: a :class:`~rave_trio.memory.Pool` of it."""

    def lease(self, nbytes: int) -> DeviceLease: ...


@attrs.frozen(eq=False)
class _Lane:
    """One context, the stream it runs on, and its part of the scratch: frames of one lane run one after another."""

    stream: Stream
    handle: int
    context: Any
    input: DeviceArray | None
    """Where pieces of a picture are put for the engine, planes x h x w; None where it reads pictures where they are."""
    output: DeviceArray | None


@attrs.frozen(eq=False)
class _Job:
    """A frame on its way, its result, and when that is there."""

    frame: Frame
    output: Tensor
    done: Event

    def close(self) -> None:
        self.output.close()
        self.frame.close()


class TensorRtBackend:
    """Frames with tensors in a device's memory in, the same frames with larger tensors out, in order.

    Frames hold dense arrays, 3 x ``height`` x ``width``, of :attr:`input_dtype`; results are of :attr:`output_dtype`.
    A frame that fits the engine is read and written where it lies, others go through tiles by device copies.

    :meth:`submit` launches a frame on the next stream in turn and returns; :meth:`collect` blocks until the oldest is
    done, so its result may be read by the host.  One caller at a time, from any thread.
    """

    def __init__(
        self,
        engine: LoadedEngine,
        metadata: ModelMetadata,
        geometry: Geometry,
        height: int,
        width: int,
        *,
        streams: Sequence[Stream],
        pool: DevicePool,
        scratch: DevicePool,
        ledger: Ledger,
        copy: Copy,
        batch: int = 1,
        handle: Callable[[Any], int] = operator.attrgetter("handle"),
        current: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
        keep_compiled: Callable[[bytes], object] | None = None,
    ) -> None:
        """The engine is the backend's from the call on, and closed with it, also if this raises.

        ``pool`` lends the results, ``scratch`` what the engine needs beside them, once.  ``batch`` is the number of
        pictures in the engine's input: 3 lets a model of one channel take all planes of a frame at once.  ``handle``
        gives CUDA's handle of a stream.  ``current`` makes the device current in the calling thread for as long as it
        is entered.  ``keep_compiled`` is given what the engine compiled, when the backend is closed.

        Raises OutOfMemory, and InferenceError if the engine is not one of this model and geometry.
        """
        self._closing = contextlib.ExitStack()
        self._closing.callback(engine.close)
        self._current = current
        with current(), contextlib.ExitStack() as undo:
            undo.callback(self._closing.close)
            self.metadata = metadata
            self.depth = len(streams) + 1
            self.input_dtype, self.output_dtype = engine.input.dtype, engine.output.dtype
            self._engine, self._geometry, self._pool, self._copy = engine, geometry, pool, copy
            self._size = (height, width)
            self._batch = batch
            self._closing.callback(ledger.enter(WEIGHTS_OWNER, engine.nbytes).close)
            self._lanes = self._make_lanes(streams, handle, scratch)
            self._jobs: deque[_Job] = deque()
            self._submitted = 0
            self._keep_compiled = keep_compiled
            undo.pop_all()

    def submit(self, frame: Frame) -> None:
        """Start on one frame, which is the backend's from the moment this returns; if it raises, it is the caller's.

        Raises InferenceError for a tensor that is not as the class says, and if TensorRT refuses; OutOfMemory.
        """
        source = self._checked(frame)
        channels = self.metadata.output_channels * (3 // self.metadata.input_channels)
        shape = (channels, *(side * self.metadata.scale for side in self._size))
        lease = self._pool.lease(math.prod(shape) * self.output_dtype.itemsize)
        try:
            target = DeviceArray(lease.memory, shape, self.output_dtype)
            lane = self._lanes[self._submitted % len(self._lanes)]
            with self._current(), use(lane.stream, source.memory, target.memory):
                self._launch(lane, source, target, frame.index)
            done = target.memory.last_use
            assert done is not None
        except BaseException:
            lease.close()
            raise
        self._jobs.append(_Job(frame, Tensor(target, lease), done))
        self._submitted += 1

    def collect(self) -> Frame:
        """The oldest frame under way, with its result.  Blocks until it is there.

        Raises InferenceError if the work on it failed, OutOfMemory if it found no memory; the frame is closed then.
        """
        job = self._jobs[0]
        try:
            with self._current():
                job.done.wait()
        except LaunchError as error:
            self._jobs.popleft().close()
            kind = errors.OutOfMemory if is_out_of_memory([str(error)]) else errors.InferenceError
            raise kind(f"model {self.metadata.name} failed on frame {job.frame.index}: {error}") from error
        self._jobs.popleft()
        return job.frame.become(job.output)

    def close(self) -> None:
        """Wait for what runs, drop every frame that was not collected, and let go of the engine.  Idempotent."""
        with self._current():
            for lane in self._lanes:
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

    def _make_lanes(self, streams: Sequence[Stream], handle: Callable[[Any], int], scratch: DevicePool) -> list[_Lane]:
        """A lane for each stream, all in one piece of memory: one that came later could wait for one before it."""
        handles = [int(handle(stream)) for stream in streams]
        if not handles or any(number in DEFAULT_STREAMS for number in handles):
            raise ValueError(f"streams of their own are needed, not {handles}")
        input_shape, output_shape = self._shapes()
        input_bytes = math.prod(input_shape) * self.input_dtype.itemsize
        output_bytes = math.prod(output_shape) * self.output_dtype.itemsize
        staged = not self._fits_whole(input_bytes, output_bytes)
        contexts = []
        parts: list[tuple[int, ...]] = []
        for _ in streams:
            context = self._engine.context(input_shape)
            self._check_output(context, output_shape)
            contexts.append(context)
            needed = int(context.update_device_memory_size_for_shapes())
            parts.append((needed, input_bytes, output_bytes) if staged else (needed,))
        total = sum(_aligned(size) for sizes in parts for size in sizes)
        lease = scratch.lease(max(total, 1))
        self._closing.callback(lease.close)
        memory = lease.memory
        _require_aligned(memory.pointer, "scratch")
        lanes = []
        at = 0
        for stream, number, context, sizes in zip(streams, handles, contexts, parts, strict=True):
            if memory.last_use is not None:
                stream.wait(memory.last_use)
            context.set_device_memory(memory.pointer + at, sizes[0])
            begin = at + _aligned(sizes[0])
            middle = begin + _aligned(input_bytes)
            source = DeviceArray(memory, _flat(input_shape), self.input_dtype, begin) if staged else None
            result = DeviceArray(memory, _flat(output_shape), self.output_dtype, middle) if staged else None
            lanes.append(_Lane(stream, number, context, source, result))
            at += sum(map(_aligned, sizes))
        return lanes

    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the engine's input and output."""
        data, geometry = self.metadata, self._geometry
        if (3 // data.input_channels) % self._batch:
            raise ValueError(f"frames do not divide into batches of {self._batch}")
        return (
            (self._batch, data.input_channels, geometry.tile_height, geometry.tile_width),
            (
                self._batch,
                data.output_channels,
                geometry.tile_height * data.scale,
                geometry.tile_width * data.scale,
            ),
        )

    def _fits_whole(self, input_bytes: int, output_bytes: int) -> bool:
        """Whether the engine can read frames and write results where they are."""
        tile = (self._geometry.tile_height, self._geometry.tile_width)
        alone = self._batches == 1
        return tile == self._size and (alone or not (input_bytes % ALIGNMENT or output_bytes % ALIGNMENT))

    @property
    def _batches(self) -> int:
        """How often the engine runs for all planes of one tile."""
        return 3 // self.metadata.input_channels // self._batch

    def _check_output(self, context: Any, expected: tuple[int, ...]) -> None:
        found = tuple(context.get_tensor_shape(self._engine.output.name))
        if found != expected:
            raise errors.InferenceError(
                f"the engine of {self.metadata.name} gives {' x '.join(map(str, found))} "
                f"where {' x '.join(map(str, expected))} was expected"
            )

    def _checked(self, frame: Frame) -> DeviceArray:
        source = frame.tensor
        if not isinstance(source, DeviceArray):
            raise TypeError(f"frame {frame.index} is not in a device's memory")
        expected = (3, *self._size)
        if source.shape != expected or source.dtype != self.input_dtype or source.pitch != source.row_bytes:
            raise errors.InferenceError(
                f"frame {frame.index} is {' x '.join(map(str, source.shape))} of {source.dtype}, {source.pitch} bytes "
                f"a row, and the engine takes dense {' x '.join(map(str, expected))} of {self.input_dtype}"
            )
        return source

    def _launch(self, lane: _Lane, source: DeviceArray, target: DeviceArray, frame: int) -> None:
        """Put all work of one frame on the lane's stream."""
        data = self.metadata
        taken, given = self._batch * data.input_channels, self._batch * data.output_channels
        for run in range(self._batches):
            picture, result = planes(source, run * taken, taken), planes(target, run * given, given)
            if lane.input is None or lane.output is None:
                self._execute(lane, picture.pointer, result.pointer, frame)
                continue
            for tile in self._tiles():
                cut(self._copy, lane.stream, picture, tile, lane.input)
                self._execute(lane, lane.input.pointer, lane.output.pointer, frame)
                paste(self._copy, lane.stream, lane.output, tile, result, data.scale)

    def _tiles(self) -> list[Tile]:
        geometry = self._geometry
        return list(tiles(*self._size, geometry.tile_height, geometry.tile_width, geometry.overlap, geometry.period))

    def _execute(self, lane: _Lane, source: int, target: int, frame: int) -> None:
        context, engine = lane.context, self._engine
        _require_aligned(source, "the frame")
        _require_aligned(target, "the result")
        with listening() as heard:
            started = (
                context.set_tensor_address(engine.input.name, source)
                and context.set_tensor_address(engine.output.name, target)
                and context.execute_async_v3(lane.handle)
            )
            if not started:
                raise engine.failure("run", heard, frame=frame)


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The same with the planes of all pictures in one axis."""
    return (shape[0] * shape[1], *shape[2:])


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _require_aligned(pointer: int, what: str) -> None:
    if pointer % ALIGNMENT:
        raise errors.InferenceError(f"{what} begins at {pointer:#x}, which is no multiple of {ALIGNMENT}")
