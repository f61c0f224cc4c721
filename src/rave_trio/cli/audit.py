"""``rave-trio audit``: whether the engine keeps its promises on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from rave_trio.cli.flags import Common, Output
from rave_trio.cli.render import table

if TYPE_CHECKING:
    from rave_trio.audit import StressReport

DEFAULT_COMMON = Common()

BROKEN = 1

audit = App(name="audit", help="Check on this machine what rave-trio promises.")


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
