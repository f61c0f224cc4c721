"""``rave-trio upscale``: the main job."""

from __future__ import annotations

import math
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from rave_trio.cli.flags import Common, InputFile, JobFlags, Output, OutputFile
from rave_trio.cli.render import say, table
from rave_trio.errors import AuditFailed
from rave_trio.options import UpscaleOptions

if TYPE_CHECKING:
    from rave_trio.report import PipelineReport

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask for a stop, unless whoever started the command had them ignored, as nohup does with the last."""

DEFAULT_FLAGS = JobFlags()
DEFAULT_COMMON = Common()


def upscale(
    input: InputFile,
    output: OutputFile,
    *,
    progress: Literal["auto", "bar", "jsonl", "off"] = "auto",
    audit: Annotated[bool, Parameter(negative="")] = False,
    flags: JobFlags = DEFAULT_FLAGS,
    common: Common = DEFAULT_COMMON,
) -> Output:
    """Upscale a video.

    Sound, subtitles, fonts, covers, chapters and tags come along.  The output appears when it is complete, not before.
    Ctrl+C once finishes what is in flight and keeps it as OUT.partial.mkv; twice stops at once.

    Parameters
    ----------
    input
        The video to read, or numbered pictures such as frames/%05d.png.
    output
        The file to make; .mkv, .mp4, .mov or .webm decides the container, out/%05d.png means numbered pictures.
    progress
        On stderr: a bar, JSON lines, or nothing; auto shows the bar on a terminal.
    audit
        Watch the run's copies between host and GPU, its memory and its counts.  If a promise does not hold, the exit
        status is 53, and the result is published all the same.  On a GPU this needs cupti-python.
    """
    import attrs
    import trio

    common.start_logging()
    options = attrs.evolve(flags.options(input, output), audit=audit)
    try:
        report = trio.run(_run, options, progress)
    except AuditFailed as failed:
        _tell_notes(failed.report)
        if not common.json:
            say(table(failed.report.audit.rows()))
        raise
    _tell_notes(report)
    return Output({"report": report.as_dict()}, _summary(report))


def _tell_notes(report: PipelineReport) -> None:
    for note in report.notes:
        say(f"rave-trio: note: {note}")


async def _run(options: UpscaleOptions, progress: str) -> PipelineReport:
    import attrs
    import trio

    from rave_trio import job
    from rave_trio.cli.progress import open_progress
    from rave_trio.pipeline import Stop, alongside

    stop = Stop(grace=math.inf)  # whoever asked may ask again
    if progress == "auto":
        progress = "bar" if sys.stderr is not None and sys.stderr.isatty() else "off"

    async def heed_signals() -> None:
        heeded = [name for name in STOPPING if signal.getsignal(name) is not signal.SIG_IGN]
        if not heeded:
            return
        with trio.open_signal_receiver(*heeded) as signals:
            async for _ in signals:
                shown.stopping(again=stop.requested)
                stop.request()

    async def work() -> PipelineReport:
        return await job.upscale(
            **attrs.asdict(options, recurse=False), on_plan=shown.plan, on_progress=shown.update, stop=stop
        )

    with open_progress(progress) as shown:
        return await alongside(work, heed_signals)


def _summary(report: PipelineReport) -> str:
    surface = report.plan.encoder.surface
    told = (
        f"{report.output}: {report.frames} frames, {surface.width}x{surface.height} "
        f"{report.plan.encoder.encoder}, in {report.seconds:.1f} s ({report.fps:.2f} fps)"
    )
    return told if report.audit is None else f"{told}\n{table(report.audit.rows())}"
