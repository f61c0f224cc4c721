"""What a benchmark has found."""

from __future__ import annotations

from typing import Any

import attrs

from rave_trio.bench.rounds import Flow
from rave_trio.bench.spread import Spread
from rave_trio.fingerprint import EngineFingerprint
from rave_trio.pipeline import StageMetrics
from rave_trio.plan import EnginePlan

SCHEMA_VERSION = 1
"""Of the documents: raised when a field goes or changes its meaning, not when one comes."""


@attrs.frozen
class Settings:
    """How often, how much, and what of it."""

    frames: int = 48
    """At most, in each run."""
    repeat: int = 3
    """Runs that count."""
    warm_up: int = 1
    """Runs before those, which do not."""
    encode: bool = True
    """Whether pictures are encoded, or discarded."""
    synthetic: tuple[int, int] | None = None
    """Width and height of the clip, if one is made."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return attrs.asdict(self)


@attrs.frozen
class StageShare:
    """How a stage spent a run, in shares of the run's time, and the latency of its calls.

    What is missing to 1 is the time in which the stage had ended, and others had not.
    """

    name: str
    busy: float
    waiting_for_input: float
    waiting_for_output: float
    latency: dict[str, Any]
    """In seconds, as in a run's report."""

    @classmethod
    def of(cls, stage: StageMetrics, elapsed: float) -> StageShare:
        """``elapsed`` is the run's time in seconds."""
        return cls(
            stage.name,
            stage.busy / elapsed,
            stage.waiting_for_input / elapsed,
            stage.waiting_for_output / elapsed,
            stage.latency.as_dict(),
        )

    def text(self) -> str:
        """One line for people."""
        quantiles = ", ".join(f"{name} {1000 * self.latency[name]:.3g} ms" for name in ("p50", "p95", "p99"))
        return (
            f"busy {self.busy:4.0%}, waiting for input {self.waiting_for_input:4.0%}, "
            f"for output {self.waiting_for_output:4.0%}; a call takes {quantiles}"
        )


@attrs.frozen
class BenchmarkReport:
    """The pipeline and its network alone, measured in turn.

    Of the runs of the pipeline, ``typical`` is the one of the median speed (of an even number the faster of the two in
    the middle): stages, memory and pool are its own.
    """

    plan: EnginePlan
    settings: Settings
    fingerprint: EngineFingerprint
    pipeline: Spread
    """Frames a second."""
    network: Spread
    """The same of the models alone."""
    typical: Flow
    resident_peak: int
    """Bytes: the most that the process had of the host's memory, whatever for."""

    @property
    def ratio(self) -> Spread:
        """Pipeline against network, of each round."""
        return Spread.ratio(self.pipeline, self.network)

    @property
    def stages(self) -> tuple[StageShare, ...]:
        metrics = self.typical.metrics
        return tuple(StageShare.of(stage, metrics.elapsed) for stage in metrics.stages)

    @property
    def notes(self) -> tuple[str, ...]:
        found = self.typical.metrics.frames_encoded
        short = () if found == self.settings.frames else (f"the input has {found} frames, no more were measured",)
        return (*self.plan.notes, *short)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as ``schemas/benchmark.json`` has them."""
        pool, ledger = self.typical.pool, self.typical.ledger
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "benchmark",
            "settings": self.settings.as_dict(),
            "frames": self.typical.metrics.frames_encoded,
            "pipeline_fps": self.pipeline.as_dict(),
            "network_fps": self.network.as_dict(),
            "ratio": self.ratio.as_dict(),
            "bottleneck": self.typical.metrics.bottleneck,
            "stages": [attrs.asdict(stage) for stage in self.stages],
            "memory": {"peak": ledger.peak, "limit": ledger.limit, "resident_peak": self.resident_peak},
            "pool": {**attrs.asdict(pool), "hit_rate": pool.hit_rate},
            "notes": list(self.notes),
            "fingerprint": self.fingerprint.as_dict(),
            "plan": self.plan.as_dict(),
        }

    def rows(self) -> list[tuple[str, str]]:
        """For people."""
        flow, settings = self.typical, self.settings
        bottleneck = flow.metrics.bottleneck
        busy = next(stage.busy for stage in self.stages if stage.name == bottleneck)
        return [
            *plan_rows(self.plan, encode=settings.encode),
            (
                "runs",
                f"{settings.repeat} of {flow.metrics.frames_encoded} frames, in turn with the network alone; "
                f"before them {settings.warm_up} that do not count",
            ),
            ("pipeline", self.pipeline.text(" fps")),
            ("network", self.network.text(" fps")),
            ("ratio", self.ratio.text()),
            ("bottleneck", f"{bottleneck}, busy {busy:.0%} of the time"),
            *((f"  {stage.name}", stage.text()) for stage in self.stages),
            (
                "memory",
                f"at most {flow.ledger.peak / 1e6:,.1f} MB by the ledger, "
                f"{self.resident_peak / 1e6:,.0f} MB of the host's in all",
            ),
            ("pool", f"{flow.pool.hit_rate:.1%} of requests met without allocating"),
            *(("note", note) for note in self.notes),
        ]


def plan_rows(plan: EnginePlan, *, encode: bool) -> list[tuple[str, str]]:
    """What is measured."""
    source, target = plan.media.video.surface, plan.encoder.surface
    models = " and ".join(model.name for model in plan.models) or "no model"
    end = plan.encoder.encoder if encode else "discarded"
    return [
        ("measured", f"{models} on {plan.device.name}, {plan.backend} {plan.precision}"),
        (
            "pictures",
            f"{source.width}x{source.height} to {target.width}x{target.height}, "
            f"decoded by {plan.decoder}, {f'encoded by {end}' if encode else end}",
        ),
        ("at once", f"batch {plan.batch}, streams {plan.streams}"),
    ]
