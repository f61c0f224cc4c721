"""How many pictures a second a plan's network computes, measured on noise."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from rave_trio.assembly import Assembly, assemble
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.model import Geometry
from rave_trio.inference.retreat import Backend
from rave_trio.memory import Ledger, Waiting
from rave_trio.plan import EnginePlan
from rave_trio.steps import Enhancing, Step

Clock = Callable[[], float]


@contextlib.contextmanager
def speedometer(plan: EnginePlan, steps: tuple[Step, ...], step: Enhancing) -> Iterator[Speedometer]:
    """What the plan's device measures one of its models with, while it is open."""
    with contextlib.closing(assemble(plan, steps, Ledger(), Waiting())) as assembly:
        yield Speedometer(assembly, step)


class Speedometer:
    """Measures one network after another.  Blocking calls, one at a time."""

    def __init__(self, assembly: Assembly, step: Enhancing, clock: Clock = time.perf_counter) -> None:
        self._assembly = assembly
        self._step = step
        self._clock = clock

    def rate(self, geometry: Geometry, streams: int, batch: int, *, seconds: float, warm_up: float = 0.0) -> float:
        """Pictures of one tile a second, over ``seconds`` or a little more.

        Before that, everything is computed once at least, for it to be compiled and allocated, and for ``warm_up``
        seconds, in which a device at rest gets up to its speed.  Raises what making the network or running it raises.
        """
        shape = (3, geometry.tile_height, geometry.tile_width)
        with contextlib.ExitStack() as held:
            backend = held.enter_context(
                contextlib.closing(self._assembly.network(self._step, geometry, streams, batch))
            )
            noise = self._assembly.tensor(np.random.default_rng(0).random(shape, np.float32))
            held.enter_context(contextlib.closing(noise))
            return rate_of(backend, noise, streams * batch, seconds=seconds, warm_up=warm_up, clock=self._clock)


def rate_of(backend: Backend, noise: Tensor, together: int, *, seconds: float, warm_up: float, clock: Clock) -> float:
    """Frames a second of a backend that is kept full of ``noise``, in whole rounds of as many as go ``together``."""

    def start() -> None:
        backend.submit(Frame(0, 0, 1, Fraction(1), False, Tensor(noise.array, lease=None)))

    def go_on(least: int, seconds: float) -> float:
        done, began = 0, clock()
        while done < least or done % together or clock() - began < seconds:
            backend.collect().close()
            start()
            done += 1
        return done / (clock() - began)

    for _ in range(backend.depth):
        start()
    go_on(backend.depth, warm_up)
    return go_on(1, seconds)
