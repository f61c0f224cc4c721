"""One run of a plan: make what it needs, frames through the pipeline, the part delivered, all closed again."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio
import trio.to_thread

from rave_trio.assembly import assemble
from rave_trio.delivery import Delivery
from rave_trio.errors import FrameCountMismatch, InputHasNoVideo
from rave_trio.inference.retreat import RetreatingBackend
from rave_trio.media.decoder import VideoDecoder
from rave_trio.media.encoders import CAPTIONERS
from rave_trio.media.findings import Findings
from rave_trio.media.parts import Part, PartsFolder, PartWriter
from rave_trio.memory import Ledger, LedgerStats, PoolStats, Waiting
from rave_trio.observe.watch import INTERVAL, Watch
from rave_trio.pipeline import Converter, PipelineMetrics, Stop, UpscalePipeline, alongside
from rave_trio.pipeline.holding import hold, make
from rave_trio.plan import EnginePlan
from rave_trio.progress import OnProgress, Progress
from rave_trio.promises import SeenBackend, SeenConverter, SeenDecoder, SeenEncoder, Witness, Witnessed, broken
from rave_trio.steps import Step

if TYPE_CHECKING:
    from rave_trio.audit.run import RunAudit


async def carry_out(
    plan: EnginePlan,
    steps: tuple[Step, ...],
    ledger: Ledger,
    waiting: Waiting,
    pipeline: UpscalePipeline,
    run: Run,
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


class Run:
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
        self.findings = decoder.findings
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
        delivery = Delivery(self._plan, parts, decoder.shifts)
        try:
            await self._deliver(delivery, part, decoder)
        finally:
            self.notes += delivery.notes
        return part

    async def _deliver(self, delivery: Delivery, part: Part, decoder: VideoDecoder) -> None:
        """Publish the part if all is well, else what there is of it, and raise what is not well."""
        if decoder.defect is not None or not decoder.exhausted:
            raise await delivery.keep_partial(part, decoder.defect)
        breach = broken(self._plan.contract, self.witnessed, self._ledger.stats(), self.retreats)
        if breach is not None:
            raise await delivery.keep_partial(part, breach)
        if not part.frames:
            raise InputHasNoVideo(f"no frame could be decoded from {self._plan.media.path}")
        await delivery.publish(part)

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

    async def tell(self) -> None:
        """Take down how the run is, and report progress, until cancelled.  A driver that hangs holds nothing up."""
        await alongside(self._tell, self._look)

    async def _tell(self) -> None:
        try:
            while True:
                self._tell_once()
                await trio.sleep(INTERVAL)
        finally:
            self._tell_once()  # the last word, whatever came of the run

    async def _look(self) -> None:
        while True:
            await trio.to_thread.run_sync(self.watch.read, abandon_on_cancel=True)
            await trio.sleep(INTERVAL)

    def _tell_once(self) -> None:
        self.watch.sample()
        if self._on_progress is not None:
            metrics = self._pipeline.metrics
            total = self._plan.media.video.frames
            self._on_progress(Progress(self.watch.phase, metrics.frames_encoded, total, metrics, self.watch.health))


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
