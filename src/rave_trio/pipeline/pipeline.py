"""The upscaling pipeline: one nursery, four stage tasks, three bounded channels.

Threads: every blocking call of a stage runs through ``trio.to_thread`` under a limiter of that stage's own, so an
object is never used by two threads at once.  Everything else here belongs to the Trio thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
import trio

from rave_trio.errors import RaveError, StageCrashed
from rave_trio.frames import Frame
from rave_trio.pipeline.channels import FrameChannel
from rave_trio.pipeline.metrics import STAGES, ChannelMetrics, PipelineMetrics, StageMeter
from rave_trio.pipeline.protocols import Backend, Converter, Decoder, Encoder
from rave_trio.pipeline.stop import Stop, run_stoppable

T = TypeVar("T")


@attrs.frozen
class PipelineConfig:
    """Capacities, in frames, of the channels after decode, preprocess and inference."""

    decoded_capacity: int = attrs.field(default=4, validator=attrs.validators.ge(1))
    preprocessed_capacity: int = attrs.field(default=2, validator=attrs.validators.ge(1))
    upscaled_capacity: int = attrs.field(default=4, validator=attrs.validators.ge(1))


class _Stage:
    """One stage's task state: its meter, its limiter, and the frame it works on."""

    def __init__(self, name: str) -> None:
        self.meter = StageMeter(name)
        self.limiter = trio.CapacityLimiter(1)
        self.frame: int | None = None

    async def work(self, call: Callable[[], T]) -> T:
        """Run a blocking call on a worker thread, timed.

        The call's result always arrives, even if the task is cancelled meanwhile: no frame is lost on the way back.
        """
        with self.meter.time("busy"):
            return await trio.to_thread.run_sync(call, limiter=self.limiter)


class UpscalePipeline:
    """Moves frames from a decoder through converters and a backend into an encoder.

    The four objects are borrowed: the pipeline closes frames, never them.  One pipeline serves one run.
    """

    def __init__(self, config: PipelineConfig | None = None) -> None:
        config = config or PipelineConfig()
        self._decode, self._preprocess, self._inference, self._encode = map(_Stage, STAGES)
        self._decoded = FrameChannel("decoded", config.decoded_capacity)
        self._preprocessed = FrameChannel("preprocessed", config.preprocessed_capacity)
        self._upscaled = FrameChannel("upscaled", config.upscaled_capacity)
        self._failure: RaveError | None = None
        self._started: float | None = None
        self._finished: float | None = None

    @property
    def metrics(self) -> PipelineMetrics:
        """The counters as they are now."""
        channels = (self._decoded, self._preprocessed, self._upscaled)
        stages = (self._decode, self._preprocess, self._inference, self._encode)
        started = self._started if self._started is not None else time.perf_counter()
        finished = self._finished if self._finished is not None else time.perf_counter()
        return PipelineMetrics(
            stages=tuple(stage.meter.snapshot() for stage in stages),
            channels=tuple(ChannelMetrics(c.name, c.sent, c.received, c.depth, c.peak, c.capacity) for c in channels),
            elapsed=finished - started,
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
        channels = (self._decoded, self._preprocessed, self._upscaled)
        try:
            async with trio.open_nursery() as nursery:

                async def stage(stage: _Stage, loop: Callable[[], Awaitable[None]]) -> None:
                    try:
                        await loop()
                    except trio.BrokenResourceError:
                        pass  # the stage after this one has failed, and says why
                    except Exception as error:
                        self._record(stage, error)
                        nursery.cancel_scope.cancel()

                nursery.start_soon(stage, self._decode, lambda: self._decode_loop(decoder, stop))
                nursery.start_soon(stage, self._preprocess, lambda: self._preprocess_loop(to_tensor))
                nursery.start_soon(stage, self._inference, lambda: self._inference_loop(backend, to_surface))
                nursery.start_soon(stage, self._encode, lambda: self._encode_loop(encoder))
        finally:
            for channel in channels:
                channel.finish_receiving()
            self._finished = time.perf_counter()
        if self._failure is not None:
            raise self._failure
        self.metrics.validate()

    def _record(self, stage: _Stage, error: Exception) -> None:
        name = stage.meter.name
        if isinstance(error, RaveError):
            found = error.at(name, stage.frame)
        else:
            found = StageCrashed(f"{name} crashed on frame {stage.frame}: {type(error).__name__}: {error}")
            found.at(name, stage.frame).__cause__ = error
        if self._failure is None:
            self._failure = found
        else:
            self._failure.add_note(f"then {name}: {found}")

    async def _decode_loop(self, decoder: Decoder, stop: Stop) -> None:
        stage, meter = self._decode, self._decode.meter
        try:
            while not stop.requested:
                stage.frame = meter.frames_in
                frame = await stage.work(decoder.read)
                if frame is None:
                    break
                meter.frames_in += 1
                await self._give(stage, frame, self._decoded)
        finally:
            self._decoded.finish_sending()

    async def _preprocess_loop(self, to_tensor: Converter) -> None:
        stage = self._preprocess
        try:
            while (frame := await self._take(stage, self._decoded)) is not None:
                await self._give(stage, await self._convert(stage, to_tensor, frame), self._preprocessed)
        finally:
            self._decoded.finish_receiving()
            self._preprocessed.finish_sending()

    async def _inference_loop(self, backend: Backend, to_surface: Converter) -> None:
        """Keep the backend full: collect only when no more may be under way, or nothing else is there to submit."""
        stage = self._inference
        under_way: deque[int] = deque()

        def collect() -> Frame:
            frame = backend.collect()
            try:
                return to_surface.convert(frame)
            except BaseException:
                frame.close()
                raise

        async def hand_on() -> None:
            stage.frame = under_way[0]
            frame = await stage.work(collect)
            under_way.popleft()
            await self._give(stage, frame, self._upscaled)

        try:
            while (frame := await self._take(stage, self._preprocessed)) is not None:
                await self._owned(stage, frame, backend.submit)
                under_way.append(frame.index)
                if len(under_way) >= backend.depth:
                    await hand_on()
            while under_way:
                await hand_on()
        finally:
            self._preprocessed.finish_receiving()
            self._upscaled.finish_sending()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(backend.close, limiter=stage.limiter)

    async def _encode_loop(self, encoder: Encoder) -> None:
        stage, meter = self._encode, self._encode.meter
        try:
            while (frame := await self._take(stage, self._upscaled)) is not None:
                await self._owned(stage, frame, encoder.write)
                frame.close()
                meter.frames_out += 1
            await stage.work(encoder.finish)
        finally:
            self._upscaled.finish_receiving()

    async def _take(self, stage: _Stage, channel: FrameChannel) -> Frame | None:
        with stage.meter.time("waiting_for_input"):
            frame = await channel.receive()
        if frame is not None:
            stage.meter.frames_in += 1
            stage.frame = frame.index
        return frame

    async def _give(self, stage: _Stage, frame: Frame, channel: FrameChannel) -> None:
        with stage.meter.time("waiting_for_output"):
            await channel.send(frame)
        stage.meter.frames_out += 1

    async def _convert(self, stage: _Stage, converter: Converter, frame: Frame) -> Frame:
        return await self._owned(stage, frame, converter.convert)

    async def _owned(self, stage: _Stage, frame: Frame, call: Callable[[Frame], T]) -> T:
        """Work on a frame that is ours until the call has taken it; close it if the call fails or never starts."""
        try:
            return await stage.work(lambda: call(frame))
        except BaseException:
            frame.close()
            raise
