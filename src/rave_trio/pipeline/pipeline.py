"""The upscaling pipeline: one nursery, four stage tasks, three bounded channels.

Threads: every blocking call of a stage runs through ``trio.to_thread`` under a limiter of that stage's own, so an
object is never used by two threads at once.  A call goes on with the next frame while one waits and there is room for
this one; what it may do by itself is said to be done "in a call".  Everything else here belongs to the Trio thread.

Note: Ctrl-C in a program that leaves SIGINT to Python
    KeyboardInterrupt may come between any two instructions of the Trio thread, when a stage may have a frame in its
    hands.  So the stages are protected from it, and it is raised where the main task waits.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing
from functools import partial

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from rave_trio.frames import Frame
from rave_trio.memory import Waiting
from rave_trio.pipeline.channels import FrameChannel
from rave_trio.pipeline.gathering import Gathering
from rave_trio.pipeline.metrics import (
    STAGES,
    ChannelMetrics,
    Observer,
    PipelineMetrics,
)
from rave_trio.pipeline.protocols import Backend, Converter, Decoder, Encoder, Unchanged
from rave_trio.pipeline.stage import Stage, closed_on_error
from rave_trio.pipeline.stalls import Watch
from rave_trio.pipeline.stop import Stop, run_stoppable
from rave_trio.pipeline.tasks import bare


@attrs.frozen
class PipelineConfig:
    """Capacities, in frames, of the channels after decode, preprocess and inference, and patience."""

    decoded_capacity: int = attrs.field(default=4, validator=attrs.validators.ge(1))
    """Frames that may wait between decode and preprocess."""
    preprocessed_capacity: int = attrs.field(default=2, validator=attrs.validators.ge(1))
    """Between preprocess and inference."""
    upscaled_capacity: int = attrs.field(default=4, validator=attrs.validators.ge(1))
    """Between inference and encode."""
    stall_timeout: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    """Seconds after which a call that has not returned is taken to be stuck; infinity to wait for ever."""
    batch_deadline: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    """Seconds for which the first frame of a batch may wait for others to fill it; 0 starts with what is there."""
    batch_frames: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    """Frames that fill the backend's batches; looked at only with a deadline."""


class UpscalePipeline:
    """Moves frames from a decoder through converters and a backend into an encoder.

    The four objects are borrowed: the pipeline closes the backend, for the frames in it, and no other.  One pipeline
    serves one run.  ``waiting`` is where the stages' calls wait for memory: a run that ends, ends it.  ``observer`` is
    told what each stage and channel does.  Use from the Trio thread; the four are called in other threads, each by one
    caller at a time.  ``rave_trio.pipeline.protocols`` says what they have to do.

    >>> from rave_trio import UpscalePipeline, testing
    >>> from rave_trio.devices.pool import device_pool
    >>> from rave_trio.devices.simulated import SimulatedDevice
    >>> from rave_trio.memory import Ledger
    >>> device = SimulatedDevice(1 << 20)
    >>> pool = device_pool(device, Ledger(1 << 20))
    >>> metrics = await UpscalePipeline().run(
    ...     testing.SyntheticDecoder(5, 64, 32, pool),
    ...     testing.SyntheticToTensor(64, 32, pool),
    ...     testing.SimulatedBackend(device, pool, scale=2),
    ...     testing.SyntheticToSurface(128, 64, pool),
    ...     testing.CountingEncoder(128, 64),
    ... )
    >>> metrics.frames_decoded, metrics.frames_encoded
    (5, 5)
    >>> pool.close(), device.close()
    (None, None)
    """

    def __init__(
        self, config: PipelineConfig | None = None, waiting: Waiting | None = None, observer: Observer | None = None
    ) -> None:
        config = config or PipelineConfig()
        self._waiting = waiting or Waiting()
        self._config = config
        self._watch = Watch(self._waiting, config.stall_timeout)
        stages = (Stage(name, self._watch, config.stall_timeout, observer) for name in STAGES)
        self._decode, self._preprocess, self._inference, self._encode = stages
        self._decoded = FrameChannel("decoded", config.decoded_capacity, observer)
        self._preprocessed = FrameChannel("preprocessed", config.preprocessed_capacity, observer)
        self._upscaled = FrameChannel("upscaled", config.upscaled_capacity, observer)
        self._started: float | None = None
        self._finished: float | None = None
        self._postprocess = 0.0

    @property
    def metrics(self) -> PipelineMetrics:
        """The counters as they are now.  From any thread."""
        channels = (self._decoded, self._preprocessed, self._upscaled)
        stages = (self._decode, self._preprocess, self._inference, self._encode)
        now = time.perf_counter()
        return PipelineMetrics(
            stages=tuple(stage.meter.snapshot() for stage in stages),
            channels=tuple(ChannelMetrics(c.name, c.sent, c.received, c.depth, c.peak, c.capacity) for c in channels),
            elapsed=(self._finished or now) - (self._started or now),
            postprocess=self._postprocess,
        )

    async def run(
        self,
        decoder: Decoder,
        to_tensor: Converter,
        backend: Backend,
        to_surface: Converter,
        encoder: Encoder,
        *,
        stop: Stop | None = None,
    ) -> PipelineMetrics:
        """Run until the decoder's end, or until ``stop`` is requested, and flush the encoder.

        Without ``stop``, cancelling the surrounding scope drains what is in flight and flushes before the
        cancellation goes on.  With one, the caller has arranged that (see :func:`run_stoppable`) and a cancellation
        ends the run at once.

        Raises the first error of any stage, with its stage and frame; later ones are attached as notes.  Raises
        FrameCountMismatch if a frame was lost between two stages.  Whatever happens, no frame is left open.
        """
        if stop is None:
            own = Stop()
            await run_stoppable(lambda: self._run(decoder, to_tensor, backend, to_surface, encoder, own), own)
        else:
            await self._run(decoder, to_tensor, backend, to_surface, encoder, stop)
        return self.metrics

    @enable_ki_protection
    async def _run(
        self,
        decoder: Decoder,
        to_tensor: Converter,
        backend: Backend,
        to_surface: Converter,
        encoder: Encoder,
        stop: Stop,
    ) -> None:
        self._started = time.perf_counter()
        try:
            async with self._watch.watching():
                with bare():
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._watch.feel)
                        nursery.start_soon(self._decode_loop, decoder, stop)
                        nursery.start_soon(self._preprocess_loop, to_tensor)
                        nursery.start_soon(self._inference_loop, backend, to_surface, nursery)
                        nursery.start_soon(self._encode_loop, encoder, stop)
        finally:
            for channel in (self._decoded, self._preprocessed, self._upscaled):
                channel.finish_receiving()
            self._finished = time.perf_counter()
        self.metrics.validate()

    @property
    def abandoned(self) -> frozenset[str]:
        """The stages whose call was left behind: what they were given must not be used or closed any more."""
        stages = (self._decode, self._preprocess, self._inference, self._encode)
        return frozenset(stage.name for stage in stages if stage.abandoned)

    @enable_ki_protection
    async def _decode_loop(self, decoder: Decoder, stop: Stop) -> None:
        stage, meter = self._decode, self._decode.meter

        def read() -> Frame | None:
            """Read frames until there is no room for one, which is the caller's, or there is none."""
            while (frame := decoder.read()) is not None:
                frame = stage.expect(frame, meter.frames_in)
                meter.frames_in += 1
                if stop.requested or not stage.offer(frame, self._decoded):
                    break
                stage.again(meter.frames_in)
            return frame

        with stage.located():
            while not stop.requested:
                stage.frame = meter.frames_in
                frame = await stage.work(read)
                if frame is None:
                    break
                await stage.give(frame, self._decoded)
            self._decoded.finish_sending()

    @enable_ki_protection
    async def _preprocess_loop(self, to_tensor: Converter) -> None:
        stage, unchanged = self._preprocess, isinstance(to_tensor, Unchanged)

        def convert(first: Frame) -> Frame | None:
            """Convert frames until there is no room for one, which is the caller's, or none waits."""
            frame: Frame | None = first
            while frame is not None:
                with closed_on_error(frame):
                    converted = stage.convert(to_tensor, frame)
                if not stage.offer(converted, self._preprocessed):
                    return converted
                frame = stage.following(self._decoded)
            return None

        with stage.located():
            while (frame := await stage.take(self._decoded)) is not None:
                converted = frame if unchanged else await stage.work_on(frame, convert)
                if converted is not None:
                    await stage.give(converted, self._preprocessed)
            self._preprocessed.finish_sending()

    @enable_ki_protection
    async def _inference_loop(self, backend: Backend, to_surface: Converter, nursery: trio.Nursery) -> None:
        """Keep the backend full: collect only when no more may be under way, or nothing else is there to submit.

        Before a batch is started that is not full, more frames are waited for, if there is a deadline for that; not
        any more once a backend has made way for one that holds fewer frames, and so has smaller batches.
        """
        depth = backend.depth
        stage = self._inference
        under_way: deque[int] = deque()
        gathering = Gathering(self._config.batch_frames, self._config.batch_deadline)

        def submit(frame: Frame) -> None:
            with closed_on_error(frame):
                backend.submit(frame)
            under_way.append(frame.index)
            gathering.submitted()

        def collect() -> Frame:
            gathering.collecting(len(under_way))
            frame = stage.expect(backend.collect(), under_way[0])
            began = time.perf_counter()
            try:
                with closed_on_error(frame):
                    converted = stage.convert(to_surface, frame)
            finally:
                self._postprocess += time.perf_counter() - began
            under_way.popleft()
            return converted

        def waits() -> bool:
            """Whether more frames are to be waited for before one is collected."""
            return not under_way or (backend.depth == depth and gathering.waits(len(under_way)))

        def compute(frame: Frame | None) -> Frame | None:
            """Submit a frame, or collect one if there is none; go on until something is to be waited for.

            Gives the frame that there is no room for, if that is it.
            """
            while True:
                if frame is not None:
                    submit(frame)
                else:
                    done = collect()
                    if not stage.offer(done, self._upscaled):
                        return done
                frame = stage.following(self._preprocessed) if len(under_way) < backend.depth else None
                if frame is None:
                    if waits() or not stage.goes_on:
                        return None
                    stage.again(under_way[0])

        async def next_frame() -> Frame | None:
            """What to submit now, if anything: None where it is time to collect, and after the last."""
            if not under_way or self._preprocessed.depth:
                return await stage.take(self._preprocessed)
            if waits():
                with trio.move_on_at(gathering.deadline):
                    return await stage.take(self._preprocessed)
            return None

        try:
            with stage.located():
                while True:
                    submitted = await next_frame() if len(under_way) < backend.depth else None
                    if submitted is not None:
                        done = await stage.work_on(submitted, compute)
                    elif under_way:
                        stage.frame = under_way[0]
                        done = await stage.work(partial(compute, None))
                    else:
                        break
                    if done is not None:
                        await stage.give(done, self._upscaled)
                self._upscaled.finish_sending()
        finally:
            # In a task of its own, so that an error of closing comes after, not in place of, the one that led here.
            nursery.start_soon(self._close_backend, backend)

    @enable_ki_protection
    async def _close_backend(self, backend: Backend) -> None:
        stage = self._inference
        stage.frame = None
        if stage.abandoned:
            return
        with stage.located(), trio.CancelScope(shield=True):
            await stage.work(backend.close)

    @enable_ki_protection
    async def _encode_loop(self, encoder: Encoder, stop: Stop) -> None:
        stage, meter = self._encode, self._encode.meter

        def write(first: Frame) -> None:
            """Write frames until none waits."""
            frame: Frame | None = first
            while frame is not None:
                with closing(frame):
                    encoder.write(frame)
                meter.frames_out += 1
                if stop.requested:
                    stage.soon(stop.progressed)
                frame = stage.following(self._upscaled)

        with stage.located():
            while (frame := await stage.take(self._upscaled)) is not None:
                await stage.work_on(frame, write)
            stage.frame = None
            self._watch.done()
            stop.drained()
            await stage.work(encoder.finish)
