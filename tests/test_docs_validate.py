"""docs/validate.md and the suite's part of docs/audit.md: their commands run, their tables are the truth."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rave_trio.audit import suite
from rave_trio.graph.settings import settings_of
from rave_trio.validation import Fixture, read_fixture

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, AUDIT = ((DOCS / name).read_text() for name in ("validate.md", "audit.md"))


def commands(page: str) -> list[str]:
    return [
        line.partition("  #")[0]
        for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
        for line in block.splitlines()
    ]


def test_the_example_is_updated_and_holds(rave, clip, tmp_path, monkeypatch):
    clip("in.mkv", frames=3)
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "film.toml").write_text(example)
    monkeypatch.chdir(tmp_path)
    for command in commands(PAGE):
        program, *arguments = shlex.split(command)
        assert program == "rave-trio"
        done = rave(*arguments)
        assert done.status == 0, done.stdout + done.stderr
    assert (tmp_path / "film.toml").read_text().startswith(example.rstrip())
    assert len(read_fixture(tmp_path / "film.toml").hashes[0].frames) == 3


def test_the_table_of_settings_is_the_truth():
    rows = ["| setting | |", "| --- | --- |"]
    rows += [f"| `{name}` | {field.metadata['says']} |" for name, field in settings_of(Fixture).items()]
    table = PAGE.partition("<!-- settings-table -->\n")[2].partition("<!-- end of")[0]
    assert table.splitlines() == rows


@pytest.mark.parametrize("command", [line for line in commands(AUDIT) if line.startswith("rave-trio audit")])
def test_the_commands_of_the_suite_run(rave, clip, tmp_path, monkeypatch, command):
    tiny = suite.Clip(3, 32, 24)
    for name in ("QUICK", "WHOLE"):
        monkeypatch.setattr(suite, name, suite.Extent(runs=3, stressed=4, steady=tiny, short=tiny, large=tiny))
    clip("in.mkv", frames=3)
    monkeypatch.chdir(tmp_path)
    done = rave(*shlex.split(command)[1:])
    expected = 1 if "--fail-on-warn" in command else 0  # too short to judge all of it
    assert done.status == expected, done.stdout + done.stderr


def test_the_table_of_checks_names_every_finding(rave, monkeypatch):
    tiny = suite.Clip(3, 32, 24)
    extent = suite.Extent(runs=3, stressed=4, steady=tiny, short=tiny, large=tiny)
    monkeypatch.setattr(suite, "QUICK", extent)
    findings = rave("audit", "--quick", "--device", "cpu", "--json").json["audit"]["findings"]
    table = AUDIT.partition("## The suite")[2].partition("- **Growth.**")[0]
    for each in findings:
        assert f"`{each['code']}`" in table


def test_the_suites_extent_is_as_the_page_says():
    assert f"in {suite.WHOLE.runs} runs of one job ({suite.QUICK.runs} with" in AUDIT
    assert f"the first {suite.HASHED} frames" in AUDIT
    assert f"{suite.QUICK.runs + 2} or {suite.WHOLE.runs + 2} times" in AUDIT
