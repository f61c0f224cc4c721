"""How long a plan will take, from a short measurement of its model on this machine."""

from __future__ import annotations

from typing import Any

import attrs

from rave_trio.inference.model import Geometry
from rave_trio.plan import EnginePlan
from rave_trio.speed import speedometer
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
        with speedometer(plan, steps, step) as measuring:
            per_second = measuring.rate(sample, plan.streams, plan.batch, seconds=SAMPLE_SECONDS)
        pixels = geometry.tiles * geometry.tile_height * geometry.tile_width
        seconds += pixels / (height * width) / per_second
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


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
