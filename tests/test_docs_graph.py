"""docs/graph.md: its examples run, its tables are the truth."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from rave_trio.contract import RunContract, contract_from
from rave_trio.graph.settings import settings_of
from rave_trio.graph.stages import KINDS
from rave_trio.profiles import PROFILES

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "graph.md").read_text()

GRAPH, CONTRACT = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def table(name: str) -> str:
    return PAGE.partition(f"<!-- {name}-table -->\n")[2].partition("<!-- end of")[0]


@pytest.fixture
def there(clip, tmp_path, monkeypatch, upscaler):
    """A folder in which the page's files are."""
    clip("in.mkv", frames=3)
    upscaler("clean-x1", scale=1)
    (tmp_path / "film.json").write_text(GRAPH)
    (tmp_path / "contract.json").write_text(CONTRACT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run(rave, there, command):
    program, *arguments = shlex.split(command)
    assert program == "rave-trio"
    done = rave(*arguments)
    assert done.status == 0, done.stderr


def test_the_toml_example_is_a_graph(rave, tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "film.toml").write_text(example)
    assert rave("graph", "validate", tmp_path / "film.toml").status == 0


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), ids=["graph", "picture"])
def test_the_python_examples_run(there, capsys, example):
    exec(compile(example, "graph.md", "exec"), {})
    printed = capsys.readouterr()
    assert printed.out.strip()
    assert not printed.err


def test_the_table_of_kinds_is_the_truth():
    rows = [
        f"| `{name}` | {' '.join(kind.__doc__.split())} | {', '.join(f'`{each}`' for each in settings_of(kind))} |"
        for name, kind in KINDS.items()
    ]
    assert table("kinds").splitlines() == rows


def test_the_table_of_profiles_is_the_truth():
    rows = ["| profile | for | sets |", "| --- | --- | --- |"]
    for profile in PROFILES.values():
        sets = [f"`{name}` {json.dumps(value)}" for name, value in profile.options.items()]
        sets += [f"clause `{name}` {json.dumps(value)}" for name, value in profile.clauses.items()]
        rows.append(f"| `{profile.name}` | {profile.says} | {', '.join(sets)} |")
    assert table("profiles").splitlines() == rows


def test_the_table_of_clauses_is_the_truth():
    rows = ["| clause | |", "| --- | --- |"]
    rows += [f"| `{name}` | {field.metadata['says']} |" for name, field in settings_of(RunContract).items()]
    assert table("clauses").splitlines() == rows


def test_the_contract_example_is_a_contract():
    assert contract_from(json.loads(CONTRACT)).determinism_hash_frames == 3
