"""The JSON Schemas of what each command prints with ``--json``, and of ``--progress jsonl``.

A new command gets an entry in ``_success``; ``make schemas`` writes its file, and ``tests/cli/test_json.py`` wants one.
"""

from __future__ import annotations

import copy
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from shapes import AMOUNT, COUNT, FLAG, TEXT, TEXTS, Schema, closed, fields_of, listed, nullable, shape_of

from rave_trio import errors
from rave_trio.audit.findings import AuditFinding
from rave_trio.audit.selftest import CheckResult
from rave_trio.audit.stress import StressReport
from rave_trio.cli.app import SCHEMA_VERSION
from rave_trio.devices.backends import Backend
from rave_trio.devices.cpu import CpuDevice
from rave_trio.devices.libraries import Library
from rave_trio.devices.nvidia import Gpu, Nvidia
from rave_trio.estimate import Estimate
from rave_trio.frames import ColorSpec
from rave_trio.gpu.transfers import PlannedCopy
from rave_trio.graph.schema import DIALECT
from rave_trio.inference.catalogue import CatalogueModel
from rave_trio.inference.model import Geometry
from rave_trio.media.compare import Comparison
from rave_trio.media.hdr import HdrMetadata
from rave_trio.media.probe import StreamInfo
from rave_trio.memory import LedgerStats
from rave_trio.observe.watch import CHANNELS
from rave_trio.pipeline import PipelineConfig
from rave_trio.pipeline.metrics import ChannelMetrics
from rave_trio.report import SCHEMA as REPORT
from rave_trio.tuning import Speed
from rave_trio.validation import Outcome

GPU = {"$ref": "report.json#/$defs/gpu"}
GRAPH = {"$ref": "graph.json"}
OBJECT: Schema = {"type": "object"}
FINDINGS: dict[str, Schema] = {
    "level": {"enum": ["pass", "warn", "fail"], "description": "That of the worst finding."},
    "findings": listed({"$ref": "report.json#/$defs/finding"}),
}


def _media() -> Schema:
    video = {
        "index": COUNT,
        "codec": TEXT,
        "width": COUNT,
        "height": COUNT,
        "pixel_format": {**TEXT, "description": "FFmpeg's name."},
        "bit_depth": COUNT,
        "color": shape_of(ColorSpec),
        "sample_aspect_ratio": {**TEXT, "description": "Such as 16/15, or unknown."},
        "time_base": {**TEXT, "description": "Seconds, such as 1/1000."},
        "rate": {**TEXT, "description": "Frames per second, such as 24000/1001."},
        "frames": {**nullable(COUNT), "description": "An estimate unless the container counts them."},
        "interlaced": FLAG,
        "display_matrix": nullable(listed({"type": "integer"})),
        "hdr": nullable(shape_of(HdrMetadata, {Fraction: {"type": "number"}})),
    }
    described = {
        "path": TEXT,
        "format": {**TEXT, "description": "libav's name."},
        "size": {**COUNT, "description": "Bytes."},
        "duration": {**nullable(AMOUNT), "description": "Seconds."},
        "chapters": {**COUNT, "description": "Their number."},
        "cut_short": {**FLAG, "description": "Whether the file ends before its container's framing says so."},
        "video": closed(video, says="The stream that would be upscaled."),
        "streams": listed(shape_of(StreamInfo)),
    }
    return closed(described)


def _success() -> dict[str, dict[str, Schema]]:
    """What stands beside ``schema_version``, ``command`` and ``ok``, by command."""
    comparison = fields_of(Comparison)
    stress = {"passed": FLAG, "failures": TEXTS, **fields_of(StressReport), "hit_rate": AMOUNT, "fps": AMOUNT}
    image = {
        "output": TEXT,
        "width": COUNT,
        "height": COUNT,
        "pixel_format": TEXT,
        "backend": TEXT,
        "precision": TEXT,
        "seconds": {**AMOUNT, "description": "Wall time, with loading and compiling the model."},
    }
    devices = {
        "cpu": shape_of(CpuDevice),
        "nvidia": closed({**fields_of(Nvidia, {Gpu: GPU})}),
        "backends": listed(shape_of(Backend)),
        "libraries": listed(shape_of(Library)),
    }
    validated = {
        "fixture": {**TEXT, "description": "Its path."},
        **FINDINGS,
        "outcome": nullable(shape_of(Outcome)),
        "written": {**FLAG, "description": "Whether the file was given this machine's hashes."},
        "passed": FLAG,
    }
    compact = {
        **nullable(FLAG),
        "description": "Whether our own kernels can compute it on a GPU; null where the package onnx is not installed.",
    }
    profile = closed({"name": TEXT, "says": TEXT, "options": OBJECT, "clauses": OBJECT})
    return {
        "upscale": {"report": {"$ref": "report.json"}},
        "plan": {"plan": {"$ref": "report.json#/$defs/plan"}, "estimate": shape_of(Estimate)},
        "graph validate": {"graph": GRAPH},
        "graph show": {"graph": GRAPH, "profile": profile},
        "image": {"image": closed(image)},
        "probe": {"media": {"$ref": "report.json#/$defs/media"}},
        "compare": {"same": FLAG, **comparison},
        "models": {"models": listed(closed({**fields_of(CatalogueModel), "compact": compact}))},
        "devices": {"devices": closed(devices)},
        "fingerprint": {"fingerprint": {"$ref": "report.json#/$defs/fingerprint"}},
        "selftest": {"selftest": closed({"passed": FLAG, "results": listed(shape_of(CheckResult))})},
        "audit": {"audit": closed(FINDINGS)},
        "validate": {"validation": closed({"passed": FLAG, "fixtures": listed(closed(validated))})},
        "audit stress": {"stress": closed(stress)},
        "benchmark": {
            "benchmark": {"$ref": "benchmark.json#/$defs/benchmark"},
            "sweep": {"$ref": "benchmark.json#/$defs/sweep"},
        },
        "benchmark compare": {"comparison": _benchmark_comparison()},
        "completion": {"completion": closed({"shell": TEXT, "script": TEXT})},
    }


def _benchmark_comparison() -> Schema:
    spread = {"$ref": "benchmark.json#/$defs/spread"}
    figure = {"name": TEXT, "first": spread, "second": spread, "ratio": AMOUNT, "least": AMOUNT, "most": AMOUNT}
    difference = {"what": TEXT, "first": {}, "second": {}}
    return closed(
        {
            "figures": listed(closed({**figure, "differs": FLAG})),
            "memory": {**listed(COUNT), "minItems": 2, "maxItems": 2, "description": "Peaks in bytes."},
            "differences": listed(closed(difference)),
        }
    )


SUCCESS = _success()

OPTIONAL = {"benchmark": ("benchmark", "sweep")}
"""What a command prints or does not, by command."""


def file_of(command: str) -> str:
    """The name of a command's schema, without its ending."""
    return f"command-{command.replace(' ', '-')}"


def command_schema(command: str) -> Schema:
    """Of the one document that ``command --json`` prints."""
    envelope = {
        "schema_version": {"const": SCHEMA_VERSION},
        "command": {"const": command.split()[0]},
        "ok": {"const": True},
    }
    return {
        "$schema": DIALECT,
        "title": f"rave-trio {command} --json",
        "oneOf": [{"$ref": "#/$defs/success"}, {"$ref": "failure.json"}],
        "$defs": {"success": closed({**envelope, **SUCCESS[command]}, optional=OPTIONAL.get(command, ()))},
    }


def failure_schema() -> Schema:
    """Of what any command prints with ``--json`` where it fails."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.RaveError)]
    own = [each for each in kinds if "code" in vars(each) and each is not errors.RaveError]
    error = {
        "code": {"enum": sorted({each.code for each in own}), "description": "Stays the same."},
        "kind": {"enum": sorted({each.kind for each in own}), "description": "Stays the same."},
        "message": {"type": "string", "minLength": 1, "description": "One line: what happened and where."},
        "remedy": {**TEXT, "description": "What to do."},
        "stage": {**TEXT, "description": "Of the pipeline, where frames were flowing."},
        "frame": {**COUNT, "description": "In presentation order, from 0."},
        "notes": {**TEXTS, "description": "What else went wrong, or where something was kept."},
        "report": {"$ref": "report.json", "description": "Of a run whose result is published and whose audit failed."},
    }
    document = {
        "schema_version": {"const": SCHEMA_VERSION},
        "command": {**nullable(TEXT), "description": "Its first word, where the command line names one."},
        "ok": {"const": False},
        "error": closed(error, optional=("stage", "frame", "notes", "report")),
    }
    return {"$schema": DIALECT, "title": "A command that failed, with --json", **closed(document)}


def progress_schema() -> Schema:
    """Of each line that ``upscale --progress jsonl`` writes to stderr."""
    moment = {
        "phase": {"enum": ["upscale", "publish"]},
        "done": {**COUNT, "description": "Frames that are encoded."},
        "total": {**nullable(COUNT), "description": "An estimate unless the container counts its frames."},
        "fps": {**AMOUNT, "description": "Frames per second since the run began."},
        "eta": {**nullable(AMOUNT), "description": "Seconds to go, where that can be told."},
        "queues": closed(dict.fromkeys(CHANNELS, COUNT), says="Frames that wait in each channel."),
    }
    at_once = {**FLAG, "description": "Whether it is the second request, which does not wait for what is in flight."}
    events: dict[str, dict[str, Schema]] = {
        "plan": {"plan": {"$ref": "report.json#/$defs/plan"}},
        "progress": moment,
        "stopping": {"at_once": at_once},
    }
    return {
        "$schema": DIALECT,
        "title": "A line of rave-trio upscale --progress jsonl",
        "description": "First the plan, then progress several times a second. Other lines on stderr are notes and the "
        "log; events begin with a brace.",
        "oneOf": [{"$ref": f"#/$defs/{event}"} for event in events],
        "$defs": {event: closed({"event": {"const": event}, **fields}) for event, fields in events.items()},
    }


def report_schema() -> Schema:
    """The published report's, which is written by hand, with the parts that classes decide brought up to date."""
    written: dict[str, Any] = json.loads(Path(REPORT).read_text(encoding="utf-8"))
    schema = copy.deepcopy(written)
    counted = {int: COUNT, float: AMOUNT}
    parts: dict[str, Schema] = {
        "account": shape_of(LedgerStats, counted),
        "channel": shape_of(ChannelMetrics, counted),
        "config": shape_of(PipelineConfig, counted),
        "cpu": shape_of(CpuDevice),
        "gpu": shape_of(Gpu),
        "geometry": shape_of(Geometry),
        "copy": shape_of(PlannedCopy),
        "speed": shape_of(Speed),
        "finding": closed(
            {**fields_of(AuditFinding), "level": {"enum": ["pass", "warn", "fail"]}, "figures": OBJECT},
            optional=("stage",),
        ),
        "media": _media(),
    }
    parts["finding"]["properties"]["stage"] = TEXT
    schema["$defs"].update(parts)
    return schema
