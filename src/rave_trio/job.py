"""The one way in: plan, run, publish, report.  The command line, the library and any service go through here."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio
import trio.to_thread

from rave_trio.contract import RunContract
from rave_trio.errors import (
    AuditFailed,
    ContractBroken,
    Stopped,
)
from rave_trio.graph import StageGraph
from rave_trio.memory import Ledger, Waiting
from rave_trio.observe.page import write_report
from rave_trio.observe.watch import Watch
from rave_trio.options import UpscaleOptions
from rave_trio.pipeline import Stop, UpscalePipeline, run_stoppable
from rave_trio.pipeline.holding import hold, make
from rave_trio.plan import EnginePlan, make_plan
from rave_trio.profiles import with_profile
from rave_trio.progress import OnProgress
from rave_trio.report import PipelineReport
from rave_trio.running import Run, carry_out

if TYPE_CHECKING:
    from rave_trio.audit.run import RunAudit

log = logging.getLogger("rave_trio.job")


async def upscale(
    input: str | Path,
    output: str | Path,
    *,
    on_plan: Callable[[EnginePlan], None] | None = None,
    on_progress: OnProgress | None = None,
    stop: Stop | None = None,
    **options: Any,
) -> PipelineReport:
    """Upscale ``input`` to ``output`` inside a running Trio program.

    ``options`` are the fields of :class:`rave_trio.UpscaleOptions`.  ``on_plan`` is called once before the first frame,
    ``on_progress`` a few times a second; both run in the Trio thread and should return quickly.

    The output path changes only when the result is whole.  ``stop.request()``, or cancelling the surrounding scope,
    drains what is in flight and leaves it as ``OUT.partial.mkv`` (with the output's own extension); a second request
    ends at once and leaves nothing.

    Raises a :class:`rave_trio.errors.RaveError` that says what happened and what to do;
    :class:`~rave_trio.errors.Stopped` after a requested stop; ``trio.Cancelled`` after a cancelled scope.

    >>> import rave_trio
    >>> report = await rave_trio.upscale("in.mkv", "out.mkv", scale=2)
    >>> report.plan.encoder.surface.width, report.plan.encoder.surface.height
    (128, 96)
    """
    job = UpscaleOptions(input=input, output=output, **with_profile(options))
    stop = stop or Stop()
    early: Stopped | None = None

    async def work() -> PipelineReport | None:
        nonlocal early
        try:
            return await _run(job, stop, on_plan, on_progress)
        except Stopped as stopped:
            early = stopped  # told below, unless a cancellation from outside was the reason and goes on instead
            return None

    report = await run_stoppable(work, stop)
    if report is None:
        stopped = early or Stopped(f"stopped at once; {job.output} is as it was and no frames are kept")
        if job.trace is not None and not job.overwrite:
            stopped.remedy = "run the same command again, with --overwrite for the trace, to start over"
        raise stopped
    return report


def upscale_sync(input: str | Path, output: str | Path, **options: Any) -> PipelineReport:
    """:func:`upscale` for programs without Trio: runs its own event loop and returns the report.

    Blocking, for as long as the run takes; any thread, but not one in which Trio runs already.  ``options``
    are those of :func:`upscale`, and so are the errors.

    >>> import rave_trio
    >>> report = rave_trio.upscale_sync("in.mkv", "out.mkv", scale=2)
    >>> report.frames, report.output.name
    (4, 'out.mkv')
    >>> try:
    ...     rave_trio.upscale_sync("in.mkv", "out.mkv")
    ... except rave_trio.RaveError as error:
    ...     print(error.kind, "-", error.remedy)
    output_exists - choose another name, or replace it with --overwrite
    """

    async def main() -> PipelineReport:
        return await upscale(input, output, **options)

    return trio.run(main)


async def run_graph(
    input: str | Path,
    output: str | Path,
    graph: StageGraph,
    profile: str | None = None,
    contract: RunContract | None = None,
    **options: Any,
) -> PipelineReport:
    """:func:`upscale` by a graph: what is done with the frames is in it, and only there.

    ``profile`` fills what the graph leaves open, ``contract`` is kept or the run fails.  ``options`` are what else
    :func:`upscale` takes, such as ``overwrite``, ``device`` or ``on_progress``.

    Raises what :func:`upscale` does; a contract that cannot be kept is a ContractRefused, one that was broken a
    ContractBroken.

    >>> import rave_trio
    >>> from rave_trio import DecodeStage, EncodeStage, EnhanceStage, StageGraph
    >>> graph = StageGraph([DecodeStage(), EnhanceStage(scale=2), EncodeStage(crf=16)])
    >>> report = await rave_trio.run_graph("in.mkv", "out.mkv", graph, profile="quality")
    >>> dict(report.plan.encoder.options)["crf"]
    '16'
    """
    return await upscale(input, output, graph=graph, profile=profile, contract=contract, **options)


async def _run(
    options: UpscaleOptions,
    stop: Stop,
    on_plan: Callable[[EnginePlan], None] | None,
    on_progress: OnProgress | None,
) -> PipelineReport:
    plan, steps = await trio.to_thread.run_sync(make_plan, options)
    log.info("plan: %s", json.dumps(plan.as_dict(), default=str))
    if on_plan is not None:
        on_plan(plan)
    ledger, waiting = Ledger(plan.memory_limit), Waiting()
    async with contextlib.AsyncExitStack() as watched:
        watch = await hold(watched, Watch, plan, ledger)
        pipeline = UpscalePipeline(plan.fit.pipeline, waiting, watch.observer)
        run = Run(plan, pipeline, stop, on_progress, watch, ledger)
        audit = await _begin_audit(watched, plan, ledger, pipeline) if plan.audited else None
        part, pool, page_locked = await carry_out(plan, steps, ledger, waiting, pipeline, run, audit)
        report = PipelineReport(
            plan=plan,
            output=options.output,
            frames=part.frames,
            seconds=pipeline.metrics.elapsed,
            metrics=pipeline.metrics,
            ledger=ledger.stats(),
            pool=pool,
            page_locked=page_locked,
            findings=run.findings,
            witnessed=run.witnessed,
            fingerprint=watch.fingerprint,
            series=watch.series(),
            notes=tuple(run.notes),
        )
        if audit is not None:
            found = await make(audit.report, part.frames, report.metrics, pool, run.retreats)
            report = attrs.evolve(report, audit=found)
    report = await _written(attrs.evolve(report, notes=(*report.notes, *watch.notes)))
    log.info("published %s: %d frames in %.2f s", report.output, report.frames, report.seconds)
    _check_audit(report)
    return report


async def _begin_audit(
    held: contextlib.AsyncExitStack, plan: EnginePlan, ledger: Ledger, pipeline: UpscalePipeline
) -> RunAudit:
    """Begin the audit, which is loaded only where one was asked for."""
    from rave_trio.audit.run import open_audit

    return await hold(held, open_audit, plan, ledger, unless=lambda: bool(pipeline.abandoned))


def _check_audit(report: PipelineReport) -> None:
    """Raise AuditFailed, the result being where it should be, if a promise did not hold."""
    if report.audit is None:
        return
    from rave_trio.audit.findings import Level

    def found(level: Level) -> str:
        assert report.audit is not None
        return "; ".join(f"{finding.code}: {finding.message}" for finding in report.audit.of(level))

    if failures := found(Level.FAIL):
        failed = AuditFailed(f"{report.output} is complete, but its audit failed: {failures}")
        failed.report = report
        raise failed
    if report.plan.contract.fail_on_audit_warn and (warnings := found(Level.WARN)):
        told = f"the contract's fail_on_audit_warn was broken: {warnings}; {report.output} is complete"
        raise ContractBroken(told)


async def _written(report: PipelineReport) -> PipelineReport:
    """Write the report where it was asked for; if that cannot be, the result stands, and a note says so."""
    path = report.plan.options.report
    if path is None:
        return report
    try:
        await trio.to_thread.run_sync(write_report, report, path)
    except Exception as error:
        note = f"the report {path} could not be written: {getattr(error, 'strerror', None) or error}"
        log.info("%s", note, exc_info=not isinstance(error, OSError))
        return attrs.evolve(report, notes=(*report.notes, note))
    return report
