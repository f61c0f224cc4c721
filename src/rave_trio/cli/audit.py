"""``rave-trio audit``: whether the engine keeps its promises on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from rave_trio.cli.flags import Common, Output
from rave_trio.cli.render import say, table

if TYPE_CHECKING:
    from rave_trio.audit import StressReport
    from rave_trio.audit.findings import AuditReport

DEFAULT_COMMON = Common()

BROKEN = 1

audit = App(name="audit", help="Check on this machine what rave-trio promises.")


@audit.default
def suite(
    input: Annotated[Path | None, Parameter(name=("--input", "-i"))] = None,
    *,
    device: Annotated[str, Parameter(name=("--device", "-d"))] = "auto",
    quick: Annotated[bool, Parameter(negative="")] = False,
    fail_on_warn: Annotated[bool, Parameter(negative="")] = False,
    common: Common = DEFAULT_COMMON,
) -> Output:
    """Run real jobs and say of each promise whether it held: pass, warn or fail.

    Looks at copies between host and GPU, counts, the reuse of memory, what is left after a run, growth from run to run,
    whether runs give the same frames, allocations while frames flow, and whether stages overlap; docs/audit.md says
    how.  Takes about a minute.  The exit status is 0 if nothing failed, 1 if something did, and otherwise that of the
    error, as everywhere.

    Parameters
    ----------
    input
        Run the jobs on this video, of a few seconds, instead of clips that are made for it.
    device
        Where to run: auto, cpu, cuda or cuda:1.
    quick
        Fewer runs: about half of the time.
    fail_on_warn
        Let warnings fail as well.
    """
    import trio

    from rave_trio.audit.findings import Level
    from rave_trio.audit.suite import audit_engine

    def tell(what: str) -> None:
        if not common.json:
            say(f"rave-trio: audit: {what} ...")

    async def run() -> AuditReport:
        return await audit_engine(input, device=device, quick=quick, on_check=tell)

    common.start_logging()
    report = trio.run(run)
    failed = report.level is Level.FAIL or (fail_on_warn and report.level is Level.WARN)
    rows = [(finding.code, f"{finding.level}: {finding.message}") for finding in report.findings]
    counts = ", ".join(f"{len(report.of(level))} {level}" for level in Level if report.of(level))
    return Output({"audit": report.as_dict()}, table([*rows, ("result", counts)]), status=BROKEN if failed else 0)


@audit.command
def stress(*, frames: Annotated[int, Parameter()] = 300, common: Common = DEFAULT_COMMON) -> Output:
    """Run synthetic frames of several sizes through the pipeline, with a simulated device of little memory.

    Checks that every frame comes out once, and that memory stays within its limit, is used again, and is given back.
    Needs no video, model or GPU.  The exit status is 0 if all of it holds, 1 if something does not, and otherwise that
    of the error, as everywhere.

    Parameters
    ----------
    frames
        How many frames to run beside those that warm up.
    """
    import trio

    from rave_trio.audit import stress_test_synthetic

    async def run() -> StressReport:
        return await stress_test_synthetic(frames=frames)

    common.start_logging()
    report = trio.run(run)
    return Output({"stress": report.as_dict()}, _text(report), status=0 if report.passed else BROKEN)


def _text(report: StressReport) -> str:
    rows = [
        ("frames", f"{report.frames_encoded} of {report.frames_decoded} in {report.runs} runs, {report.fps:.0f} fps"),
        ("hit rate", f"{report.hit_rate:.1%} after warm-up"),
        ("memory", f"at most {report.peak / 1e6:.1f} MB of {report.limit / 1e6:.1f} MB, {report.memory_after} B left"),
        ("buffers", f"{report.evictions} evicted, {report.waits} waited for, {report.live_leases} still lent"),
        *(("failed", said) for said in report.failures),
        ("result", "all promises hold" if report.passed else "not all promises hold"),
    ]
    return table(rows)
