"""JSON Schemas of graphs and contracts, from the classes that check them."""

from __future__ import annotations

from typing import Any

from rave_trio.contract import CONTRACT_SCHEMA_VERSION, RunContract
from rave_trio.graph.settings import schema_of
from rave_trio.graph.stage_graph import GRAPH_SCHEMA_VERSION
from rave_trio.graph.stages import KINDS, ResizeStage

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def graph_schema() -> dict[str, Any]:
    """Of stage graphs.  The order of stages it knows as far as first, last and how many; the rest only we check."""
    kinds = {name: _stage(kind) for name, kind in KINDS.items()}
    return {
        "$schema": DIALECT,
        "title": "rave-trio stage graph",
        "description": "What is done with every frame, in order.",
        "type": "object",
        "required": ["graph_schema_version", "stages"],
        "additionalProperties": False,
        "properties": {
            "$schema": {"type": "string"},
            "graph_schema_version": {"const": GRAPH_SCHEMA_VERSION},
            "stages": {
                "type": "array",
                "minItems": 3,
                "prefixItems": [{"$ref": "#/$defs/decode"}],
                "items": {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in kinds if name != "decode"]},
                "contains": {"$ref": "#/$defs/encode"},
                "maxContains": 1,
            },
        },
        "$defs": kinds,
    }


def contract_schema() -> dict[str, Any]:
    """Of contracts."""
    return {
        "$schema": DIALECT,
        "title": "rave-trio run contract",
        "description": "What a run has to keep, or fail.",
        "type": "object",
        "required": ["contract_schema_version"],
        "additionalProperties": False,
        "properties": {
            "$schema": {"type": "string"},
            "contract_schema_version": {"const": CONTRACT_SCHEMA_VERSION},
            **schema_of(RunContract),
        },
    }


def _stage(kind: Any) -> dict[str, Any]:
    needs = {"anyOf": [{"required": ["width"]}, {"required": ["height"]}]} if kind is ResizeStage else {}
    return {
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "required": ["kind"],
        "additionalProperties": False,
        "properties": {"kind": {"const": kind.kind}, **schema_of(kind)},
        **needs,
    }
