"""Fixtures are run and looked at."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import attrs

from rave_trio.audit.findings import AuditFinding, AuditReport, Level
from rave_trio.contract import RunContract
from rave_trio.errors import OutputNotWritable, RaveError, Stopped, UsageError
from rave_trio.graph import read_graph
from rave_trio.job import upscale
from rave_trio.validation.fixture import Fixture, read_fixture
from rave_trio.validation.judge import Outcome, judge
from rave_trio.validation.update import updated


@attrs.frozen
class Validation:
    """What came of one fixture."""

    path: Path
    findings: AuditReport
    outcome: Outcome | None
    """None where the run failed."""
    written: bool = False
    """Whether the file was given this machine's hashes."""

    def passed(self, *, fail_on_warn: bool = False) -> bool:
        """Whether nothing failed; hashes that could not be compared are a warning."""
        return self.findings.level < (Level.WARN if fail_on_warn else Level.FAIL)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        outcome = None if self.outcome is None else attrs.asdict(self.outcome)
        return {"fixture": str(self.path), **self.findings.as_dict(), "outcome": outcome, "written": self.written}


async def validate(path: str | Path, *, device: str | None = None, update: bool = False) -> Validation:
    """Run the fixture in a file, and compare.

    ``device`` goes before the fixture's own.  With ``update`` the file is given the hashes of this run and is judged
    by them.

    A run that fails is a finding, ``run``.  Raises UsageError for a file that is no fixture, or with ``update`` is no
    TOML, OutputNotWritable if it cannot be written, and Stopped.
    """
    path = Path(path)
    fixture = read_fixture(path)
    if update and path.suffix != ".toml":
        raise UsageError(f"{path} is not TOML, and only TOML is updated", remedy="name it .toml")
    try:
        outcome = await _run(fixture, path, device)
    except Stopped:
        raise
    except RaveError as error:
        told = f"{error} ({error.remedy})" if error.remedy else str(error)
        finding = AuditFinding(Level.FAIL, "run", told, error.stage, {"kind": error.kind, "code": error.code})
        return Validation(path, AuditReport((finding,)), None)
    if update:
        _write(path, outcome)
        fixture = read_fixture(path)
    return Validation(path, AuditReport(judge(fixture, outcome)), outcome, update)


async def _run(fixture: Fixture, path: Path, device: str | None) -> Outcome:
    options: dict[str, Any] = dict(fixture.options)
    if device is not None:
        options["device"] = device
    if fixture.profile is not None:
        options["profile"] = fixture.profile
    if fixture.graph is not None:
        options["graph"] = read_graph(fixture.folder / fixture.graph)
    if fixture.model is not None:
        there = fixture.folder / fixture.model
        options["model"] = str(there) if there.is_file() else fixture.model
    contract = RunContract(determinism_hash_frames=fixture.hashing)
    with tempfile.TemporaryDirectory(prefix="rave-trio-validate-") as folder:
        output = Path(folder) / f"out.{(fixture.container or 'mkv').removeprefix('.')}"
        return Outcome.of(await upscale(fixture.source, output, contract=contract, **options))


def _write(path: Path, outcome: Outcome) -> None:
    try:
        text = updated(path.read_text(encoding="utf-8"), outcome.hashes)
        beside = path.with_name(f".{path.name}.new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except UsageError as error:
        raise UsageError(f"{path}: {error}", remedy=error.remedy) from error
    except OSError as error:
        raise OutputNotWritable(f"{path} cannot be written: {error.strerror}") from error
