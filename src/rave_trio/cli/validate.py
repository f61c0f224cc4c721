"""``rave-trio validate``: jobs as files, run and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from rave_trio.cli.flags import Common, Output
from rave_trio.cli.render import table

if TYPE_CHECKING:
    from rave_trio.validation import Validation

DEFAULT_COMMON = Common()

DIFFERENT = 1


def validate(
    fixtures: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    update: Annotated[bool, Parameter(negative="")] = False,
    fail_on_warn: Annotated[bool, Parameter(negative="")] = False,
    device: Annotated[str | None, Parameter(name=("--device", "-d"))] = None,
    common: Common = DEFAULT_COMMON,
) -> Output:
    """Run fixtures, and check that what comes of each is what its file says.

    A fixture is a TOML file with a job, and hashes of its frames, their number, and limits of time, memory and latency;
    see docs/validate.md.  Hashes of another device, backend or precision are not compared, which is a warning.  The
    exit status is 0 if nothing failed, 1 if something did, and otherwise that of the error, as everywhere.

    Parameters
    ----------
    fixtures
        The files.
    update
        Write this machine's hashes into the files; those of other machines stay.
    fail_on_warn
        Let hashes that are not there or cannot be compared fail.
    device
        Where to run, whatever the fixtures say: auto, cpu, cuda or cuda:1.
    """
    import trio

    from rave_trio.validation import read_fixture
    from rave_trio.validation import validate as run

    common.start_logging()
    for path in fixtures:  # nothing is run if one makes no sense
        read_fixture(path)

    async def run_all() -> list[Validation]:
        return [await run(path, device=device, update=update) for path in fixtures]

    results = trio.run(run_all)
    passed = [each.passed(fail_on_warn=fail_on_warn) for each in results]
    data = {
        "passed": all(passed),
        "fixtures": [{**each.as_dict(), "passed": good} for each, good in zip(results, passed, strict=True)],
    }
    return Output({"validation": data}, _text(results, passed), status=0 if all(passed) else DIFFERENT)


def _text(results: list[Validation], passed: list[bool]) -> str:
    lines = []
    for each, good in zip(results, passed, strict=True):
        lines.append(f"{each.path}: {'holds' if good else 'does not hold'}{', updated' if each.written else ''}")
        lines.append(table([(f"  {f.code}", f"{f.level}: {f.message}") for f in each.findings.findings]))
    return "\n".join(lines)
