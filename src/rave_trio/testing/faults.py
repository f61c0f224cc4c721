"""Faults planted at a chosen call, and stages that have them.

A :class:`Fault` names a stage of the pipeline, a frame, a kind and, where a stage makes several calls, which of them.
A :class:`FaultPlan` wraps the parts of a pipeline; each wrapper follows the protocol of what it wraps, passes on all
else that is asked of it, and does what the plan says when the frame comes.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import attrs

from rave_trio.errors import DiskFull, EncodeError, InputTruncated, OutOfMemory
from rave_trio.frames import Frame, Surface, Tensor
from rave_trio.pipeline import Backend, Converter, Decoder, Encoder

R = TypeVar("R")

CALLS: dict[str, tuple[str, ...]] = {
    "decode": ("read",),
    "preprocess": ("convert",),
    "inference": ("submit", "collect", "convert", "close"),
    "encode": ("write", "finish"),
    "publish": ("publish",),
}
"""The stages, and the calls of each that may fail."""

FRAMELESS = ("close", "finish", "publish")
"""Calls that are about no frame."""

ANY_CALL = tuple(call for calls in CALLS.values() for call in calls)
YIELDING = ("read", "convert", "collect")

KINDS: dict[str, tuple[str, ...]] = {
    "exception": ANY_CALL,
    "out_of_memory": ANY_CALL,
    "stall": ANY_CALL,
    "slow": ANY_CALL,
    "cancellation": ANY_CALL,
    "keyboard_interrupt": ANY_CALL,
    "system_exit": ANY_CALL,
    "corrupt_size": YIELDING,
    "short_read": ("read",),
    "encoder_refusal": ("write", "finish"),
    "disk_full": ("write", "finish", "publish"),
}
"""What may go wrong, and in which calls."""

SWITCHES = 50
"""How often a slow call lets other threads go first."""


class Planted(Exception):
    """An exception that no stage foresees."""


@attrs.frozen
class Fault:
    """``kind`` happens in ``stage`` on ``frame`` (from 0), in ``call`` if the stage makes several.

    The kinds: ``exception`` raises :class:`Planted`; ``out_of_memory`` OutOfMemory; ``encoder_refusal`` EncodeError;
    ``disk_full`` DiskFull; ``keyboard_interrupt`` and ``system_exit`` what they say.  ``corrupt_size`` hands back a
    picture of another size than it should have, ``short_read`` ends the input before the frame.  ``stall`` blocks until
    the plan is released, ``slow`` lets other threads go first many times, ``cancellation`` calls the plan's hook; all
    three then go on as usual.

    ``frame`` is None for calls about no frame: ``close``, ``finish`` and ``publish``.
    Raises ValueError for what cannot happen.
    """

    stage: str = attrs.field(validator=attrs.validators.in_(CALLS))
    frame: int | None
    kind: str = attrs.field(validator=attrs.validators.in_(KINDS))
    call: str = attrs.field()

    @call.default
    def _usual_call(self) -> str:
        possible = [call for call in CALLS.get(self.stage, ()) if call in KINDS.get(self.kind, ())]
        fitting = [call for call in possible if (call in FRAMELESS) == (self.frame is None)]
        return fitting[0] if fitting else "nothing"

    def __attrs_post_init__(self) -> None:
        if self.call not in CALLS[self.stage] or self.call not in KINDS[self.kind]:
            raise ValueError(f"{self.stage} has no call {self.call} with {self.kind}")
        if (self.frame is None) != (self.call in FRAMELESS):
            raise ValueError(f"{self.call} is about {'no' if self.call in FRAMELESS else 'a'} frame")

    def __str__(self) -> str:
        return "-".join(map(str, (self.stage, self.call, "end" if self.frame is None else self.frame, self.kind)))


def every_fault(frames: Iterable[int], stages: Iterable[str] = CALLS) -> Iterator[Fault]:
    """Each kind in each call of ``stages`` that it can happen in, on each of ``frames``."""
    chosen = tuple(frames)
    for stage in stages:
        for call in CALLS[stage]:
            for kind, calls in KINDS.items():
                if call in calls:
                    yield from (Fault(stage, frame, kind, call) for frame in ((None,) if call in FRAMELESS else chosen))


@attrs.frozen(eq=False)
class FaultPlan:
    """What is to go wrong in one run.

    Each fault happens once.  Those of the same call happen in the order in which they are given, until one raises.

    ``on_cancellation`` and ``on_stall`` are called, in the stage's own thread, where a fault of that kind comes.
    :meth:`release` may be called from any thread.
    """

    faults: tuple[Fault, ...] = attrs.field(converter=tuple)
    on_cancellation: Callable[[], object] = lambda: None
    on_stall: Callable[[], object] = lambda: None
    happened: list[Fault] = attrs.field(factory=list, init=False)
    """The faults whose call has come, in that order."""
    _pending: set[int] = attrs.field(init=False, repr=False)
    _released: threading.Event = attrs.field(factory=threading.Event, init=False, repr=False)

    @_pending.default
    def _all(self) -> set[int]:
        return set(range(len(self.faults)))

    def release(self) -> None:
        """Let every stalled call go on, now and later."""
        self._released.set()

    def around_decoder(self, decoder: Decoder) -> FaultyDecoder:
        """``decoder`` with the faults of ``decode``."""
        return FaultyDecoder(self, decoder)

    def around_converter(self, converter: Converter, stage: str = "preprocess") -> FaultyConverter:
        """``converter`` with the faults of ``stage``: ``preprocess``, or ``inference`` for the one behind the model."""
        return FaultyConverter(self, converter, stage)

    def around_backend(self, backend: Backend) -> FaultyBackend:
        """``backend`` with the faults of ``inference`` but for those of its converter."""
        return FaultyBackend(self, backend)

    def around_encoder(self, encoder: Encoder) -> FaultyEncoder:
        """``encoder`` with the faults of ``encode``."""
        return FaultyEncoder(self, encoder)

    def around_publishing(self, publish: Callable[..., R]) -> Callable[..., R]:
        """The function ``publish`` with the faults of ``publish``."""

        def faulty(*args: Any, **how: Any) -> R:
            self._begin("publish", "publish", None)
            return publish(*args, **how)

        return faulty

    def _begin(self, stage: str, call: str, frame: int | None) -> set[str]:
        """Do what comes before the call; returns the kinds that are the caller's to do."""
        left = set()
        for at, fault in enumerate(self.faults):
            if at in self._pending and (fault.stage, fault.call, fault.frame) == (stage, call, frame):
                self._pending.discard(at)
                self.happened.append(fault)
                left.add(self._do(fault))
        return left

    def _do(self, fault: Fault) -> str:
        at = f"planted in {fault.stage}"
        match fault.kind:
            case "exception":
                raise Planted(at)
            case "out_of_memory":
                raise OutOfMemory(f"no memory, {at}")
            case "encoder_refusal":
                raise EncodeError(f"the encoder refuses the picture, {at}")
            case "disk_full":
                raise DiskFull(f"the disk is full, {at}")
            case "keyboard_interrupt":
                raise KeyboardInterrupt
            case "system_exit":
                raise SystemExit(at)
            case "stall":
                self.on_stall()
                self._released.wait()
            case "slow":
                for _ in range(SWITCHES):
                    os.sched_yield()
            case "cancellation":
                self.on_cancellation()
        return fault.kind


class _Faulty:
    """Something with faults, which in all else is what it wraps."""

    def __init__(self, plan: FaultPlan, inner: Any, stage: str) -> None:
        self._plan = plan
        self._inner = inner
        self._stage = stage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class FaultyDecoder(_Faulty):
    """A decoder with faults; after a short read its ``defect`` says so."""

    def __init__(self, plan: FaultPlan, decoder: Decoder) -> None:
        super().__init__(plan, decoder, "decode")
        self._index = 0
        self._ended = False

    def read(self) -> Frame | None:
        if self._ended:
            return None
        todo = self._plan._begin(self._stage, "read", self._index)
        if "short_read" in todo:
            self._ended = self.exhausted = True
            self.defect = InputTruncated(f"the input ends before frame {self._index}, planted in decode")
            return None
        frame: Frame | None = self._inner.read()
        if frame is not None:
            self._index += 1
            if "corrupt_size" in todo:
                _corrupt(frame)
        return frame


class FaultyConverter(_Faulty):
    """A converter with faults."""

    def __init__(self, plan: FaultPlan, converter: Converter, stage: str) -> None:
        super().__init__(plan, converter, stage)

    def convert(self, frame: Frame) -> Frame:
        todo = self._plan._begin(self._stage, "convert", frame.index)
        converted: Frame = self._inner.convert(frame)
        if "corrupt_size" in todo:
            _corrupt(converted)
        return converted


class FaultyBackend(_Faulty):
    """A backend with faults."""

    def __init__(self, plan: FaultPlan, backend: Backend) -> None:
        super().__init__(plan, backend, "inference")
        self._under_way: deque[int] = deque()

    @property
    def depth(self) -> int:
        depth: int = self._inner.depth
        return depth

    def submit(self, frame: Frame) -> None:
        self._plan._begin(self._stage, "submit", frame.index)
        self._inner.submit(frame)
        self._under_way.append(frame.index)

    def collect(self) -> Frame:
        todo = self._plan._begin(self._stage, "collect", self._under_way[0])
        frame: Frame = self._inner.collect()
        self._under_way.popleft()
        if "corrupt_size" in todo:
            _corrupt(frame)
        return frame

    def close(self) -> None:
        """Close what is inside, whatever fault there is."""
        try:
            self._plan._begin(self._stage, "close", None)
        finally:
            self._inner.close()


class FaultyEncoder(_Faulty):
    """An encoder with faults."""

    def __init__(self, plan: FaultPlan, encoder: Encoder) -> None:
        super().__init__(plan, encoder, "encode")

    def write(self, frame: Frame) -> None:
        self._plan._begin(self._stage, "write", frame.index)
        self._inner.write(frame)

    def finish(self) -> object:
        self._plan._begin(self._stage, "finish", None)
        return self._inner.finish()


def _corrupt(frame: Frame) -> None:
    """Give a frame's picture another size; what it holds stays the same."""
    match frame.picture:
        case Surface() as surface:
            surface.descriptor = attrs.evolve(surface.descriptor, width=surface.descriptor.width + 2)
        case Tensor(array=array) as tensor if array is not None:
            tensor.array = array[:, :, :-2]
