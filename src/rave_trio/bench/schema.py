"""The JSON Schema of what a benchmark or a sweep writes; what it shares with a run's report is taken from there."""

from __future__ import annotations

import json
from typing import Any

from rave_trio.bench.axes import USUAL
from rave_trio.bench.report import SCHEMA_VERSION
from rave_trio.report import SCHEMA

DIALECT = "https://json-schema.org/draft/2020-12/schema"

COUNT = {"type": "integer", "minimum": 1}
BYTES = {"type": "integer", "minimum": 0}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}
SPEED = {"type": "number", "exclusiveMinimum": 0}
TEXT = {"type": "string"}


def benchmark_schema() -> dict[str, Any]:
    """Of both kinds of documents."""
    report = json.loads(SCHEMA.read_text(encoding="utf-8"))
    shared = report["$defs"]
    return {
        "$schema": DIALECT,
        "title": "A benchmark by rave-trio",
        "description": "Times are seconds, memory is bytes, speeds are frames per second. Fields may be added without "
        "a new schema_version; one that goes or changes its meaning raises it.",
        "oneOf": [{"$ref": "#/$defs/benchmark"}, {"$ref": "#/$defs/sweep"}],
        "$defs": {
            **shared,
            "benchmark": _document("benchmark", _benchmark(report)),
            "sweep": _document("sweep", _sweep()),
            "settings": _object(
                frames={**COUNT, "description": "Of each run, at most."},
                repeat={**COUNT, "description": "Runs that count."},
                warm_up={**BYTES, "description": "Runs before those."},
                encode={"type": "boolean", "description": "False where pictures are discarded."},
                synthetic={
                    "type": ["array", "null"],
                    "items": COUNT,
                    "minItems": 2,
                    "maxItems": 2,
                    "description": "Width and height of the clip that was made, if one was.",
                },
            ),
            "spread": _object(
                median=SPEED, least=SPEED, most=SPEED, values={"type": "array", "items": SPEED, "minItems": 1}
            ),
        },
    }


def _document(kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    return _object(
        schema_version={"const": SCHEMA_VERSION},
        kind={"const": kind},
        settings={"$ref": "#/$defs/settings"},
        **properties,
        fingerprint={"$ref": "#/$defs/fingerprint"},
        plan={"$ref": "#/$defs/plan"},
    )


def _benchmark(report: dict[str, Any]) -> dict[str, Any]:
    spread = {"$ref": "#/$defs/spread"}
    return {
        "frames": {**COUNT, "description": "That there were in each run."},
        "pipeline_fps": spread,
        "network_fps": {**spread, "description": "Of the models alone, on tensors that are there."},
        "ratio": {**spread, "description": "Pipeline against network, each round's two."},
        "bottleneck": {**TEXT, "description": "The stage that was busy longest in the run of the median speed."},
        "stages": {
            "type": "array",
            "description": "Of the same run, as shares of its time; for the rest of it the stage had ended.",
            "items": _object(
                name=TEXT,
                busy=SHARE,
                waiting_for_input=SHARE,
                waiting_for_output=SHARE,
                latency=report["$defs"]["stage"]["properties"]["latency"],
            ),
        },
        "memory": _object(
            peak={**BYTES, "description": "By the ledger, of the same run."},
            limit={"type": ["integer", "null"], "minimum": 0},
            resident_peak={**BYTES, "description": "The most that the process had of the host's memory."},
        ),
        "pool": report["properties"]["pool"],
        "notes": {"type": "array", "items": TEXT},
    }


def _sweep() -> dict[str, Any]:
    nullable: dict[str, Any] = {"type": ["integer", "null"], "minimum": 1}
    speed = _object(batch=COUNT, streams=COUNT, per_second=SPEED)
    return {
        "axes": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {axis: {"type": "array", "minItems": 1, "items": nullable} for axis in USUAL},
        },
        "points": {
            "type": "array",
            "minItems": 1,
            "items": _object(
                values={"type": "object", "additionalProperties": nullable},
                batch=nullable,
                streams=nullable,
                backend={"type": ["string", "null"]},
                pipeline_fps={"oneOf": [{"$ref": "#/$defs/spread"}, {"type": "null"}]},
                network_fps={"oneOf": [SPEED, {"type": "null"}]},
                failure={"type": ["string", "null"], "description": "Why there are no speeds."},
            ),
        },
        "best": {**BYTES, "description": "The number of the point with the fastest pipeline, from 0."},
        "kept": {
            "type": "array",
            "description": "What auto chooses by from now on, for each size of tiles and backend.",
            "items": _object(
                speeds={"type": "array", "items": speed, "description": "Pictures of one tile a second."},
                reason={"type": ["string", "null"], "description": "Why nothing was kept."},
                where=TEXT,
                chosen={"oneOf": [speed, {"type": "null"}]},
            ),
        },
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "additionalProperties": True, "properties": properties}
