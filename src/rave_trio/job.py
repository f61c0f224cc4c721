"""The one way in: plan, run, publish, report.  The command line, the library and any service go through here."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import logging
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio
import trio.from_thread
import trio.to_thread

from rave_trio.assembly import assemble
from rave_trio.contract import RunContract
from rave_trio.errors import (
    AuditFailed,
    ContractBroken,
    FrameCountMismatch,
    InputHasNoVideo,
    RaveError,
    StageCrashed,
    Stopped,
)
from rave_trio.graph import StageGraph
from rave_trio.inference.retreat import RetreatingBackend
from rave_trio.media.carriage import plan_carriage
from rave_trio.media.containers import container_of, images_of
from rave_trio.media.decoder import VideoDecoder
from rave_trio.media.encoders import CAPTIONERS
from rave_trio.media.findings import Findings
from rave_trio.media.images import publish_images
from rave_trio.media.parts import Part, PartsFolder, PartWriter
from rave_trio.media.publish import Publication, publish
from rave_trio.media.sequence import ImageSequence
from rave_trio.memory import Ledger, LedgerStats, PoolStats, Waiting
from rave_trio.observe.health import HealthSnapshot
from rave_trio.observe.page import write_report
from rave_trio.observe.watch import INTERVAL, Watch
from rave_trio.options import UpscaleOptions
from rave_trio.output import partial_path
from rave_trio.pipeline import Converter, PipelineMetrics, Stop, UpscalePipeline, alongside, run_stoppable
from rave_trio.pipeline.holding import hold, make
from rave_trio.plan import EnginePlan, make_plan
from rave_trio.profiles import with_profile
from rave_trio.promises import SeenBackend, SeenConverter, SeenDecoder, SeenEncoder, Witness, Witnessed, broken
from rave_trio.report import PipelineReport
from rave_trio.steps import Step

if TYPE_CHECKING:
    from rave_trio.audit.run import RunAudit

log = logging.getLogger("rave_trio.job")

FIRST_NUMBER = 1
"""Of an image sequence whose input has no numbers of its own."""


@attrs.frozen
class Progress:
    """Where a run stands, as ``on_progress`` is told, in the Trio thread.  A value: it stays as it is.

    >>> import rave_trio
    >>> seen = []
    >>> report = rave_trio.upscale_sync("in.mkv", "out.mkv", on_progress=seen.append)
    >>> seen[-1].done, seen[-1].total, seen[-1].health().phase
    (4, 4, 'publish')
    """

    phase: str
    """``upscale``, then ``publish``."""
    done: int
    """Frames that are encoded."""
    total: int | None
    """How many there will be; an estimate unless the container counts its frames, None where nothing says."""
    metrics: PipelineMetrics
    _health: Callable[[], HealthSnapshot | None] = attrs.field(repr=False, eq=False)

    def health(self) -> HealthSnapshot:
        """How the run is when this is called, now or at any later moment, from any thread."""
        found = self._health()
        assert found is not None
        return found

    @property
    def fps(self) -> float:
        """Frames per second of wall time since the run began."""
        return self.done / self.metrics.elapsed if self.metrics.elapsed else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds to go, at the mean speed so far; None before the first frame, or where no total is known."""
        if not self.total or not self.fps:
            return None
        return max(0, self.total - self.done) / self.fps


OnProgress = Callable[[Progress], None]


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
        raise early or Stopped(f"stopped at once; {job.output} is as it was and nothing else is left")
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
        run = _Run(plan, pipeline, stop, on_progress, watch, ledger)
        audit = await _begin_audit(watched, plan, ledger, pipeline) if plan.audited else None
        part, pool, page_locked = await _carry_out(plan, steps, ledger, waiting, pipeline, run, audit)
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


async def _carry_out(
    plan: EnginePlan,
    steps: tuple[Step, ...],
    ledger: Ledger,
    waiting: Waiting,
    pipeline: UpscalePipeline,
    run: _Run,
    audit: RunAudit | None,
) -> tuple[Part, PoolStats, LedgerStats]:
    """Make all that the plan needs, run, publish, and close it again.

    Gives the part, what the pool has done, and what host memory was page-locked.
    """
    async with contextlib.AsyncExitStack() as held:
        # What a call that was left behind still uses is not closed: it would be pulled away from under it.
        assembly = await hold(held, assemble, plan, steps, ledger, waiting, unless=lambda: bool(pipeline.abandoned))
        parts = await hold(held, PartsFolder, plan.options.output)
        for owner, nbytes in _outside_the_pool(plan):
            held.callback(ledger.enter(f"{owner}, estimated", nbytes).close)
        decoder = await hold(held, assembly.decoder, unless=lambda: "decode" in pipeline.abandoned)
        backend = await hold(held, assembly.backend, unless=lambda: "inference" in pipeline.abandoned)
        encoder = await hold(held, assembly.encoder, parts, unless=lambda: "encode" in pipeline.abandoned)
        if audit is not None:
            await make(audit.sample, "network")
            encoder = audit.around(encoder, assembly.pool_stats)
        to_tensor = await make(assembly.to_tensor)
        to_surface = await make(assembly.to_surface)
        run.watch.attach(pipeline, assembly.pool_stats)
        if plan.contract.watches:
            run.witness = Witness(plan.contract, assembly.hash_of)

        async def work() -> Part:
            return await run.produce(decoder, to_tensor, backend, to_surface, encoder, parts)

        part = await alongside(work, run.tell)
    return part, assembly.pool_stats(), assembly.page_locked()


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
        log.warning("%s", note, exc_info=not isinstance(error, OSError))
        return attrs.evolve(report, notes=(*report.notes, note))
    return report


class _Run:
    """One run's middle: frames through the pipeline, and the finished part into its place."""

    def __init__(
        self,
        plan: EnginePlan,
        pipeline: UpscalePipeline,
        stop: Stop,
        on_progress: OnProgress | None,
        watch: Watch,
        ledger: Ledger,
    ) -> None:
        self._plan = plan
        self.watch = watch
        self._pipeline = pipeline
        self._stop = stop
        self._on_progress = on_progress
        self._ledger = ledger
        self.witness: Witness | None = None
        self.witnessed: Witnessed | None = None
        self.findings = Findings()
        self._shifts: tuple[Fraction, ...] = ()
        self.notes: list[str] = []
        self.retreats = 0

    async def produce(
        self,
        decoder: VideoDecoder,
        to_tensor: Converter,
        backend: RetreatingBackend,
        to_surface: Converter,
        encoder: PartWriter,
        parts: PartsFolder,
    ) -> Part:
        """Upscale every frame and publish.  Raises what kept the result from being complete, a partial file written."""
        metrics = await self._flow(decoder, to_tensor, backend, to_surface, encoder)
        self.watch.publishing()
        self.witnessed = None if self.witness is None else self.witness.seen()
        self.findings, self._shifts = decoder.findings, decoder.shifts
        self.notes += decoder.findings.notes()
        if decoder.findings.captioned_frames and self._plan.encoder.encoder not in CAPTIONERS:
            self.notes.append(f"closed captions are left out: {self._plan.encoder.encoder} cannot hold them")
        self.retreats = backend.retreats
        if backend.retreats:
            self.notes.append(f"memory ran out {backend.retreats} times: fewer at once or smaller tiles did with less")
        part = encoder.part
        if part.frames != metrics.frames_decoded or encoder.packets != part.frames:
            raise FrameCountMismatch(
                f"{metrics.frames_decoded} frames were decoded, {part.frames} encoded, {encoder.packets} written"
            )
        if decoder.defect is None and decoder.exhausted:
            breach = broken(self._plan.contract, self.witnessed, self._ledger.stats(), backend.retreats)
            if breach is not None:
                raise await self._keep_partial(part, parts, breach)
            if not part.frames:
                raise InputHasNoVideo(f"no frame could be decoded from {self._plan.media.path}")
            await self._publish_or_keep(part, parts)
            return part
        raise await self._keep_partial(part, parts, decoder.defect)

    async def _flow(
        self,
        decoder: VideoDecoder,
        to_tensor: Converter,
        backend: RetreatingBackend,
        to_surface: Converter,
        encoder: PartWriter,
    ) -> PipelineMetrics:
        """Every frame through the pipeline, seen by the witness if there is one."""
        run, witness = self._pipeline.run, self.witness
        if witness is None:
            return await run(decoder, to_tensor, backend, to_surface, encoder, stop=self._stop)
        return await run(
            SeenDecoder(witness, decoder),
            to_tensor,
            SeenBackend(witness, backend),
            SeenConverter(witness, to_surface),
            SeenEncoder(witness, encoder),
            stop=self._stop,
        )

    async def _publish_or_keep(self, part: Part, parts: PartsFolder) -> None:
        """Publish the result; if it cannot go to its place, keep it or at least the picture beside it, and say so."""
        whole = self._publication(part)
        try:
            await self._publish(whole, parts, self._plan.options.output)
            return
        except Exception as error:
            failure = _named(error)
        try:
            kept = await self._keep(await self._for_fallback(whole), parts, self._fallback)
        except Exception:
            raise failure from failure.__cause__
        told = f"{failure}; {part.frames} finished frames are in {kept}"
        raise type(failure)(told, remedy=failure.remedy, stage=failure.stage, frame=failure.frame) from failure

    async def _keep_partial(self, part: Part, parts: PartsFolder, defect: RaveError | None) -> RaveError:
        """Publish what there is beside the output, and return the error that says so."""
        output = self._plan.options.output
        told = f"nothing was finished yet; {output} is as it was"
        if part.frames:
            kept = await self._keep(self._publication(part, complete=False), parts, output.suffix)
            told = f"the first {part.frames} frames ({float(part.end):.2f} s) are in {kept}"
        if defect is None:
            return Stopped(f"stopped; {told}")
        if isinstance(defect, ContractBroken):
            return ContractBroken(f"{defect}; {told}", remedy=defect.remedy)
        return type(defect)(f"{defect}; {told}", remedy=defect.remedy, stage="decode", frame=part.frames)

    def _publication(self, part: Part, *, complete: bool = True) -> Publication:
        plan, aspect = self._plan, self._plan.encoder.surface.sample_aspect_ratio
        return Publication(part, plan.media, plan.carriage, complete=complete, aspect=aspect, shifts=self._shifts)

    async def _keep(self, what: Publication, parts: PartsFolder, suffix: str) -> str:
        """Publish as a partial file, without the other streams if they are what stands in the way; says where it is."""
        path = self._free_partial(suffix)
        try:
            await self._publish(what, parts, path)
            return str(path)
        except Exception as error:
            log.warning("%s cannot be written with all streams: %s", path, error)
            path = self._free_partial(self._fallback)
            await self._publish(what.alone(), parts, path)
            return f"{path}, the picture alone"

    async def _for_fallback(self, what: Publication) -> Publication:
        """The same for the container that is used if the one that was asked for fails."""
        container = container_of(Path(f"out{self._fallback}"))
        if container is None or container is self._plan.container:
            return what
        fit = functools.partial(plan_carriage, what.media, container, self._plan.encoder, drop_unsupported=True)
        try:
            return attrs.evolve(what, carriage=await trio.to_thread.run_sync(fit))
        except RaveError:
            return what.alone()

    @property
    def _fallback(self) -> str:
        """The ending of what can nearly always be written."""
        return self._plan.options.output.suffix if self._images else ".mkv"

    @property
    def _images(self) -> ImageSequence | None:
        return images_of(self._plan.options.output)

    def _free_partial(self, suffix: str) -> Path:
        """A partial file's path where nothing is yet, unless overwriting was asked for."""
        options = self._plan.options
        path = partial_path(options.output).with_suffix(suffix)
        candidates = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in itertools.count(2))
        while _is_taken(path) and not options.overwrite:
            path = next(candidates)
        return path

    async def _publish(self, what: Publication, parts: PartsFolder, target: Path) -> None:
        overwrite, tick = self._plan.options.overwrite, trio.from_thread.check_cancelled

        def work() -> None:
            if sequence := images_of(target):
                number = what.media.first_number
                first = FIRST_NUMBER if number is None else number
                publish_images(what.part, sequence, first, overwrite=overwrite, tick=tick)
            else:
                self.notes += publish(what, target, workspace=parts.path, overwrite=overwrite, tick=tick)

        await trio.to_thread.run_sync(work)

    async def tell(self) -> None:
        """Take down how the run is, and report progress, until cancelled."""
        try:
            while True:
                self._tell_once()
                await trio.to_thread.run_sync(self.watch.read, abandon_on_cancel=True)
                await trio.sleep(INTERVAL)
        finally:
            self._tell_once()  # the last word, whatever came of the run

    def _tell_once(self) -> None:
        self.watch.sample()
        if self._on_progress is not None:
            metrics = self._pipeline.metrics
            total = self._plan.media.video.frames
            self._on_progress(Progress(self.watch.phase, metrics.frames_encoded, total, metrics, self.watch.health))


def _named(error: Exception) -> RaveError:
    """The error itself, or what says that nobody planned for it."""
    if isinstance(error, RaveError):
        return error
    crash = StageCrashed(f"publishing crashed: {type(error).__name__}: {error}", stage="publish")
    crash.__cause__ = error
    return crash


def _is_taken(path: Path) -> bool:
    sequence = images_of(path)
    return bool(sequence.numbers()) if sequence else path.exists()


def _outside_the_pool(plan: EnginePlan) -> list[tuple[str, int]]:
    """Owners of memory that no object of ours allocates, and their bytes as the plan has them."""
    fit = plan.fit
    if plan.gpu is None:
        return [
            ("decoder surfaces", fit.decoder_surfaces),
            ("network", fit.network),
            ("encoder surfaces", fit.encoder_surfaces),
        ]
    return [("decoder", fit.decoder_own)]  # surfaces are in the pool, and the network's backend enters its own
