"""Whether the pipeline's stages work at the same time.

What overlaps in a job depends on its slowest stage: where one takes all the time, the others wait, and should.  So what
is judged is a **balanced** run, in which a frame costs every stage the same wait, whatever the machine computes: there
a pipeline that hands frames over well has all stages busy, and one that does not has one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import attrs

from rave_trio.audit.findings import AuditFinding, Level
from rave_trio.devices.pool import device_pool
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.frames import Frame
from rave_trio.memory import Ledger
from rave_trio.pipeline import UpscalePipeline
from rave_trio.pipeline.metrics import BUSY, STAGES
from rave_trio.testing import CountingEncoder, SimulatedBackend, SyntheticDecoder, SyntheticToSurface, SyntheticToTensor

CODE = "overlap"

WANTED = 0.80
"""Share of the time in which two stages or more have to be busy."""

FRAMES = 100
COST = 4e-3
"""Seconds that each stage takes for a frame: far above what a hand-over takes, which is a tenth of a millisecond."""

SIZE = 64, 32
SCALE = 2


@attrs.frozen
class Span:
    """A stage was busy from ``start`` to ``end``, in seconds of one clock."""

    stage: str
    start: float
    end: float


class Spans:
    """An Observer of the pipeline that keeps when its stages were busy."""

    def __init__(self) -> None:
        self.busy: list[Span] = []

    def span(self, stage: str, activity: str, start: float, end: float, frame: int | None) -> None:
        if activity == BUSY:
            self.busy.append(Span(stage, start, end))

    def depth(self, channel: str, depth: int) -> None:
        """Not kept."""


def overlapping(spans: Sequence[Span]) -> float:
    """The share of the time in which at least two stages are busy; 0 where there is no such time.

    Counts from when the last stage is first busy to when the first stage last was: filling and draining are left out.
    """
    begin = min((span.start for span in spans if span.stage == STAGES[-1]), default=0.0)
    end = max((span.end for span in spans if span.stage == STAGES[0]), default=0.0)
    if end <= begin:
        return 0.0
    changes = [(min(max(at, begin), end), by) for span in spans for at, by in ((span.start, 1), (span.end, -1))]
    busy, last, together = 0, begin, 0.0
    for at, by in sorted(changes):
        together += (at - last) * (busy >= 2)
        busy, last = busy + by, at
    return together / (end - begin)


def judge_overlap(spans: Sequence[Span]) -> AuditFinding:
    """Whether the stages of a balanced run overlap.  Warns if not, with the stage that was busy longest."""
    share = overlapping(spans)
    busy = {stage: sum(span.end - span.start for span in spans if span.stage == stage) for stage in STAGES}
    figures = {"share": share, "wanted": WANTED, "busy_seconds": busy}
    told = f"two stages or more are busy in {share:.0%} of the time of a balanced run"
    if share >= WANTED:
        return AuditFinding(Level.PASS, CODE, told, figures=figures)
    slowest = max(STAGES, key=lambda stage: busy[stage])
    return AuditFinding(Level.WARN, CODE, f"{told}; {slowest} was busy longest", slowest, figures)


async def balanced_run(frames: int = FRAMES, costs: Mapping[str, float] | None = None) -> Spans:
    """Run synthetic frames through stages that each take :data:`COST` for one, or what ``costs`` has for a stage."""
    taking = {**dict.fromkeys(STAGES, COST), **(costs or {})}
    width, height = SIZE
    larger = SCALE * width, SCALE * height
    spans, device = Spans(), SimulatedDevice(1 << 26)
    pool = device_pool(device, Ledger())
    decoder, to_tensor = _Decoder(frames, width, height, pool), _ToTensor(width, height, pool)
    backend = _Backend(device, pool, SCALE, 2)
    decoder.cost, to_tensor.cost, backend.cost = (taking[stage] for stage in STAGES[:3])
    try:
        await UpscalePipeline(observer=spans).run(
            decoder,
            to_tensor,
            backend,
            SyntheticToSurface(*larger, pool),
            CountingEncoder(*larger, lambda _index: time.sleep(taking["encode"])),
        )
    finally:
        pool.close()
        device.close()
    return spans


class _Decoder(SyntheticDecoder):
    cost = COST

    def read(self) -> Frame | None:
        time.sleep(self.cost)
        return super().read()


class _ToTensor(SyntheticToTensor):
    cost = COST

    def convert(self, frame: Frame) -> Frame:
        time.sleep(self.cost)
        return super().convert(frame)


class _Backend(SimulatedBackend):
    cost = COST

    def collect(self) -> Frame:
        time.sleep(self.cost)
        return super().collect()
