"""``rave-trio selftest``: does it work on this machine?"""

from __future__ import annotations

from rave_trio.cli.flags import Common, Output
from rave_trio.cli.render import table

DEFAULT_COMMON = Common()

BROKEN = 1


def selftest(*, common: Common = DEFAULT_COMMON) -> Output:
    """Run the real thing on small clips, on the CPU and on what every GPU has, and say what works.

    On the CPU: decode, upscale, encode, and check that every frame came back at its time and shows what it should.  On
    a GPU: each codec and bit depth that it encodes.  Each line is pass, fail, or not there with the reason.  Takes well
    under a minute.  The exit status is 0 if nothing failed, else 1.
    """
    from rave_trio.audit.selftest import FAIL, NOT_THERE, PASS
    from rave_trio.audit.selftest import selftest as run

    common.start_logging()
    report = run()
    rows = [(result.name, f"{result.outcome}: {result.detail} ({result.seconds:.1f} s)") for result in report.results]
    counts = {outcome: sum(each.outcome == outcome for each in report.results) for outcome in (PASS, FAIL, NOT_THERE)}
    rows.append(("result", ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)))
    return Output({"selftest": report.as_dict()}, table(rows), status=0 if report.passed else BROKEN)
