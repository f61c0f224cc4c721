"""The README's promises: its examples run, its table of exit statuses is the truth."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", README, re.DOTALL), ids=["trio", "sync"])
def test_the_python_examples_run(example, clip, tmp_path, monkeypatch, capsys):
    clip("in.mkv", frames=3)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "out.mkv").exists()
    assert not capsys.readouterr().err


def test_the_table_of_exit_statuses_lists_every_error():
    from rave_trio import errors

    table = README.partition("<!-- exit-table -->")[2].partition("## ")[0]
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.RaveError) and "code" in vars(error):
            if error is errors.RaveError:
                continue
            assert re.search(rf"\b{error.exit_code}\b", table), f"{error.__name__} ({error.exit_code}) is missing"


def test_the_table_of_what_is_kept_is_made_from_what_the_tests_check():
    spec = importlib.util.spec_from_file_location("kept_table", ROOT / "scripts" / "kept_table.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.with_table(README) == README, "run scripts/kept_table.py --write"


def test_the_first_commands_are_the_two_that_do_everything():
    assert README.index("make demo") < README.index("make test") < README.index("## ")
    assert {"demo", "test"} <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_sample_clip_is_credited_wherever_it_is_shown(bunny):
    for page in (README, (ROOT / "NOTICE").read_text(), (bunny.parent / "README.md").read_text()):
        assert "Blender Foundation" in page
        assert re.search(r"CC.BY 3\.0|Attribution 3\.0", page)
