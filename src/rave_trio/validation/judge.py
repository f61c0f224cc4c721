"""A run beside what its fixture says of it."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from rave_trio.audit.findings import AuditFinding, Level
from rave_trio.report import PipelineReport
from rave_trio.validation.fixture import Fixture, Hashes

LATENCIES = ("inference_p95_ms", "inference_ms", "frame_p95_ms", "frame_ms")


@attrs.frozen
class Outcome:
    """Of one run, what fixtures speak of."""

    hashes: Hashes
    """What this machine makes of the first frames, and what it is."""
    frames: int
    seconds: float
    """From the first frame asked for to the last one encoded."""
    memory: int
    """The most bytes that the engine held at once, by its ledger."""
    latencies: dict[str, float]
    """Milliseconds, by name."""

    @classmethod
    def of(cls, report: PipelineReport) -> Outcome:
        """That of a run whose contract had frames hashed."""
        seen, plan = report.witnessed, report.plan
        assert seen is not None
        return cls(
            Hashes(device=plan.device.name, backend=plan.backend, precision=plan.precision, frames=seen.hashes),
            report.frames,
            report.seconds,
            report.ledger.peak,
            {name: getattr(seen, name) for name in LATENCIES},
        )


def judge(fixture: Fixture, outcome: Outcome) -> tuple[AuditFinding, ...]:
    """A finding for each thing that the fixture speaks of.  Hashes that cannot be compared are a warning."""
    return tuple(_findings(fixture, outcome))


def _findings(fixture: Fixture, outcome: Outcome) -> Iterator[AuditFinding]:
    if fixture.frames is not None:
        same = outcome.frames == fixture.frames
        told = f"{outcome.frames} frames" if same else f"{outcome.frames} frames, and {fixture.frames} are expected"
        figures: dict[str, float] = {"expected": fixture.frames, "found": outcome.frames}
        yield AuditFinding(Level.PASS if same else Level.FAIL, "frames", told, figures=figures)
    yield _judge_hashes(fixture, outcome.hashes)
    limits: list[tuple[str, float | None, float, str]] = [
        ("seconds", fixture.max_seconds, outcome.seconds, "s"),
        ("memory", fixture.memory_limit, outcome.memory, "B"),
        *((name, getattr(fixture, f"max_{name}"), outcome.latencies[name], "ms") for name in LATENCIES),
    ]
    for name, most, found, unit in limits:
        if most is not None:
            level = Level.PASS if found <= most else Level.FAIL
            figures = {"most": most, "found": found}
            yield AuditFinding(
                level, name, f"{_number(found)} {unit}, of {_number(most)} {unit} at most", figures=figures
            )


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _judge_hashes(fixture: Fixture, found: Hashes) -> AuditFinding:
    here = ", ".join(map(str, found.made_on))
    expected = next((each for each in fixture.hashes if each.made_on == found.made_on), None)
    figures = {"here": list(found.made_on), "found": list(found.frames or ())}
    if expected is None:
        there = "; ".join(", ".join(map(str, each.made_on)) for each in fixture.hashes)
        told = f"not comparable: there are hashes of {there}" if there else "there are none to compare with"
        return AuditFinding(Level.WARN, "hashes", f"{told}; this is {here} (--update adds them)", figures=figures)
    wanted, got = expected.frames or (), found.frames or ()
    figures["expected"] = list(wanted)
    if len(got) < len(wanted):
        told = f"{len(wanted)} hashes are expected, and {len(got)} frames were hashed"
        return AuditFinding(Level.FAIL, "hashes", told, figures=figures)
    other = [at for at, (one, two) in enumerate(zip(wanted, got, strict=False)) if one != two]
    if other:
        told = f"{len(other)} of {len(wanted)} frames are others, from frame {other[0]} on, on {here}"
        return AuditFinding(Level.FAIL, "hashes", told, figures={**figures, "frames": other})
    return AuditFinding(Level.PASS, "hashes", f"{len(wanted)} frames are the same, on {here}", figures=figures)
