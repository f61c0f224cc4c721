"""The published JSON Schemas, made from the classes: says what is out of date, or with --write brings it up to date."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from command_schemas import SUCCESS, command_schema, failure_schema, file_of, progress_schema, report_schema

from rave_trio.bench.schema import benchmark_schema
from rave_trio.graph.schema import contract_schema, graph_schema
from rave_trio.validation.fixture import fixture_schema

FOLDER = Path(__file__).resolve().parent.parent / "src" / "rave_trio" / "schemas"

MADE = {
    "graph": graph_schema,
    "contract": contract_schema,
    "fixture": fixture_schema,
    "report": report_schema,
    "failure": failure_schema,
    "progress": progress_schema,
    "benchmark": benchmark_schema,
    **{file_of(command): partial(command_schema, command) for command in SUCCESS},
}


def text(name: str) -> str:
    """What the file of that name should hold."""
    return json.dumps(MADE[name](), indent=2) + "\n"


def main() -> int:
    stale = [name for name in MADE if not (FOLDER / f"{name}.json").exists() or published(name) != text(name)]
    stray = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem not in MADE)
    for name in stray + stale:
        if "--write" not in sys.argv:
            print(f"{name}.json is out of date: run scripts/schemas.py --write")
        elif name in stray:
            (FOLDER / f"{name}.json").unlink()
        else:
            (FOLDER / f"{name}.json").write_text(text(name), encoding="utf-8")
    return 1 if stale + stray and "--write" not in sys.argv else 0


def published(name: str) -> str:
    return (FOLDER / f"{name}.json").read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
