"""How long a plan will take, from a short measurement of its model on this machine."""

from __future__ import annotations

import contextlib
import time
from fractions import Fraction
from typing import Any

import attrs
import numpy as np

from rave_trio.assembly import assemble
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.model import Geometry
from rave_trio.memory import Ledger, Waiting
from rave_trio.plan import EnginePlan
from rave_trio.steps import Enhancing, Step

SAMPLE_SIDE, GPU_SAMPLE_SIDE = 192, 1080
"""Input pixels: the measured picture is at most this high and wide, where the CPU or a GPU computes."""

SAMPLE_SECONDS = 1.0


@attrs.frozen
class Estimate:
    """A guess: ``fps`` of the models alone, at the plan's size; ``seconds`` for all frames, if their number is known.

    ``fps`` is None without a model.
    """

    fps: float | None
    seconds: float | None
    measured: str

    def as_dict(self) -> dict[str, Any]:
        return attrs.asdict(self)

    def text(self) -> str:
        """One line for people."""
        if self.fps is None:
            return "not estimated: there is no model"
        whole = "unknown length" if self.seconds is None else f"about {_span(self.seconds)}"
        return f"{whole}, {self.fps:.3g} fps (inference alone, measured on {self.measured})"


def estimate(plan: EnginePlan, steps: tuple[Step, ...]) -> Estimate:
    """Run each of the plan's models for about a second on noise and scale by the number of pixels.  Blocking."""
    seconds, sizes = 0.0, []
    models = (step for step in steps if isinstance(step, Enhancing))
    for step, geometry in zip(models, plan.geometries, strict=True):
        sample = _sample(plan, step, geometry)
        height, width = sample.tile_height, sample.tile_width
        pixels = geometry.tiles * geometry.tile_height * geometry.tile_width
        seconds += pixels / (height * width) / _pictures_per_second(plan, steps, step, sample)
        sizes.append(f"{width}x{height}")
    if not seconds:
        return Estimate(None, None, "nothing")
    frames = plan.media.video.frames
    return Estimate(1 / seconds, frames * seconds if frames else None, f"noise of {' and '.join(sizes)}")


def _sample(plan: EnginePlan, step: Enhancing, whole: Geometry) -> Geometry:
    """What is measured: as large as the plan's tiles, or smaller."""
    if step.model.metadata.height:
        return whole
    side = SAMPLE_SIDE if plan.gpu is None else GPU_SAMPLE_SIDE
    return step.model.geometry(min(side, whole.tile_height), min(side, whole.tile_width), None)


def _pictures_per_second(plan: EnginePlan, steps: tuple[Step, ...], step: Enhancing, sample: Geometry) -> float:
    height, width = sample.tile_height, sample.tile_width
    with contextlib.ExitStack() as held:
        assembly = held.enter_context(contextlib.closing(assemble(plan, steps, Ledger(), Waiting())))
        network = assembly.network(step, sample, plan.streams)
        backend = held.enter_context(contextlib.closing(network))
        noise = held.enter_context(
            contextlib.closing(assembly.tensor(np.random.default_rng(0).random((3, height, width), np.float32)))
        )

        def start() -> None:
            backend.submit(Frame(0, 0, 1, Fraction(1), False, Tensor(noise.array, lease=None)))

        def finish() -> None:
            backend.collect().close()

        for _ in range(backend.depth):
            start()
        for _ in range(backend.depth):  # a first round compiles, allocates and warms up
            finish()
            start()
        done, began = 0, time.perf_counter()
        while not done or time.perf_counter() - began < SAMPLE_SECONDS:
            finish()
            start()
            done += 1
        return done / (time.perf_counter() - began)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
