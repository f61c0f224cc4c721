"""Frames and memory through a run: as many at every hand-over, and the same memory again and again."""

from __future__ import annotations

import attrs

from rave_trio.audit.findings import AuditFinding, Level
from rave_trio.errors import FrameCountMismatch
from rave_trio.pipeline import PipelineMetrics

ENOUGH_REQUESTS = 100
"""Fewer say nothing of a rate."""

WANTED_HIT_RATE = 0.99
LEAST_HIT_RATE = 0.90
"""Of the requests for memory in the steady state: less than the first is a warning, less than the second a failure."""


def judge_channels(metrics: PipelineMetrics) -> AuditFinding:
    """Whether as many frames went into and out of every stage and channel.  Fails where not, with the place."""
    figures = {
        **{stage.name: [stage.frames_in, stage.frames_out] for stage in metrics.stages},
        **{channel.name: [channel.sent, channel.received] for channel in metrics.channels},
    }
    try:
        metrics.validate()
    except FrameCountMismatch as error:
        return AuditFinding(Level.FAIL, "channels", str(error), figures=figures)
    told = f"{metrics.frames_encoded} frames in and out of each stage and channel"
    return AuditFinding(Level.PASS, "channels", told, figures=figures)


def judge_pool(seen: AuditFinding) -> AuditFinding:
    """What a run's audit found of its pool, by the stricter measure of a run that was made to be measured.

    A failure, which is about open leases, stays one.
    """
    hits, misses = seen.figures["hits"], seen.figures["misses"]
    asked = hits + misses
    if seen.level is Level.FAIL:
        return seen
    if asked < ENOUGH_REQUESTS:
        return attrs.evolve(seen, level=Level.WARN)
    rate = hits / asked
    level = Level.PASS if rate >= WANTED_HIT_RATE else Level.WARN if rate >= LEAST_HIT_RATE else Level.FAIL
    return attrs.evolve(seen, level=level, message=f"{rate:.1%} of {asked} requests met by the pool")
