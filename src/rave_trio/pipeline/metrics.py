"""What a run has done: frames, time and queue depth for each stage and channel."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from rave_trio.errors import FrameCountMismatch

STAGES = ("decode", "preprocess", "inference", "encode")


@attrs.frozen
class StageMetrics:
    """One stage: frames taken in and given on; seconds spent working, waiting for input and waiting for room."""

    name: str
    frames_in: int
    frames_out: int
    busy: float
    waiting_for_input: float
    waiting_for_output: float


@attrs.frozen
class ChannelMetrics:
    """One channel: frames through it, and how many wait now, waited at most and may wait."""

    name: str
    sent: int
    received: int
    depth: int
    peak: int
    capacity: int


@attrs.frozen
class PipelineMetrics:
    """A moment of a run, or all of it.  Stages are in the order of the flow; channel i follows stage i."""

    stages: tuple[StageMetrics, ...]
    channels: tuple[ChannelMetrics, ...]
    elapsed: float
    """Seconds since the run began."""

    def stage(self, name: str) -> StageMetrics:
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def frames_decoded(self) -> int:
        return self.stages[0].frames_out

    @property
    def frames_encoded(self) -> int:
        return self.stages[-1].frames_out

    @property
    def bottleneck(self) -> str:
        """The stage that was busy longest."""
        return max(self.stages, key=lambda stage: stage.busy).name

    def validate(self) -> None:
        """Check that every frame in came out once, at each hand-over; raises FrameCountMismatch saying where not."""
        counts: list[tuple[str, int]] = []
        for stage, channel in zip(self.stages, (*self.channels, None), strict=True):
            counts += [(f"{stage.name} in", stage.frames_in), (f"{stage.name} out", stage.frames_out)]
            if channel is not None:
                counts += [(f"{channel.name} in", channel.sent), (f"{channel.name} out", channel.received)]
        for (here, before), (there, after) in itertools.pairwise(counts):
            if before != after:
                raise FrameCountMismatch(f"{before} frames at {here}, but {after} at {there}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return attrs.asdict(self)


class StageMeter:
    """The running counters behind a :class:`StageMetrics`; touched only by its stage's task."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frames_in = 0
        self.frames_out = 0
        self.busy = 0.0
        self.waiting_for_input = 0.0
        self.waiting_for_output = 0.0

    @contextmanager
    def time(self, what: str) -> Iterator[None]:
        """Add the time inside to ``busy``, ``waiting_for_input`` or ``waiting_for_output``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, what, getattr(self, what) + time.perf_counter() - start)

    def snapshot(self) -> StageMetrics:
        return StageMetrics(
            self.name,
            self.frames_in,
            self.frames_out,
            self.busy,
            self.waiting_for_input,
            self.waiting_for_output,
        )
