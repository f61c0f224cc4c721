"""docs/seed-coverage.md names what there is: every module and every test of its tables exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "seed-coverage.md").read_text()
OPEN = ("-", "not there")


def rows():
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[1] not in ("module", "---", ""):
            yield pytest.param(*cells[:3], id=cells[0])


ROWS = list(rows())


@pytest.mark.parametrize(("name", "module", "shown_by"), ROWS)
def test_the_module_and_the_tests_of_a_row_exist(name, module, shown_by):
    modules, tests = (re.findall("`([^`]+)`", cell) for cell in (module, shown_by))
    assert modules or module in OPEN
    assert tests or shown_by in OPEN
    assert bool(modules) == bool(tests), "a module without a test, or a test of nothing"
    for path in modules:
        assert (ROOT / "src" / "rave_trio" / path).is_file(), path
    for place in tests:
        path, _, test = place.partition("::")
        assert Path(path).name.startswith("test_")
        text = (ROOT / "tests" / path).read_text()
        assert not test or f"def {test}(" in text, place


def test_what_is_not_there_is_said_so():
    absent = {row.values[0] for row in ROWS if row.values[1] == "not there"}
    assert {"GUI (optional)", "Docker container (optional)"} <= absent


@pytest.mark.parametrize(
    "never_run", ["execution of TensorRT has run on no machine", "run on no machine: against a stand-in"]
)
def test_what_was_never_run_is_said_so(never_run):
    assert never_run in PAGE
