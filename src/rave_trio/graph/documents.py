"""Stage graphs as JSON and TOML documents.  Whatever is wrong is told with its path, such as ``stages[2].scale``."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from rave_trio.errors import GraphError, UsageError
from rave_trio.graph.settings import given, settings_of
from rave_trio.graph.stage_graph import StageGraph
from rave_trio.graph.stages import KINDS, EnhanceStage, StageConfig

HEAD = {"graph_schema_version", "stages", "$schema"}


def read_graph(path: str | Path) -> StageGraph:
    """The graph in a file, TOML if its name ends so and JSON otherwise.  Raises GraphError, which names the file.

    Models that are named by relative paths are looked for from the file's folder.
    """
    path = Path(path)
    try:
        return graph_from(read_document(path), folder=path.parent)
    except GraphError as error:
        raise GraphError(f"{path}: {error}", remedy=error.remedy) from error


def read_document(path: Path) -> dict[str, Any]:
    """A JSON or TOML file as plain values.  Raises GraphError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise GraphError(f"it cannot be read: {why}", remedy="check the path") from error
    try:
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise GraphError(f"it is no {kind}: {error}", remedy="correct the file; TOML files end in .toml") from error
    except RecursionError as error:
        raise GraphError("it is nested too deeply", remedy="correct the file") from error
    if not isinstance(found, dict):
        raise GraphError("it is no object", remedy="see docs/graph.md for examples")
    return found


def graph_from(document: Mapping[str, Any], folder: Path | None = None) -> StageGraph:
    """The graph of plain values.  Raises GraphError with the path of what is wrong.

    ``folder`` is where relative paths of models begin, the current one if it is not given.
    """
    if strange := sorted(document.keys() - HEAD):
        raise GraphError(f"{strange[0]} is unknown", remedy="a graph has graph_schema_version and stages")
    for name in ("graph_schema_version", "stages"):
        if name not in document:
            raise GraphError(f"{name} is missing", remedy="see docs/graph.md for examples")
    stages = document["stages"]
    if not isinstance(stages, list):
        raise GraphError(f"stages must be a list, not {stages!r}", remedy="see docs/graph.md for examples")
    made = [_stage(f"stages[{at}]", stage) for at, stage in enumerate(stages)]
    return StageGraph([_placed(stage, folder) for stage in made], graph_schema_version=document["graph_schema_version"])


def _stage(path: str, document: object) -> StageConfig:
    if not isinstance(document, dict):
        raise GraphError(f"{path} must be an object, not {document!r}", remedy=f'write {path} as {{"kind": ...}}')
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        told = f"{path}.kind is missing" if kind is None else f"{path}.kind is {kind!r}, which there is not"
        raise GraphError(told, remedy=f"kinds are {', '.join(KINDS)}")
    values = {name: value for name, value in document.items() if name != "kind"}
    stage: StageConfig = build(KINDS[kind], values, f"{path}.", f"{kind} has")
    return stage


def build(what: type[Any], values: Mapping[str, Any], prefix: str, has: str) -> Any:
    """An object of settings.  Raises GraphError with ``prefix`` before the setting's name."""
    known = settings_of(what)
    for name, value in values.items():
        if name not in known:
            raise GraphError(f"{prefix}{name} is unknown", remedy=f"{has} {', '.join(known)}")
        value = tuple(value) if isinstance(value, list) else value
        problem = known[name].metadata["rule"].problem(value)
        if problem:
            raise GraphError(f"{prefix}{name} {problem}", remedy=f"{name}: {known[name].metadata['says']}")
    try:
        return what(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
    except UsageError as error:
        raise GraphError(f"{prefix[:-1]}: {error}" if prefix else str(error), remedy=error.remedy) from error


def _placed(stage: StageConfig, folder: Path | None) -> StageConfig:
    """The stage, its model's file found from ``folder``."""
    if folder is None or not isinstance(stage, EnhanceStage) or stage.model is None:
        return stage
    there = folder / stage.model
    return attrs.evolve(stage, model=str(there)) if there.is_file() else stage


def as_json(graph: StageGraph) -> str:
    """The document as JSON."""
    return json.dumps(graph.as_dict(), indent=2)


def as_toml(graph: StageGraph) -> str:
    """The document as TOML."""
    lines = [f"graph_schema_version = {graph.graph_schema_version}"]
    for stage in graph.stages:
        lines += ["", "[[stages]]", f'kind = "{stage.kind}"']
        # JSON's texts, numbers, truths and lists of them are TOML's too.
        lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in given(stage).items()]
    return "\n".join(lines)
