"""What a finished run says about itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from rave_trio.fingerprint import EngineFingerprint
from rave_trio.media.findings import Findings
from rave_trio.memory import LedgerStats, PoolStats
from rave_trio.pipeline import PipelineMetrics
from rave_trio.plan import EnginePlan
from rave_trio.promises import Witnessed

if TYPE_CHECKING:
    from rave_trio.audit.findings import AuditReport

SCHEMA_VERSION = 1
"""Of what :meth:`PipelineReport.as_dict` gives: raised when a field goes or changes its meaning, not when one comes."""

SCHEMA = Path(__file__).parent / "schemas" / "report.json"
"""The JSON Schema (draft 2020-12) of the same."""


@attrs.frozen
class PipelineReport:
    """The account of one run that published its result.  A frozen value, for any thread.

    >>> import rave_trio
    >>> report = rave_trio.upscale_sync("in.mkv", "out.mkv")
    >>> report.frames, report.metrics.frames_decoded, report.as_dict()["schema_version"]
    (4, 4, 1)
    """

    plan: EnginePlan
    """What was decided before the run."""
    output: Path
    """The published file, or the pattern of numbered pictures."""
    frames: int
    """Frames that were decoded, upscaled, encoded and published."""
    seconds: float
    """Wall time from the first frame asked for to the last one encoded."""
    metrics: PipelineMetrics
    """Frames and seconds of each stage, and the depths of the channels."""
    ledger: LedgerStats
    """Memory of frames and network, in bytes, on the device that computes: after the run, and at most."""
    pool: PoolStats
    """How requests for memory were met."""
    page_locked: LedgerStats
    """The host's memory that a GPU copied to, beside ``ledger``, which on a GPU is the account of its own memory."""
    findings: Findings
    """What was found in the input only while reading it."""
    fingerprint: EngineFingerprint
    series: dict[str, list[float | None]]
    """The run's numbers over time, by column; ``rave_trio.observe.watch.COLUMNS`` says what they are."""
    witnessed: Witnessed | None = None
    """What the contract had looked at, if anything."""
    notes: tuple[str, ...] = ()
    """The same in words, and what could not be published; the plan has notes of its own."""
    audit: AuditReport | None = None
    """What the audit says, where one was asked for."""

    @property
    def fps(self) -> float:
        """Frames per second of wall time."""
        return self.frames / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as ``schemas/report.json`` has them."""
        described = {
            "schema_version": SCHEMA_VERSION,
            "output": str(self.output),
            "frames": self.frames,
            "seconds": self.seconds,
            "fps": self.fps,
            "bottleneck": self.metrics.bottleneck,
            "input": self.findings.as_dict(),
            "notes": list(self.notes),
            "metrics": self.metrics.as_dict(),
            "memory": attrs.asdict(self.ledger),
            "page_locked": attrs.asdict(self.page_locked),
            "pool": {**attrs.asdict(self.pool), "hit_rate": self.pool.hit_rate},
            "series": self.series,
            "fingerprint": self.fingerprint.as_dict(),
            "contract": None if self.witnessed is None else self.witnessed.as_dict(),
            "plan": self.plan.as_dict(),
        }
        return described if self.audit is None else {**described, "audit": self.audit.as_dict()}
