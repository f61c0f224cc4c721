"""What the user wants, before anything is known about the media or the device."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import attrs

from rave_trio.errors import UsageError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
BACKENDS = ("auto", "openvino", "onnxruntime", "tensorrt", "tensorrt-rtx")
DEINTERLACING = ("auto", "off", "bwdif")


def _known_precision(_job: object, _field: object, value: str) -> None:
    if value not in PRECISIONS:
        raise UsageError(f"there is no precision {value!r}", remedy=f"use {', '.join(PRECISIONS)}")


def _known_deinterlacing(_job: object, _field: object, value: str) -> None:
    if value not in DEINTERLACING:
        raise UsageError(f"there is no deinterlacing {value!r}", remedy=f"use {', '.join(DEINTERLACING)}")


def _known_backend(_job: object, _field: object, value: str) -> None:
    if value not in BACKENDS:
        raise UsageError(f"there is no backend {value!r}", remedy=f"use {', '.join(BACKENDS)}")


def _whole(_job: object, field: attrs.Attribute[int | None], value: int | None) -> None:
    if value is not None and not isinstance(value, int):
        raise UsageError(f"{field.name} must be a whole number, not {value!r}")


def _positive(job: object, field: attrs.Attribute[int | None], value: int | None) -> None:
    _whole(job, field, value)
    if value is not None and value < 1:
        raise UsageError(f"{field.name} must be at least 1, not {value}")


def _not_negative(job: object, field: attrs.Attribute[int | None], value: int | None) -> None:
    _whole(job, field, value)
    if value is not None and value < 0:
        raise UsageError(f"{field.name} must not be negative, but is {value}")


def _as_rate(value: Fraction | float | str | None) -> Fraction | None:
    if value is None:
        return None
    try:
        rate = Fraction(value).limit_denominator(1_001_000)
    except (ValueError, ZeroDivisionError, OverflowError, TypeError):
        rate = Fraction(0)
    if not 0 < rate <= 1_000_000:
        raise UsageError(f"{value!r} is no frame rate", remedy="give one such as 24, 23.976 or 24000/1001")
    return rate


def _positive_number(_job: object, field: attrs.Attribute[float | None], value: float | None) -> None:
    if value is not None and not (isinstance(value, int | float) and value > 0):
        raise UsageError(f"{field.name} must be above 0, not {value!r}")


MOST_AT_ONCE = 64
"""Streams or pictures of a batch; more than any device gains from."""


def _count(name: str, value: int | str | None) -> int | None:
    """A number from 1 on, or None for ``auto``."""
    if value is None or value == "auto":
        return None
    number = int(value) if re.fullmatch("[0-9]{1,9}", str(value)) else 0
    if not 1 <= number <= MOST_AT_ONCE:
        raise UsageError(f"{name} cannot be {value!r}", remedy=f"use auto, or a number from 1 to {MOST_AT_ONCE}")
    return number


def _as_batch(value: int | str | None) -> int | None:
    return _count("batch", value)


def _as_streams(value: int | str | None) -> int | None:
    return _count("streams", value)


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def _as_bytes(value: int | str | None) -> int | None:
    """Bytes from a number, or from text such as ``2GiB``, ``1.5 GB`` or ``800M``."""
    if value is None:
        return None
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmg]?i?)b?\s*", str(value).lower())
    nbytes = int(float(match[1]) * UNITS[match[2]]) if match and match[2] in UNITS else 0
    if nbytes < 1:
        raise UsageError(f"{value!r} is no amount of memory", remedy="give one such as 2GiB or 800MB")
    return nbytes


def _as_path(value: str | Path) -> Path:
    return Path(value)


def _port(job: object, field: attrs.Attribute[int | None], value: int | None) -> None:
    _not_negative(job, field, value)
    if value is not None and value > 65535:
        raise UsageError(f"there is no port {value}", remedy="give one up to 65535; 0 takes any that is free")


@attrs.frozen
class UpscaleOptions:
    """One job.

    ``scale`` None means the model's own, or 2; ``model`` is a catalogue name or the path of an ONNX file; ``codec``,
    ``crf`` and ``preset`` None mean the container's or the encoder's default; ``tile`` is the largest tile side in
    input pixels, None meaning whole frames if memory allows.

    ``video_stream`` is the index of the stream to upscale, None meaning the best one; ``frame_rate`` is that of an
    input that is an image sequence; ``pixel_format`` is libav's name of the output's, None meaning the encoder's
    nearest to the input's; ``dither`` has samples of 8 bits rounded by an ordered threshold;
    ``background`` is the colour that transparent pictures are laid on, as ``black``, ``white``, ``grey`` or
    ``#rrggbb``; ``deinterlace`` is auto, off or bwdif; ``strict`` makes damage in the input an error;
    ``drop_unsupported`` leaves out what the container cannot hold.

    ``audit`` watches the run's copies, memory and counts, and makes a promise that does not hold an error once the
    result is published.

    ``batch`` is how many frames or tiles a GPU computes at a time, ``streams`` how many such batches (on the CPU, how
    many frames or tiles) are worked on at once; None or ``auto`` means what is fastest: by the cores on the CPU,
    measured once on a GPU.

    ``vram_limit`` bounds the device's memory, on the CPU that of the frames and the network, in bytes or as ``2GiB``;
    ``stall_timeout`` is how many seconds a native call may take before it is given up, None meaning 60, or more where
    a frame may honestly take longer.

    ``trace`` is where to write a trace, ``report`` a report (``.html`` or ``.json``); ``metrics_port`` is the port of
    ``metrics_host`` at which Prometheus is served while the run lasts, 0 meaning any that is free.
    """

    input: Path = attrs.field(converter=_as_path)
    output: Path = attrs.field(converter=_as_path)
    scale: int | None = attrs.field(default=None, validator=_positive)
    model: str | None = None
    precision: str = attrs.field(default="auto", validator=_known_precision)
    device: str = "auto"
    backend: str = attrs.field(default="auto", validator=_known_backend)
    codec: str | None = None
    crf: int | None = attrs.field(default=None, validator=_whole)
    preset: str | None = None
    tile: int | None = attrs.field(default=None, validator=_positive)
    batch: int | None = attrs.field(default=None, converter=_as_batch)
    streams: int | None = attrs.field(default=None, converter=_as_streams)
    overwrite: bool = False
    video_stream: int | None = attrs.field(default=None, validator=_not_negative)
    frame_rate: Fraction | None = attrs.field(default=None, converter=_as_rate)
    pixel_format: str | None = None
    dither: bool = False
    background: str | None = None
    deinterlace: str = attrs.field(default="auto", validator=_known_deinterlacing)
    strict: bool = False
    drop_unsupported: bool = False
    audit: bool = False
    vram_limit: int | None = attrs.field(default=None, converter=_as_bytes)
    stall_timeout: float | None = attrs.field(default=None, validator=_positive_number)
    trace: Path | None = attrs.field(default=None, converter=attrs.converters.optional(_as_path))
    report: Path | None = attrs.field(default=None, converter=attrs.converters.optional(_as_path))
    metrics_port: int | None = attrs.field(default=None, validator=_port)
    metrics_host: str = "127.0.0.1"
