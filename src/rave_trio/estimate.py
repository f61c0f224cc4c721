"""How long a plan will take, from a short measurement of its model on this machine."""

from __future__ import annotations

from typing import Any

import attrs

from rave_trio.inference.openvino_model import Model
from rave_trio.plan import EnginePlan
from rave_trio.speed import speedometer

SAMPLE_SIDE, GPU_SAMPLE_SIDE = 192, 1080
"""Input pixels: the measured picture is at most this high and wide, where the CPU or a GPU computes."""

SAMPLE_SECONDS = 1.0


@attrs.frozen
class Estimate:
    """A guess: ``fps`` of the model alone, at the plan's size; ``seconds`` for all frames, if their number is known."""

    fps: float
    seconds: float | None
    measured: str

    def as_dict(self) -> dict[str, Any]:
        return attrs.asdict(self)

    def text(self) -> str:
        """One line for people."""
        whole = "unknown length" if self.seconds is None else f"about {_span(self.seconds)}"
        return f"{whole}, {self.fps:.3g} fps (inference alone, measured on {self.measured})"


def estimate(plan: EnginePlan, model: Model) -> Estimate:
    """Run the plan's model for about a second on noise and scale by the number of pixels.  Blocking."""
    whole, side = plan.geometry, SAMPLE_SIDE if plan.gpu is None else GPU_SAMPLE_SIDE
    if not plan.model.height:
        whole = model.geometry(min(side, whole.tile_height), min(side, whole.tile_width), None)
    height, width = whole.tile_height, whole.tile_width
    with speedometer(plan, model) as measuring:
        per_second = measuring.rate(whole, plan.streams, plan.batch, seconds=SAMPLE_SECONDS)
    pixels = plan.geometry.tiles * plan.geometry.tile_height * plan.geometry.tile_width
    fps = per_second * height * width / pixels
    frames = plan.media.video.frames
    return Estimate(fps, frames / fps if frames else None, f"noise of {width}x{height}")


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
