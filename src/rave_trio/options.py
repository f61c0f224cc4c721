"""What the user wants, before anything is known about the media or the device."""

from __future__ import annotations

from pathlib import Path

import attrs

from rave_trio.errors import UsageError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def _known_precision(_job: object, _field: object, value: str) -> None:
    if value not in PRECISIONS:
        raise UsageError(f"there is no precision {value!r}", remedy=f"use {', '.join(PRECISIONS)}")


def _whole(_job: object, field: attrs.Attribute[int | None], value: int | None) -> None:
    if value is not None and not isinstance(value, int):
        raise UsageError(f"{field.name} must be a whole number, not {value!r}")


def _positive(job: object, field: attrs.Attribute[int | None], value: int | None) -> None:
    _whole(job, field, value)
    if value is not None and value < 1:
        raise UsageError(f"{field.name} must be at least 1, not {value}")


def _as_path(value: str | Path) -> Path:
    return Path(value)


@attrs.frozen
class UpscaleOptions:
    """One job.

    ``scale`` None means the model's own, or 2; ``model`` is a catalogue name or the path of an ONNX file; ``codec``,
    ``crf`` and ``preset`` None mean the container's or the encoder's default; ``tile`` is the largest tile side in
    input pixels, None meaning whole frames if memory allows.
    """

    input: Path = attrs.field(converter=_as_path)
    output: Path = attrs.field(converter=_as_path)
    scale: int | None = attrs.field(default=None, validator=_positive)
    model: str | None = None
    precision: str = attrs.field(default="auto", validator=_known_precision)
    device: str = "auto"
    codec: str | None = None
    crf: int | None = attrs.field(default=None, validator=_whole)
    preset: str | None = None
    tile: int | None = attrs.field(default=None, validator=_positive)
    overwrite: bool = False
