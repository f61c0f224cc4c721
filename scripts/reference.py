"""docs/reference, from docstrings, the commands' help, the errors and the schemas: says which page is out of date, or
with --write brings all up to date.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
from shapes import field_docs

import rave_trio
from rave_trio import errors, testing
from rave_trio.cli.app import build_app

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
SCHEMAS = ROOT / "src" / "rave_trio" / "schemas"

TOPICS = {
    "running": ("Running a job", ["upscale", "upscale_sync", "UpscaleOptions", "Progress", "Stop"]),
    "plans": ("Plans and profiles", ["make_plan", "EnginePlan", "ProfilePreset"]),
    "graphs": (
        "Graphs and contracts",
        [
            "run_graph",
            "StageGraph",
            "StageConfig",
            "DecodeStage",
            "DeinterlaceStage",
            "EnhanceStage",
            "ResizeStage",
            "EncodeStage",
            "RunContract",
        ],
    ),
    "reports": (
        "Reports and comparison",
        ["PipelineReport", "HealthSnapshot", "EngineFingerprint", "compare", "Comparison"],
    ),
    "pictures": ("Single pictures", ["InferencePipeline"]),
    "pipelines": (
        "Pipelines of one's own",
        ["UpscalePipeline", "PipelineConfig", "PipelineMetrics", "stress_test_synthetic", "StressReport"],
    ),
    "errors": ("Errors and exit statuses", ["RaveError", "Stopped"]),
    "testing": ("Parts for tests", testing.__all__),
}
"""Page, its title, and the public names on it: of ``rave_trio``, the last page's of ``rave_trio.testing``."""

MADE = "<!-- made by scripts/reference.py: run make reference -->\n\n"


def pages() -> dict[str, str]:
    """Every page's text by its file's name."""
    made = {f"{page}.md": _topic(page) for page in TOPICS}
    made |= {"commands.md": commands(), "schemas.md": schemas()}
    return {"README.md": index(made)} | made


def index(made: dict[str, str]) -> str:
    lines = ["# Reference", "", "| | |", "| --- | --- |"]
    for file, text in made.items():
        title = re.search("^# (.*)$", text, re.MULTILINE)
        assert title is not None
        names = TOPICS[Path(file).stem][1] if Path(file).stem in TOPICS else []
        said = ", ".join(f"[`{name}`]({file}#{name.lower()})" for name in names)
        lines.append(f"| [{title[1]}]({file}) | {said} |")
    lines += [
        "",
        "The public names are in `rave_trio`; every example is run by the tests in a folder with a clip `in.mkv`,",
    ]
    lines += ["4 frames of 64x48.  `await` stands for what a Trio program does."]
    return MADE + "\n".join(lines) + "\n"


def _topic(page: str) -> str:
    title, names = TOPICS[page]
    parts = [f"# {title}", *(public_name(name) for name in names)]
    if page == "errors":
        parts.append(error_table())
    text = re.sub(r"<function \S+ at 0x[0-9a-f]+>", "...", "\n\n".join(parts))
    return MADE + text + "\n"


def public_name(name: str) -> str:
    """A public name's section: signature, docstring, fields, properties and methods."""
    found = getattr(testing if name in testing.__all__ else rave_trio, name)
    if isinstance(found, dict):
        said = " ".join(prose(constant_doc(name)).split())
        return f"## {name}\n\n{said}\n\n{table(('', ''), [(f'`{key}`', _listed(each)) for key, each in found.items()])}"
    if not inspect.isclass(found) and not inspect.isfunction(found):  # a union of types
        lines = [
            f"## {name}",
            f"`{name} = {' | '.join(each.__name__ for each in found.__args__)}`",
            "Any stage of a graph.",
        ]
        return "\n\n".join(lines)
    parts = [f"## {name}", f"```python\n{signature(name, found)}\n```", prose(inspect.getdoc(found) or "")]
    if inspect.isclass(found):
        if rows := list(_fields(found)):
            parts.append(table(("field", "type", ""), rows))
        members = [(each, vars(found)[each]) for each in sorted(vars(found)) if not each.startswith("_")]
        if rows := [
            (f"`{each}`", _type(value.fget), _line(value.fget))
            for each, value in members
            if isinstance(value, property)
        ]:
            parts.append(table(("property", "type", ""), rows))
        for each, value in members:
            if inspect.isfunction(value):
                parts += [
                    f"### {name}.{each}",
                    f"```python\n{signature(each, value)}\n```",
                    prose(inspect.getdoc(value) or ""),
                ]
    return "\n\n".join(parts)


def constant_doc(name: str) -> str:
    """The docstring below a constant of ``rave_trio.testing.faults``."""
    source = inspect.getsource(sys.modules[testing.FaultPlan.__module__])
    found = re.search(rf'^{name}\b.*?^\}}\n"""(.*?)"""', source, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


def signature(name: str, found: Any) -> str:
    """As it is written, one parameter a line where it is long; of a class that is its fields only the name."""
    if inspect.isclass(found) and (attrs.has(found) or not inspect.isfunction(found.__init__)):
        return f"class {name}"
    of = found.__init__ if inspect.isclass(found) else found
    parameters = [each for each in inspect.signature(of).parameters.values() if each.name != "self"]
    texts: list[str] = []
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and not any(text.startswith("*") for text in texts):
            texts.append("*")
        texts.append(str(each).replace("'", "") if not isinstance(each.default, str) else _with_text(each))
    returned = inspect.signature(of).return_annotation
    end = "" if inspect.isclass(found) or returned is inspect.Signature.empty else f" -> {str(returned).strip(chr(39))}"
    kind = "class " if inspect.isclass(found) else "async def " if inspect.iscoroutinefunction(found) else "def "
    flat = f"{kind}{name}({', '.join(texts)}){end}"
    return flat if len(flat) <= 100 else f"{kind}{name}(\n" + "".join(f"    {text},\n" for text in texts) + f"){end}"


def _with_text(parameter: inspect.Parameter) -> str:
    return f"{parameter.name}: {str(parameter.annotation).strip(chr(39))} = {parameter.default!r}"


def _fields(found: type) -> Iterator[tuple[str, str, str]]:
    if not attrs.has(found):
        return
    docs = field_docs(found)
    for field in attrs.fields(found):
        if field.name.startswith("_"):
            continue
        says = docs.get(field.name) or field.metadata.get("says", "")
        default = _default(field)
        yield f"`{field.name}`", f"`{_annotation(field.type)}`" + (f" = `{default}`" if default else ""), _md(says)


def _default(field: Any) -> str:
    if field.default is attrs.NOTHING or isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return ""
    return repr(field.default)


def _annotation(kind: Any) -> str:
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))


def _type(function: Any) -> str:
    return f"`{function.__annotations__.get('return', '')}`"


def _line(function: Any) -> str:
    return _md(" ".join((inspect.getdoc(function) or "").split()))


def prose(docstring: str) -> str:
    """A docstring as Markdown: examples fenced, cross-references and literals as code."""
    parts: list[str] = []
    for paragraph in docstring.split("\n\n"):
        if paragraph.startswith(">>> "):
            parts.append(f"```pycon\n{paragraph}\n```")
        else:
            parts.append(_md(paragraph))
    return "\n\n".join(parts)


def _md(text: str) -> str:
    text = re.sub(r":\w+:`~?(?:\w+\.)*?(\w+(?:\.\w+)?)`", lambda found: f"`{_short(found[1])}`", text)
    return text.replace("``", "`")


def _short(name: str) -> str:
    """A name without its module; a method keeps its class."""
    owner, _, last = name.rpartition(".")
    return name if owner[:1].isupper() else last


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(head), line(tuple("---" for _ in head)), *map(line, rows)])


def error_table() -> str:
    """Every error with its exit status, code, kind, what it is and what to do."""
    found = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, errors.RaveError)]
    rows = [
        (str(each.exit_code), f"`{each.__name__}`", str(each.code), f"`{each.kind}`", each.default_remedy)
        for each in found
        if "code" in vars(each) and each is not errors.RaveError
    ]
    rows.sort(key=lambda row: int(row[0]))
    head = ("status", "class in `rave_trio.errors`", "code", "kind", "remedy, unless the message has a better one")
    also = "0 is done; 1: `compare` found differences, `selftest` a failure, `audit` a promise that does not hold, or"
    also += " `validate` a fixture that does not."
    return f"## All of them\n\n{also}\n\n{table(head, rows)}"


def commands() -> str:
    """The command line, as ``--help`` has it."""
    with mock.patch.object(sys, "argv", ["rave-trio"]):  # cyclopts calls commands after the program that runs
        text = build_app(None).generate_docs()
    text = re.sub(r"^## Table of Contents\n.*?(?=^\*\*Commands\*\*)", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\n {4,}(?=\S)", " ", text)  # continuations, which Pythons indent differently
    text = re.sub(r"^# rave-trio$", "# The command line", text, count=1, flags=re.MULTILINE)
    return MADE + text.rstrip() + "\n"


def schemas() -> str:
    """Every published schema as tables: one for it and one for each object in it."""
    parts = [
        "# JSON Schemas",
        "They are in the package, under `rave_trio/schemas`; every `--json` prints one document.",
    ]
    for path in sorted(SCHEMAS.glob("*.json")):
        schema = json.loads(path.read_text(encoding="utf-8").replace('"#/$defs/', f'"{path.name}#/$defs/'))
        parts += [f"## {path.name}", f"{schema.get('title', '')}. {schema.get('description', '')}".strip()]
        success = schema.get("$defs", {}).get("success")
        if success is not None:
            parts += ["On success; on failure as [failure.json](#failurejson).", *_objects("", success)]
            continue
        parts += _objects("", schema)
        for name, each in schema.get("$defs", {}).items():
            if "properties" in each:
                parts += [f"### {path.stem}: {name}", each.get("description", ""), *_objects("", each)]
            else:
                parts.append(f"### {path.stem}: {name}\n\n{_kind(each)}")
    return MADE + "\n\n".join(part for part in parts if part) + "\n"


def _objects(prefix: str, schema: dict[str, Any]) -> Iterator[str]:
    """A table of an object's fields, those of objects in it among them."""
    rows = list(_rows(prefix, schema))
    if rows:
        yield table(("field", "type", ""), rows)


def _rows(prefix: str, schema: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    required = schema.get("required", [])
    for name, each in schema.get("properties", {}).items():
        inner, brackets = each, ""
        while "items" in inner and isinstance(inner["items"], dict):
            inner, brackets = inner["items"], brackets + "[]"
        if "anyOf" in inner:
            inner = next((one for one in inner["anyOf"] if "properties" in one), inner)
        says = each.get("description", "")
        optional = "" if name in required or not required else "; may be absent"
        yield f"`{prefix}{name}`", _kind(each) + optional, _md(says)
        yield from _rows(f"{prefix}{name}{brackets}.", inner)


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        file, _, place = schema["$ref"].partition("#/$defs/")
        stem = file.removesuffix(".json")
        return f"[{place}](#{stem}-{place})" if place else f"[{file}](#{stem}json)"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(each)}`" for each in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_kind(each) for each in schema[several]))
    kinds = schema.get("type", "anything")
    if kinds == "array" and isinstance(schema.get("items"), dict):
        return f"array of {_kind(schema['items'])}"
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)


def main() -> int:
    made = pages()
    stale = [name for name, text in made.items() if not (FOLDER / name).exists() or (FOLDER / name).read_text() != text]
    stray = sorted(path.name for path in FOLDER.glob("*.md") if path.name not in made)
    for name in stray + stale:
        if "--write" not in sys.argv:
            print(f"docs/reference/{name} is out of date: run make reference")
        elif name in stray:
            (FOLDER / name).unlink()
        else:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / name).write_text(made[name], encoding="utf-8")
    return 1 if stale + stray and "--write" not in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
