"""docs/reference is up to date, and its examples run and give what they say."""

from __future__ import annotations

import ast
import builtins
import contextlib
import doctest
import inspect
import io
import re
import types
from collections.abc import Coroutine
from pathlib import Path

import pytest
import reference
import trio

import rave_trio
from rave_trio import testing

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
NAMES = [name for name in rave_trio.__all__ if name != "__version__"]
PAGES = reference.pages()
PARSER = doctest.DocTestParser()


def documented():
    """Every public name's docstring, and those of its public methods, that have an example."""
    for name in NAMES:
        found = getattr(rave_trio, name)
        inside = vars(found).items() if inspect.isclass(found) else ()
        for label, each in [(name, found), *((f"{name}.{key}", each) for key, each in inside if key[0] != "_")]:
            if examples := PARSER.get_examples(inspect.getdoc(each) or ""):
                yield pytest.param(examples, id=label)


EXAMPLES = list(documented())


def begin(example: doctest.Example, names: dict[str, object]) -> Coroutine[object, object, object] | None:
    """Run an example as far as its ``await``, if it has one, which is left to the caller."""
    code = compile(example.source, "example", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    begun = types.FunctionType(code, names)()
    return begun if inspect.iscoroutine(begun) else None


def checked(said: io.StringIO, example: doctest.Example) -> None:
    assert said.getvalue() == example.want, example.source
    said.truncate(said.seek(0))


def run(examples: list[doctest.Example]) -> None:
    """Those of one docstring, in a Trio program where one of them awaits something."""
    names: dict[str, object] = {"__builtins__": builtins}

    async def within() -> None:
        for example in examples:
            if begun := begin(example, names):
                await begun
            checked(said, example)

    with contextlib.redirect_stdout(io.StringIO()) as said:
        if any("await " in example.source for example in examples):
            trio.run(within)
            return
        for example in examples:
            begin(example, names)
            checked(said, example)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_an_example_gives_what_it_says(examples, clip, tmp_path, monkeypatch):
    clip("in.mkv", frames=4)
    monkeypatch.chdir(tmp_path)
    run(examples)


def test_the_examples_are_many():
    assert len(EXAMPLES) >= 12


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_the_docstrings_and_the_schemas_say(page):
    assert (FOLDER / page).read_text() == PAGES[page], "run make reference"


def test_there_is_no_page_of_something_that_is_gone():
    assert {path.name for path in FOLDER.iterdir()} == set(PAGES)


def test_every_public_name_is_on_one_page():
    listed = [name for _, names in reference.TOPICS.values() for name in names]
    assert sorted(listed) == sorted([*NAMES, *testing.__all__])


@pytest.mark.parametrize("page", ["README.md", *(f"docs/reference/{name}" for name in PAGES)])
def test_what_a_page_links_to_is_there(page):
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if path.startswith(("https:", "http:")):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            titles = re.findall("^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, link


def test_every_flag_of_every_command_is_there(rave):
    page = (FOLDER / "commands.md").read_text()
    for command in re.findall("^## rave-trio ([a-z ]+)$", page, re.MULTILINE):
        section = page.partition(f"## rave-trio {command}\n")[2].partition("\n## ")[0]
        said = rave(*command.split(), "--help").stdout.partition("Configuration comes from")[0]
        for flag in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", said)):
            assert flag in section or flag in ("--help", "--version"), f"{command} {flag}"


def test_every_error_is_in_the_table():
    page = (FOLDER / "errors.md").read_text()
    for error in vars(rave_trio.errors).values():
        if inspect.isclass(error) and issubclass(error, rave_trio.RaveError) and error.code and "code" in vars(error):
            assert f"| {error.exit_code} | `{error.__name__}` | {error.code} | `{error.kind}` |" in page


@pytest.mark.parametrize("name", [name for name in NAMES if inspect.isclass(getattr(rave_trio, name))])
def test_what_is_public_in_a_public_class_is_documented(name):
    for key, each in vars(getattr(rave_trio, name)).items():
        if key[0] != "_" and (inspect.isfunction(each) or isinstance(each, property)):
            assert inspect.getdoc(each), f"{name}.{key}"
