"""What can be timed of one plan: the pipeline, and its network alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
import numpy.typing as npt
import trio

from rave_trio.assembly import Assembly, assemble
from rave_trio.errors import InputHasNoVideo, Stalled
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.retreat import RetreatingBackend
from rave_trio.media.decoder import VideoDecoder
from rave_trio.media.parts import PartsFolder
from rave_trio.memory import Ledger, LedgerStats, PoolStats, Waiting
from rave_trio.pipeline import PipelineMetrics, UpscalePipeline
from rave_trio.plan import EnginePlan
from rave_trio.steps import Step


class Sink(Protocol):
    """The pipeline's encoder."""

    def write(self, frame: Frame) -> None: ...

    def finish(self) -> object: ...


class Discarding:
    """An encoder that waits for each picture to be there and drops it; ``look`` sees it before."""

    def __init__(self, look: Callable[[Frame], None] | None = None) -> None:
        self._look = look

    def write(self, frame: Frame) -> None:
        """Waits, where a device makes the picture."""
        memory = getattr(frame.surface.native, "memory", None)
        if memory is not None and memory.last_use is not None:
            memory.last_use.wait()
        if self._look is not None:
            self._look(frame)

    def finish(self) -> None:
        """Nothing is held back."""


class First:
    """The first frames of a decoder, which is borrowed."""

    def __init__(self, decoder: VideoDecoder, frames: int) -> None:
        self._decoder = decoder
        self._left = frames

    def read(self) -> Frame | None:
        """None after so many, or after the last."""
        if not self._left:
            return None
        self._left -= 1
        return self._decoder.read()


@attrs.frozen
class Flow:
    """One run of the pipeline, and what it held."""

    metrics: PipelineMetrics
    ledger: LedgerStats
    pool: PoolStats
    processor_seconds: float
    """What all threads of the process took meanwhile."""

    @property
    def fps(self) -> float:
        """Frames a second from the first that was asked for to the last that was done with."""
        return self.metrics.frames_encoded / self.metrics.elapsed


class Rounds:
    """One plan, each time anew: everything is made, made warm, timed and closed again.  Blocking calls."""

    def __init__(self, plan: EnginePlan, steps: tuple[Step, ...]) -> None:
        self.plan, self._steps = plan, steps

    @contextlib.contextmanager
    def assembled(self) -> Iterator[tuple[Assembly, Waiting, Ledger, contextlib.ExitStack]]:
        """All that makes the plan's parts, and what they are to be closed with.

        Nothing is closed that a call which does not return may still use.
        """
        ledger, waiting = Ledger(self.plan.memory_limit), Waiting()
        with contextlib.ExitStack() as held:
            assembly = held.enter_context(contextlib.closing(assemble(self.plan, self._steps, ledger, waiting)))
            try:
                yield assembly, waiting, ledger, held
            except Stalled:
                held.pop_all()
                raise

    def pipeline(self, frames: int, *, encode: bool, look: Callable[[Assembly, Frame], None] | None = None) -> Flow:
        """Decode, convert, infer, convert, and encode or discard: so many frames, or as many as there are.

        ``look`` sees each picture before it is discarded.  Raises what a run raises.
        """
        with self.assembled() as (assembly, waiting, ledger, held):
            decoder = held.enter_context(contextlib.closing(assembly.decoder()))
            backend = held.enter_context(contextlib.closing(assembly.backend()))
            encoder: Sink = Discarding(None if look is None else lambda frame: look(assembly, frame))
            if encode:
                parts = held.enter_context(contextlib.closing(PartsFolder(self.plan.options.output)))
                encoder = held.enter_context(contextlib.closing(assembly.encoder(parts)))
            self.make_warm(assembly, backend)
            source: Any = First(decoder, frames)
            run = UpscalePipeline(self.plan.fit.pipeline, waiting).run
            began = time.process_time()
            metrics = trio.run(run, source, assembly.to_tensor(), backend, assembly.to_surface(), encoder)
            taken = time.process_time() - began
            if decoder.defect is not None:
                raise decoder.defect
            if not metrics.frames_encoded:
                raise InputHasNoVideo(f"no frame could be decoded from {self.plan.media.path}")
            return Flow(metrics, ledger.stats(), assembly.pool_stats(), taken)

    def network(self, frames: int) -> float:
        """Frames a second of the models alone, on tensors that are there."""
        with self.assembled() as (assembly, _, _, held):
            backend = held.enter_context(contextlib.closing(assembly.backend()))
            self.make_warm(assembly, backend)
            at_once = self.at_once(backend.depth)
            tensors = [assembly.tensor(self.noise()) for _ in range(at_once)]
            for tensor in tensors:
                held.enter_context(contextlib.closing(tensor))
            began = time.perf_counter()
            for number in range(frames):
                if number >= at_once:
                    backend.collect().close()
                backend.submit(_enveloped(number, Tensor(tensors[number % at_once].array, lease=None)))
            for _ in range(min(frames, at_once)):
                backend.collect().close()
            return frames / (time.perf_counter() - began)

    def at_once(self, depth: int) -> int:
        """Of ``depth`` frames under way those whose tensors find room.

        A plan on surfaces counts no tensors, and who waits for memory here waits for ever.
        """
        limit, work = self.plan.memory_limit, self.plan.work(self._steps)
        if limit is None or not work.on_surfaces:
            return depth
        [step] = work.steps
        pair = work.costs.tensor(step.source) + work.costs.tensor(step.target)
        return max(1, min(depth, (limit - self.plan.fit.network) // pair))

    def make_warm(self, assembly: Assembly, backend: RetreatingBackend) -> None:
        """With its first frames a library chooses its algorithms."""
        for number in range(2):
            backend.submit(_enveloped(number, assembly.tensor(self.noise())))
            backend.collect().close()

    def noise(self) -> npt.NDArray[np.float32]:
        """A picture as large as the input's."""
        shape = (3, self.plan.surface.height, self.plan.surface.width)
        return np.random.default_rng(0).random(shape, np.float32)


def _enveloped(number: int, tensor: Tensor) -> Frame:
    return Frame(number, number, 1, Fraction(1, 25), False, tensor)


def scratch(folder: Path) -> Path:
    """Where an encoder's output would go; it is never published."""
    return folder / "out.mkv"
