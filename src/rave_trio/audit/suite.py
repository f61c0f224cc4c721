"""All checks, on real jobs: ``rave-trio audit``."""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from rave_trio.audit.allocations import AllocationLooks, judge_allocations
from rave_trio.audit.clip import write_clip
from rave_trio.audit.copies import CODE as COPIES
from rave_trio.audit.copies import smallest_plane
from rave_trio.audit.findings import AuditFinding, AuditReport, Level
from rave_trio.audit.flow import judge_channels, judge_pool
from rave_trio.audit.overlap import balanced_run, judge_overlap
from rave_trio.audit.repeats import RepeatedRun, judge_determinism, judge_growth, judge_leaks
from rave_trio.audit.stress import stress_test_synthetic
from rave_trio.contract import RunContract
from rave_trio.devices.cpu import resident_bytes
from rave_trio.errors import AuditFailed, AuditUnavailable
from rave_trio.gpu.transfers import plane_bytes
from rave_trio.job import upscale
from rave_trio.report import PipelineReport
from rave_trio.testing import holdings, left_since

HASHED = 8
"""Frames of each repeated run."""


@attrs.frozen
class Clip:
    """One to upscale, in H.264: in 4:2:0 GPUs decode it too."""

    frames: int
    width: int
    height: int
    pixel_format: str = "yuv420p"

    def write(self, path: Path) -> None:
        write_clip(path, self.frames, self.width, self.height, "libx264", self.pixel_format)


@attrs.frozen
class Extent:
    """How much is run."""

    runs: int
    """How often the short clip is upscaled."""
    stressed: int
    """Frames of the stress test."""
    steady: Clip = Clip(96, 160, 96)
    """A run that is long enough for a steady state in which the pool's requests can be counted."""
    short: Clip = Clip(16, 160, 96)
    large: Clip = Clip(28, 384, 352, "yuv444p")
    """Each of its planes is larger than anything else that is allocated while frames flow."""


WHOLE = Extent(runs=12, stressed=300)
QUICK = Extent(runs=6, stressed=100)


async def audit_engine(
    source: Path | None = None,
    *,
    device: str = "auto",
    quick: bool = False,
    on_check: Callable[[str], None] = lambda name: None,
) -> AuditReport:
    """Run jobs on ``device`` and say of every check how it came out.

    The jobs are on clips of its own, or all on ``source``, which should be of a few seconds.  ``on_check`` is called
    with what is checked next, in words.  tracemalloc is switched on while it runs, unless it is already.

    Raises what :func:`rave_trio.upscale` raises for a job that cannot be.
    """
    extent = QUICK if quick else WHOLE
    with tempfile.TemporaryDirectory(prefix="rave-trio-audit-") as folder:
        jobs = _Jobs(Path(folder), source, device)
        on_check("a steady run")
        findings = await _steady(jobs, extent)
        started = not tracemalloc.is_tracing()
        if started:
            tracemalloc.start()
        try:
            on_check(f"{extent.runs} runs of one job")
            findings += await _repeated(jobs, extent)
            on_check("a run of larger frames")
            findings.append(await _allocating(jobs, extent))
        finally:
            if started:
                tracemalloc.stop()
    on_check("a balanced run")
    findings.append(judge_overlap((await balanced_run()).busy))
    on_check("a stress test")
    findings.append(await _stressed(extent.stressed))
    return AuditReport(tuple(findings))


class _Jobs:
    """Upscales into a folder, again and again to the same place."""

    def __init__(self, folder: Path, source: Path | None, device: str) -> None:
        self._folder = folder
        self._source = source
        self._device = device

    async def run(self, clip: Clip, **options: Any) -> PipelineReport:
        source = self._source
        if source is None:
            source = self._folder / f"{clip.width}x{clip.height}-{clip.frames}.mkv"
            if not source.exists():
                clip.write(source)
        how = {"device": self._device, "overwrite": True, "drop_unsupported": True, **options}
        return await upscale(source, self._folder / "out.mkv", **how)


async def _steady(jobs: _Jobs, extent: Extent) -> list[AuditFinding]:
    """What the audit of a run says, its pool judged more strictly, and the counts at every channel."""
    unseen: list[AuditFinding] = []
    try:
        report = await jobs.run(extent.steady, audit=True)
    except AuditFailed as failed:
        report = failed.report
    except AuditUnavailable as error:
        unseen = [AuditFinding(Level.WARN, code, f"not judged: {error}") for code in (COPIES, "pool")]
        report = await jobs.run(extent.steady)
    seen = () if report.audit is None else report.audit.findings
    judged = [judge_pool(finding) if finding.code == "pool" else finding for finding in seen]
    return [*judged, *unseen, judge_channels(report.metrics)]


async def _repeated(jobs: _Jobs, extent: Extent) -> list[AuditFinding]:
    runs: list[RepeatedRun] = []
    contract = RunContract(determinism_hash_frames=HASHED)
    before = holdings()
    for _ in range(extent.runs):
        report = await jobs.run(extent.short, contract=contract)
        hashes = () if report.witnessed is None else report.witnessed.hashes
        ledger = report.ledger.current + report.page_locked.current
        del report
        gc.collect()
        runs.append(RepeatedRun(hashes, ledger, tracemalloc.get_traced_memory()[0], resident_bytes()))
    return [judge_determinism(runs), judge_leaks(runs, left_since(before)), judge_growth(runs)]


async def _allocating(jobs: _Jobs, extent: Extent) -> AuditFinding:
    looks = AllocationLooks()
    report = await jobs.run(extent.large, on_progress=looks)
    pictures = plane_bytes(report.plan.surface), plane_bytes(report.plan.encoder.surface)
    return judge_allocations(looks.rises, smallest_plane(pictures))


async def _stressed(frames: int) -> AuditFinding:
    report = await stress_test_synthetic(frames=frames)
    if report.passed:
        told = f"{report.frames_encoded} synthetic frames of several sizes on a device with little memory"
        return AuditFinding(Level.PASS, "stress", told, figures=report.as_dict())
    return AuditFinding(Level.FAIL, "stress", "; ".join(report.failures), figures=report.as_dict())
