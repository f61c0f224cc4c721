"""Short runs of the real thing on the machine at hand: what works here, what does not, and what is not there."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs

PASS, FAIL, NOT_THERE = "pass", "fail", "not there"


class NotThereError(Exception):
    """Raised by a check whose device, engine or library this machine does not have; the text says why."""


@attrs.frozen
class Check:
    """Something that can be tried: ``run`` is given an empty folder and says what it saw, or raises why not."""

    name: str
    run: Callable[[Path], str]


@attrs.frozen
class CheckResult:
    """What came of one check.  ``outcome`` is ``pass``, ``fail`` or ``not there``; ``detail`` says in one line why."""

    name: str
    outcome: str
    detail: str
    seconds: float


@attrs.frozen
class SelfTestReport:
    """What came of all of them."""

    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed; what is not there has not."""
        return all(result.outcome != FAIL for result in self.results)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"passed": self.passed, "results": [attrs.asdict(result) for result in self.results]}


def all_checks() -> list[Check]:
    """Every check that makes sense here: one for the CPU, and for each GPU what its video engines can do.

    Blocks while NVIDIA's libraries are asked, a second or more where there is a GPU.
    """
    from rave_trio.audit.gpu_checks import gpu_checks
    from rave_trio.audit.upscale_check import upscale_on
    from rave_trio.devices.nvidia import probe_nvidia

    return [Check("cpu", functools.partial(upscale_on, "cpu")), *gpu_checks(probe_nvidia())]


def selftest(checks: Iterable[Check] | None = None) -> SelfTestReport:
    """Run the checks, all of them unless some are given, one after the other.  Blocking; not from within Trio.

    A check that raises has failed, and the others go on.
    """
    return SelfTestReport(tuple(_result(check) for check in (all_checks() if checks is None else checks)))


def _result(check: Check) -> CheckResult:
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="rave-trio-selftest-") as folder:
            outcome, detail = PASS, check.run(Path(folder))
    except NotThereError as error:
        outcome, detail = NOT_THERE, str(error)
    except Exception as error:
        outcome, detail = FAIL, f"{type(error).__name__}: {error}"
    return CheckResult(check.name, outcome, " ".join(detail.split()), round(time.monotonic() - began, 3))
