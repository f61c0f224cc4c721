"""A job as a document, with what has to come of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from rave_trio.errors import GraphError, UsageError
from rave_trio.graph.documents import build, read_document
from rave_trio.graph.settings import Above, Bytes, Text, Texts, Whole, schema_of, setting
from rave_trio.options import UpscaleOptions
from rave_trio.values import as_bytes

FIXTURE_SCHEMA_VERSION = 1

HASHED = 8

ELSEWHERE = {"input", "output", "model", "graph", "profile", "contract", "overwrite", "audit"}
"""Options that a fixture says at its top, or that are not its business."""

WATCHING = {"trace", "report", "metrics_port", "metrics_host"}

OPTIONS = tuple(f.name for f in attrs.fields(UpscaleOptions) if f.name not in ELSEWHERE | WATCHING)
"""What the table ``options`` may have."""


@attrs.frozen(kw_only=True)
class Hashes:
    """The hashes of the first frames before encoding, and where they were made: elsewhere they may be others."""

    device: str | None = setting(Text(), "the name of the CPU or GPU that computed")
    backend: str | None = setting(Text(), "what ran the network there")
    precision: str | None = setting(Text(), "the arithmetic of the network")
    frames: tuple[str, ...] | None = setting(Texts(), "SHA-256 of each of the first frames, in order")

    @property
    def made_on(self) -> tuple[str | None, str | None, str | None]:
        """Device, backend and precision: hashes of different ones are not comparable."""
        return self.device, self.backend, self.precision


@attrs.frozen(kw_only=True)
class Fixture:
    """One job and what has to come of it; what is None is not looked at.  Paths are found from the file's folder."""

    input: str | None = setting(Text(), "the video to upscale, from the file's folder")
    container: str | None = setting(Text(), "the ending of the output's name, such as mp4; default mkv")
    model: str | None = setting(Text(), "a shipped model's name, or an ONNX file from the file's folder")
    graph: str | None = setting(Text(), "a stage graph, from the file's folder, in place of options about stages")
    profile: str | None = setting(Text(), "defaults for a purpose, as --profile")
    frames: int | None = setting(Whole(1), "how many frames there have to be")
    hashed_frames: int | None = setting(Whole(1), f"how many frames, from the first on, are hashed; default {HASHED}")
    max_seconds: float | None = setting(Above(), "the most that the frames may take, from the first to the last")
    max_memory: int | str | None = setting(Bytes(), "the most that the engine may hold at once, as 2GiB")
    max_inference_p95_ms: float | None = setting(Above(), "as the contract's clause")
    max_inference_ms: float | None = setting(Above(), "as the contract's clause")
    max_frame_p95_ms: float | None = setting(Above(), "as the contract's clause")
    max_frame_ms: float | None = setting(Above(), "as the contract's clause")
    options: Mapping[str, Any] = attrs.field(factory=dict)
    """Of :class:`rave_trio.UpscaleOptions`, those in :data:`OPTIONS`."""
    hashes: tuple[Hashes, ...] = ()
    folder: Path = Path()

    @property
    def source(self) -> Path:
        """The input's path."""
        assert self.input is not None
        return self.folder / self.input

    @property
    def memory_limit(self) -> int | None:
        """``max_memory`` in bytes."""
        return as_bytes(self.max_memory)

    @property
    def hashing(self) -> int:
        """How many frames are hashed: as many as there are hashes, or as were asked for."""
        return self.hashed_frames or max((len(each.frames or ()) for each in self.hashes), default=0) or HASHED


def read_fixture(path: str | Path) -> Fixture:
    """The fixture in a TOML (or JSON) file.  Raises UsageError, which names the file and the place in it."""
    path = Path(path)
    try:
        return fixture_from(read_document(path), path.parent)
    except GraphError as error:
        raise UsageError(f"{path}: {error}", remedy=_remedy(error)) from error


def _remedy(error: GraphError) -> str:
    return (error.remedy or "").replace("docs/graph.md", "docs/validate.md")


def fixture_from(document: Mapping[str, Any], folder: Path) -> Fixture:
    """The fixture of plain values.  Raises GraphError with the setting."""
    version = document.get("fixture_schema_version")
    if version != FIXTURE_SCHEMA_VERSION or isinstance(version, bool):
        raise GraphError(
            f"fixture_schema_version is {version!r}, and this rave-trio knows {FIXTURE_SCHEMA_VERSION}",
            remedy=f"write fixture_schema_version = {FIXTURE_SCHEMA_VERSION}",
        )
    tables = {"fixture_schema_version", "$schema", "options", "hashes"}
    made: Fixture = build(
        Fixture, {name: value for name, value in document.items() if name not in tables}, "", "a fixture has"
    )
    if made.input is None:
        raise GraphError("input is missing", remedy="name the video to upscale")
    options, hashes = document.get("options", {}), document.get("hashes", [])
    if not isinstance(options, dict) or not isinstance(hashes, list):
        raise GraphError("options must be a table and hashes a list", remedy="write [options] and [[hashes]]")
    if strange := sorted(options.keys() - set(OPTIONS)):
        raise GraphError(f"options.{strange[0]} is unknown", remedy=f"options has {', '.join(OPTIONS)}")
    for name, value in options.items():
        _check_kind(name, value)
    entries = tuple(_hashes(at, each) for at, each in enumerate(hashes))
    if len({each.made_on for each in entries}) < len(entries):
        raise GraphError("hashes has two of one device, backend and precision", remedy="leave one of them")
    return attrs.evolve(made, options=options, hashes=entries, folder=folder)


def _check_kind(name: str, value: object) -> None:
    """Raise GraphError for an option that is not even of its kind; what it may be is checked where options are made."""
    declared = str(attrs.fields_dict(UpscaleOptions)[name].type)
    if declared.startswith("bool") and not isinstance(value, bool):
        raise GraphError(f"options.{name} must be true or false, not {value!r}", remedy=f"write {name} = true")
    if declared.startswith("str") and not isinstance(value, str):
        raise GraphError(f"options.{name} must be text, not {value!r}", remedy=f'write {name} = "..."')
    if isinstance(value, dict | list):
        raise GraphError(f"options.{name} must be one value, not {value!r}", remedy="see rave-trio upscale --help")


def _hashes(at: int, document: object) -> Hashes:
    if not isinstance(document, dict):
        raise GraphError(f"hashes[{at}] must be a table, not {document!r}", remedy="write [[hashes]]")
    made: Hashes = build(Hashes, document, f"hashes[{at}].", "hashes has")
    if None in (*made.made_on, made.frames):
        raise GraphError(
            f"hashes[{at}] is not whole", remedy="it needs device, backend, precision and frames; --update writes them"
        )
    return made


def fixture_schema() -> dict[str, Any]:
    """JSON Schema of fixtures."""
    hashes = schema_of(Hashes)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rave-trio fixture",
        "description": "A job, and what has to come of it.",
        "type": "object",
        "required": ["fixture_schema_version", "input"],
        "additionalProperties": False,
        "properties": {
            "$schema": {"type": "string"},
            "fixture_schema_version": {"const": FIXTURE_SCHEMA_VERSION},
            **schema_of(Fixture),
            "options": {
                "type": "object",
                "propertyNames": {"enum": list(OPTIONS)},
                "description": "Flags of rave-trio upscale, with underscores.",
            },
            "hashes": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": list(hashes),
                    "additionalProperties": False,
                    "properties": hashes,
                },
                "description": "One entry for each device, backend and precision; --update writes them.",
            },
        },
    }
