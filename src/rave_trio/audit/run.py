"""What is watched of one run, and what comes of it: ``rave-trio upscale --audit``."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from rave_trio.audit.copies import CODE as COPIES
from rave_trio.audit.copies import WARM_UP, ExpectedCopies, judge_copies, smallest_plane
from rave_trio.audit.findings import AuditFinding, AuditReport, Level, listed
from rave_trio.audit.flow import ENOUGH_REQUESTS
from rave_trio.audit.memory import MemorySample, judge_memory
from rave_trio.devices.activity import Activity
from rave_trio.devices.cupti import CuptiUnavailable, Recorder
from rave_trio.devices.nvml import NvmlUnavailable
from rave_trio.errors import AuditUnavailable
from rave_trio.frames import Closable, Frame
from rave_trio.gpu.transfers import plane_bytes
from rave_trio.media.parts import Part, PartWriter
from rave_trio.memory import Ledger, PoolStats
from rave_trio.pipeline import PipelineMetrics
from rave_trio.plan import EnginePlan

log = logging.getLogger("rave_trio.audit")

WANTED_HIT_RATE = 0.90
"""Of the requests for memory in the steady state."""


class Records(Protocol):
    """What records copies: :class:`rave_trio.devices.cupti.Recorder`, or what stands in for it."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def mark(self) -> None: ...

    def now(self) -> int: ...

    @property
    def activity(self) -> Activity: ...


class RunAudit:
    """Watches one run from before its device is opened until after it is closed.

    On a GPU it records copies and allocations, and holds the device's context open, so that records of what is done
    last are not lost with it.  Calls block, from any thread, one at a time.
    """

    def __init__(self, plan: EnginePlan, ledger: Ledger, records: Records | None, open_device: Callable[[], Closable]):
        """``records`` is None for a run on the CPU.  Raises AuditUnavailable, or what ``open_device`` raises."""
        self._plan = plan
        self._ledger = ledger
        self._records = records
        self._device: Closable | None = None
        self._samples: dict[str, MemorySample] = {}
        self._pool_at_mark: PoolStats | None = None
        self._spoilt: str | None = None
        """Why the steady state's beginning is not known, if it is not though it came."""
        if records is None:
            return
        try:
            records.start()
        except CuptiUnavailable as error:
            raise AuditUnavailable(str(error)) from error
        try:
            self.sample("before")
            self._device = open_device()
            self.sample("context")
        except BaseException:
            self.close()
            raise

    def sample(self, moment: str) -> None:
        """Note what the ledger and NVML say now; nothing on the CPU, or where NVML does not answer."""
        uuid = None if self._plan.gpu is None else self._plan.gpu.uuid
        if uuid is None or self._records is None:
            return
        try:
            owners = self._ledger.stats().by_owner
            self._samples[moment] = MemorySample.take(moment, uuid, owners, self._now())
        except NvmlUnavailable as error:
            log.warning("memory is not audited: %s", error)

    def _now(self) -> int:
        assert self._records is not None
        try:
            return self._records.now()
        except CuptiUnavailable as error:
            raise NvmlUnavailable(str(error)) from error

    def around(self, encoder: PartWriter, pool_stats: Callable[[], PoolStats]) -> PartWriter:
        """The encoder, whose frames are counted: after :data:`WARM_UP` of them the steady state begins.

        What goes wrong with watching is told in the report and does not keep a frame from being encoded.
        """

        def warm() -> None:
            try:
                self._pool_at_mark = pool_stats()
                if self._records is not None:
                    self._records.mark()
                self.sample("steady")
            except Exception as error:
                log.debug("the steady state's beginning", exc_info=True)
                self._spoilt = f"{type(error).__name__}: {error}"

        return _Counting(encoder, warm)

    def report(self, frames: int, metrics: PipelineMetrics, pool: PoolStats, retreats: int) -> AuditReport:
        """What all checks say of a run of ``frames`` published frames, everything of which is closed by now."""
        findings = [
            _judge_counts(frames, metrics),
            self._judge_pool(pool),
            self._judge_ledger(),
        ]
        if self._records is None:
            findings.append(AuditFinding(Level.PASS, COPIES, "no device copies: everything runs on the CPU"))
            return AuditReport(tuple(findings))
        self.sample("end")
        self._records.stop()
        activity = self._records.activity
        findings.append(self._judge_copies(activity, frames, retreats))
        findings.append(self._judge_memory(activity, frames))
        return AuditReport(tuple(findings))

    def close(self) -> None:
        """End the recording and let go of the device.  Idempotent."""
        if self._records is not None:
            self._records.stop()
        device, self._device = self._device, None
        if device is not None:
            device.close()

    def _judge_copies(self, activity: Activity, frames: int, retreats: int) -> AuditFinding:
        found = judge_copies(expected_copies(self._plan), activity, frames)
        why = f"the steady state's beginning was missed ({self._spoilt})" if self._spoilt else None
        if retreats and found.level is Level.FAIL:
            why = "memory ran out and the network was loaded again"
        if why is None:
            return found
        return AuditFinding(Level.WARN, COPIES, f"not judged, since {why}; {found.message}", found.stage, found.figures)

    def _judge_memory(self, activity: Activity, frames: int) -> AuditFinding:
        samples = dict(self._samples)
        if frames < 2 * WARM_UP:  # the backend may have been closed by then
            samples.pop("steady", None)
        steady = samples.get("steady")
        allocated = 0 if steady is None else activity.held_at(steady.at)
        return judge_memory(samples, allocated, activity.held_at_the_end())

    def _judge_pool(self, pool: PoolStats) -> AuditFinding:
        begun = self._pool_at_mark
        hits, misses = (0, 0) if begun is None else (pool.hits - begun.hits, pool.misses - begun.misses)
        asked = hits + misses
        rate = hits / asked if asked else 0.0
        figures = {"hits": hits, "misses": misses, "hit_rate": rate, "leased": pool.leased}
        if pool.leased:
            return AuditFinding(Level.FAIL, "pool", f"{pool.leased} leases are still open", figures=figures)
        if begun is None:
            told = f"no hit rate: the run ended with the frames that warm up, the first {WARM_UP}"
            return AuditFinding(Level.PASS, "pool", told, figures=figures)
        if asked < ENOUGH_REQUESTS:
            told = f"no hit rate: it takes {ENOUGH_REQUESTS} requests for memory after the first {WARM_UP} frames"
            told += f", and there were {asked or 'none'}"
            return AuditFinding(Level.PASS, "pool", told, figures=figures)
        level = Level.PASS if rate >= WANTED_HIT_RATE else Level.WARN
        return AuditFinding(level, "pool", f"{rate:.1%} of {asked} requests met by the pool", figures=figures)

    def _judge_ledger(self) -> AuditFinding:
        stats = self._ledger.stats()
        figures: dict[str, Any] = {"left": stats.current, "by_owner": stats.by_owner, "peak": stats.peak}
        if stats.current:
            owners = listed(f"{owner} {nbytes} B" for owner, nbytes in stats.by_owner.items())
            return AuditFinding(Level.FAIL, "ledger", f"not at zero after the run: {owners}", figures=figures)
        return AuditFinding(Level.PASS, "ledger", "at zero after the run", figures=figures)


def open_audit(plan: EnginePlan, ledger: Ledger) -> RunAudit:
    """Begin to watch, before anything else of the run is made.

    Raises AuditUnavailable where the plan has a GPU and CUPTI cannot record there, and DeviceUnknown or OutOfMemory
    where the GPU cannot be opened.
    """
    gpu = plan.gpu

    def open_device() -> Closable:
        from rave_trio.devices.cuda import CudaDevice

        assert gpu is not None
        assert gpu.cuda_ordinal is not None
        return CudaDevice(gpu.cuda_ordinal)

    return RunAudit(plan, ledger, None if gpu is None else Recorder(), open_device)


def expected_copies(plan: EnginePlan) -> ExpectedCopies:
    """The plan's copies, and from how many bytes on a copy counts as one of a picture."""
    pictures = (plane_bytes(plan.surface), plane_bytes(plan.encoder.surface))
    hashed = Counter(
        {key: n * plan.contract.hashed_frames for key, n in Counter(("DtoH", size) for size in pictures[1]).items()}
    )
    return ExpectedCopies(plan.copies, smallest_plane(pictures), hashed)


def _judge_counts(frames: int, metrics: PipelineMetrics) -> AuditFinding:
    counts = {"decoded": metrics.frames_decoded, "encoded": metrics.frames_encoded, "published": frames}
    same = len(set(counts.values())) == 1
    told = f"{frames} frames in, each out once" if same else listed(f"{n} {what}" for what, n in counts.items())
    return AuditFinding(Level.PASS if same else Level.FAIL, "counts", told, figures=counts)


class _Counting:
    """An encoder that says when :data:`WARM_UP` frames are behind it: it may still work on one more."""

    def __init__(self, encoder: PartWriter, warm: Callable[[], None]) -> None:
        self._encoder = encoder
        self._warm = warm
        self._frames = 0

    @property
    def part(self) -> Part:
        return self._encoder.part

    @property
    def packets(self) -> int:
        return self._encoder.packets

    def write(self, frame: Frame) -> None:
        self._encoder.write(frame)
        self._frames += 1
        if self._frames == WARM_UP + 1:
            self._warm()

    def finish(self) -> Part:
        return self._encoder.finish()

    def close(self) -> None:
        self._encoder.close()
