"""Settings against one another: the pipeline's speed and the network's for each combination."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import attrs

from rave_trio import tuning
from rave_trio.bench.axes import Axes, Value, combinations
from rave_trio.bench.report import SCHEMA_VERSION, Settings, plan_rows
from rave_trio.bench.rounds import Rounds
from rave_trio.bench.spread import Spread
from rave_trio.errors import OutOfMemory, RaveError, UsageError
from rave_trio.fingerprint import EngineFingerprint, fingerprint_of
from rave_trio.fit import fit_with
from rave_trio.options import UpscaleOptions
from rave_trio.pipeline import PipelineConfig
from rave_trio.plan import EnginePlan, make_plan
from rave_trio.steps import Step

log = logging.getLogger("rave_trio.bench")

Steps = tuple[Step, ...]


@attrs.frozen
class Point:
    """One combination: the plan that it gave and its speeds, or why there are none."""

    values: dict[str, Value]
    plan: EnginePlan | None = None
    pipeline: Spread | None = None
    """Frames a second."""
    per_second: float | None = None
    """What the network alone computes, in pictures of one tile; None unless there is one model."""
    failure: str | None = None

    @property
    def network(self) -> float | None:
        """The same in frames."""
        if self.plan is None or self.per_second is None:
            return None
        return self.per_second / self.plan.geometries[0].tiles

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plan = self.plan
        return {
            "values": self.values,
            "batch": None if plan is None else plan.batch,
            "streams": None if plan is None else plan.streams,
            "backend": None if plan is None else plan.backend,
            "pipeline_fps": None if self.pipeline is None else self.pipeline.as_dict(),
            "network_fps": self.network,
            "failure": self.failure,
        }


@attrs.frozen
class SweepReport:
    """All combinations, and what of it the tuning record has now.  At least one was measured."""

    axes: Axes
    settings: Settings
    points: tuple[Point, ...]
    kept: tuple[tuning.Kept, ...]
    fingerprint: EngineFingerprint
    """Of the first combination's plan."""

    @property
    def measured(self) -> tuple[Point, ...]:
        return tuple(point for point in self.points if point.pipeline is not None)

    @property
    def best(self) -> Point:
        """The fastest pipeline; of equals the first."""
        return max(self.measured, key=lambda point: point.pipeline.median if point.pipeline else 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as ``schemas/benchmark.json`` has them."""
        plan = self.measured[0].plan
        assert plan is not None
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "sweep",
            "settings": self.settings.as_dict(),
            "axes": {axis: list(values) for axis, values in self.axes.items()},
            "points": [point.as_dict() for point in self.points],
            "best": self.points.index(self.best),
            "kept": [kept.as_dict() for kept in self.kept],
            "fingerprint": self.fingerprint.as_dict(),
            "plan": plan.as_dict(),
        }

    def text(self) -> str:
        """A table for people, and what was kept."""
        plan = self.measured[0].plan
        assert plan is not None
        lines = [f"{left:<9} {right}" for left, right in plan_rows(plan, encode=self.settings.encode)[:2]]
        lines += ["", "".join(f"{axis:<9}" for axis in self.axes) + f"{'pipeline fps':<28}{'network fps':<13}backend"]
        for point in self.points:
            cells = "".join(f"{_shown(value):<9}" for value in point.values.values())
            if point.pipeline is None or point.plan is None:
                lines.append(f"{cells}{point.failure}")
                continue
            network = "" if point.network is None else f"{point.network:.4g}"
            best = "  best" if point is self.best else ""
            lines.append(f"{cells}{point.pipeline.text():<28}{network:<13}{point.plan.backend}{best}")
        return "\n".join([*lines, "", *(kept.text() for kept in self.kept)])


def _shown(value: Value) -> str:
    return "auto" if value is None else str(value)


def run_sweep(
    options: UpscaleOptions,
    settings: Settings,
    axes: Axes,
    pipeline: Callable[[EnginePlan, Steps, Settings], Spread] | None = None,
) -> SweepReport:
    """Measure every combination and remember what batches and streams give, so that ``auto`` takes the best.

    What cannot be planned or run is told in its place; if nothing can, the first error is raised.  ``pipeline``
    measures one plan in place of :func:`pipeline_speed`.  Blocking, for as long as all runs take.
    """
    for axis in axes.keys() & {"batch", "streams", "tile"}:
        if getattr(options, axis) is not None:
            raise UsageError(f"--{axis} is set, and --sweep varies it", remedy=f"leave out --{axis}")
    measure = pipeline or pipeline_speed
    points: list[Point] = []
    found: list[tuple[EnginePlan, Steps]] = []
    incomplete: set[Value] = set()
    """Sizes of tiles with which something failed that might go another time."""
    first: RaveError | None = None
    for values in combinations(axes):
        try:
            plan, steps = _planned(options, values)
            speed = measure(plan, steps, settings)
            rate = tuning.network_rate(plan, steps) if len(plan.models) == 1 else None
        except RaveError as error:
            first = first or error
            if not isinstance(error, UsageError):
                incomplete.add(values.get("tile", options.tile))
            points.append(Point(values, failure=str(error)))
            log.info("%s: %s", values, error)
            continue
        points.append(Point(values, plan, speed, rate))
        log.info("%s: pipeline %s", values, speed.text(" fps"))
        found.append((plan, steps))
    if not found:
        assert first is not None
        raise first
    kept = _kept(options, points, found, incomplete) if axes.keys() & {"batch", "streams"} else ()
    return SweepReport(axes, settings, tuple(points), kept, fingerprint_of(found[0][0]))


def pipeline_speed(plan: EnginePlan, steps: Steps, settings: Settings) -> Spread:
    """Frames a second of the pipeline, over all runs that count."""
    rounds = Rounds(plan, steps)
    speeds = [
        rounds.pipeline(settings.frames, encode=settings.encode).fps for _ in range(settings.warm_up + settings.repeat)
    ]
    return Spread.of(speeds[settings.warm_up :])


def _planned(options: UpscaleOptions, values: dict[str, Value]) -> tuple[EnginePlan, Steps]:
    depth = values.get("depth")
    varied: dict[str, Any] = {axis: value for axis, value in values.items() if axis != "depth"}
    plan, steps = make_plan(attrs.evolve(options, **varied))
    if depth is None:
        return plan, steps
    channels = PipelineConfig(depth, depth, depth)
    work = plan.work(steps)
    fit = fit_with(work, plan.fit, plan.memory_limit, streams=plan.streams, batch=plan.batch, channels=channels)
    if fit is None:
        raise OutOfMemory(f"queues of {depth} frames do not fit into memory")
    return attrs.evolve(plan, fit=fit), steps


def _kept(
    options: UpscaleOptions, points: list[Point], found: list[tuple[EnginePlan, Steps]], incomplete: set[Value]
) -> tuple[tuning.Kept, ...]:
    """Remember the speeds of each size of tiles and each backend; of several depths the network has one speed."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    measured = [point for point in points if point.plan is not None]
    for number, (plan, _) in enumerate(found):
        groups.setdefault((plan.backend, plan.options.tile, plan.geometries), []).append(number)
    kept = []
    for members in groups.values():
        plan, steps = found[members[0]]
        # What auto looks for is under the options of a plan that leaves the choice to it.
        asked = attrs.evolve(options, tile=plan.options.tile)
        speeds: dict[tuple[int, int], tuning.Speed] = {}
        for number in members:
            there, rate = found[number][0], measured[number].per_second
            if rate is not None:
                speeds.setdefault((there.batch, there.streams), tuning.Speed(there.batch, there.streams, rate))
        complete = plan.options.tile not in incomplete
        kept.append(tuning.keep(attrs.evolve(plan, options=asked), steps, speeds.values(), complete=complete))
    return tuple(kept)
