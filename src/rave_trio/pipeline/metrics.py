"""What a run has done: frames, time and queue depth for each stage and channel."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from rave_trio.errors import FrameCountMismatch
from rave_trio.pipeline.latency import Histogram, Latency

STAGES = ("decode", "preprocess", "inference", "encode")

BUSY, WAITING_FOR_INPUT, WAITING_FOR_OUTPUT = ACTIVITIES = ("busy", "waiting_for_input", "waiting_for_output")
"""What a stage does: it works, waits for a frame, or waits for room."""


Soon = Callable[..., object]
"""``soon(call, *args)`` has that called in the Trio thread, a little later; from any thread."""


class Observer(Protocol):
    """Is told what a run does, in the Trio thread, as it happens.  Must return at once and not raise."""

    def span(self, stage: str, activity: str, start: float, end: float, frame: int | None) -> None:
        """A stage did that for so long, by ``time.perf_counter``; ``frame`` is the one that it had then."""

    def depth(self, channel: str, depth: int) -> None:
        """So many frames wait in that channel now."""


@attrs.frozen
class StageMetrics:
    """One stage: frames taken in and given on; seconds spent working, waiting for input and waiting for room.

    What it does at the moment counts as far as it has come.
    """

    name: str
    frames_in: int
    frames_out: int
    busy: float
    waiting_for_input: float
    waiting_for_output: float
    latency: Latency = attrs.field(factory=Latency)
    """Of its calls, one frame each, also where a thread goes on with the next; those of inference submit or collect."""
    activity: str | None = None
    """What it does now, if anything."""
    since: float = 0.0
    """Seconds for which it has been doing that."""
    frame: int | None = None
    """The one that it had last."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: what adds up, without the moment."""
        moment = {"latency", "activity", "since", "frame"}
        plain = attrs.asdict(self, filter=lambda field, _: field.name not in moment)
        return {**plain, "latency": self.latency.as_dict()}


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
    """A moment of a run, or all of it.  Stages are in the order of the flow; channel i follows stage i.

    A frozen value, for any thread.  Times in seconds; queue depths in frames.
    """

    stages: tuple[StageMetrics, ...]
    channels: tuple[ChannelMetrics, ...]
    elapsed: float
    """Seconds since the run began."""
    postprocess: float = 0.0
    """Seconds of inference's busy time in which tensors became surfaces; on a GPU, in which that was begun."""

    def stage(self, name: str) -> StageMetrics:
        """That of ``decode``, ``preprocess``, ``inference`` or ``encode``."""
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def frames_decoded(self) -> int:
        """Frames that the decoder gave out."""
        return self.stages[0].frames_out

    @property
    def frames_preprocessed(self) -> int:
        """Frames that became tensors."""
        return self.stages[1].frames_out

    @property
    def frames_inferred(self) -> int:
        """Frames that the models are done with and that are surfaces again."""
        return self.stages[2].frames_out

    @property
    def frames_encoded(self) -> int:
        """Frames that the encoder has taken."""
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
        return {
            "stages": [stage.as_dict() for stage in self.stages],
            "channels": [attrs.asdict(channel) for channel in self.channels],
            "elapsed": self.elapsed,
            "postprocess": self.postprocess,
        }


def _now(call: Callable[..., object], *args: object) -> None:
    call(*args)


class StageMeter:
    """The running counters behind a :class:`StageMetrics`, read by any thread.

    Touched by its stage's task, and by the worker thread of the call that this waits for: never by both at once.
    """

    def __init__(self, name: str, observer: Observer | None = None) -> None:
        self.name = name
        self.frames_in = 0
        self.frames_out = 0
        self.frame: int | None = None
        """The frame that it works on."""
        self._observer = observer
        self._latency = Histogram()
        # Replaced as one, so that whoever reads from another thread never sees time counted twice or not at all.
        self._spent: tuple[dict[str, float], str | None, float] = (dict.fromkeys(ACTIVITIES, 0.0), None, 0.0)

    def time(self, activity: str) -> _Timer:
        """A context: the time inside goes to that activity.  They do not nest."""
        return _Timer(self, activity)

    def lap(self, soon: Soon) -> None:
        """In the worker thread of a call that is timed: it goes on as the next one."""
        self._end(soon)
        self._begin(BUSY)

    def snapshot(self) -> StageMetrics:
        spent, activity, start = self._spent
        since = 0.0 if activity is None else time.perf_counter() - start
        if activity is not None:
            spent = {**spent, activity: spent[activity] + since}
        latency = self._latency.snapshot()
        return StageMetrics(
            self.name,
            self.frames_in,
            self.frames_out,
            **spent,
            latency=latency,
            activity=activity,
            since=since,
            frame=self.frame,
        )

    def _begin(self, activity: str) -> None:
        self._spent = self._spent[0], activity, time.perf_counter()

    def _end(self, soon: Soon = _now) -> None:
        end = time.perf_counter()
        spent, activity, start = self._spent
        if activity is None:  # the call was left behind just between two laps
            return
        self._spent = {**spent, activity: spent[activity] + end - start}, None, 0.0
        if activity == BUSY:
            self._latency.add(end - start)
        if self._observer is not None:
            soon(self._observer.span, self.name, activity, start, end, self.frame)


class _Timer:
    __slots__ = ("_activity", "_meter")

    def __init__(self, meter: StageMeter, activity: str) -> None:
        self._meter = meter
        self._activity = activity

    def __enter__(self) -> None:
        self._meter._begin(self._activity)

    def __exit__(self, *_: object) -> None:
        self._meter._end()
