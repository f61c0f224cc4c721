"""``rave-trio graph``: stage graphs as documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from rave_trio.cli.flags import Common, JobFlags, Output
from rave_trio.cli.render import table

DEFAULT_FLAGS = JobFlags()
DEFAULT_COMMON = Common()

SOMEWHERE = Path("out.mkv")


def app(sources: list[Any]) -> App:
    """The command, of which ``show`` reads its defaults from ``sources``."""
    made = App(name="graph", help="Show and check stage graphs: what is done with the frames, as a document.")
    made.command(validate)
    made.command(show, config=sources)
    return made


def validate(file: Path, /, *, common: Common = DEFAULT_COMMON) -> Output:
    """Check a graph: its form, its settings and the order of its stages.  The media and the models are not looked at.

    Parameters
    ----------
    file
        The graph, JSON or (where the name ends so) TOML.
    """
    from rave_trio.graph import read_graph

    common.start_logging()
    found = read_graph(file)
    kinds = ", ".join(stage.kind for stage in found.stages)
    return Output({"graph": found.as_dict()}, f"{file}: a graph of {len(found.stages)} stages: {kinds}")


def show(
    input: Annotated[Path, Parameter(name=("--input", "-i"))] = SOMEWHERE,
    output: Annotated[Path, Parameter(name=("--output", "-o"))] = SOMEWHERE,
    *,
    format: Literal["json", "toml"] = "json",
    progress: Literal["auto", "bar", "jsonl", "off"] = "auto",
    flags: JobFlags = DEFAULT_FLAGS,
    common: Common = DEFAULT_COMMON,
) -> Output:
    """Print the graph of an upscale command line: the same flags, and the files if you like.

    With --profile, what the profile sets is told on stderr, so that the graph on stdout can be kept as a file.

    Parameters
    ----------
    input
        Not looked at.
    output
        Not looked at.
    format
        Of the document.
    progress
        Not looked at.
    """
    from rave_trio.cli.render import say
    from rave_trio.graph import as_json, as_toml
    from rave_trio.intent import graph_of
    from rave_trio.profiles import profile_named

    common.start_logging()
    options = flags.options(input, output)
    found, profile = graph_of(options), profile_named(options.profile)
    if options.profile is not None and not common.json:
        say(table([(f"profile {profile.name}", profile.says), *_rows(profile.options), *_rows(profile.clauses)]))
    data = {"graph": found.as_dict(), "profile": profile.as_dict()}
    return Output(data, as_json(found) if format == "json" else as_toml(found))


def _rows(values: Any) -> list[tuple[str, str]]:
    return [(f"  {name}", json.dumps(value)) for name, value in values.items()]
