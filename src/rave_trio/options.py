"""What the user wants, before anything is known about the media or the device."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import attrs

from rave_trio.contract import RunContract
from rave_trio.errors import UsageError
from rave_trio.graph import StageGraph
from rave_trio.values import EFFORTS, PRECISIONS, as_bytes, as_rate

BACKENDS = ("auto", "openvino", "compact", "onnxruntime", "tensorrt", "tensorrt-rtx")
DEINTERLACING = ("auto", "off", "bwdif")


def _known_precision(_job: object, _field: object, value: str) -> None:
    if value not in PRECISIONS:
        raise UsageError(f"there is no precision {value!r}", remedy=f"use {', '.join(PRECISIONS)}")


def _known_deinterlacing(_job: object, _field: object, value: str) -> None:
    if value not in DEINTERLACING:
        raise UsageError(f"there is no deinterlacing {value!r}", remedy=f"use {', '.join(DEINTERLACING)}")


def _known_effort(_job: object, _field: object, value: str | None) -> None:
    if value is not None and value not in EFFORTS:
        raise UsageError(f"there is no effort {value!r}", remedy=f"use {', '.join(EFFORTS)}")


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


def _positive_number(_job: object, field: attrs.Attribute[float | None], value: float | None) -> None:
    if value is not None and not (isinstance(value, int | float) and value > 0):
        raise UsageError(f"{field.name} must be above 0, not {value!r}")


LONGEST_DEADLINE = 10_000.0
"""Milliseconds that a batch may be waited for: far below what a call that hangs is given."""


def _milliseconds(_job: object, field: attrs.Attribute[float], value: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 <= value <= LONGEST_DEADLINE):
        raise UsageError(
            f"{field.name} must be a number from 0 to {LONGEST_DEADLINE:.0f}, not {value!r}",
            remedy="give milliseconds; 0 waits for none",
        )


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


Size = tuple[int | None, int | None]
"""Width and height in pixels, either of which may be left open."""


def _as_size(value: str | Size | None) -> Size | None:
    """A size from text such as ``1920x1080``, ``1920x`` or ``x1080``."""
    if value is None or isinstance(value, tuple):
        return value
    match = re.fullmatch(r"([1-9][0-9]{0,5})?x([1-9][0-9]{0,5})?", str(value).strip().lower())
    if not match or not any(match.groups()):
        raise UsageError(f"{value!r} is no size", remedy="give one such as 1920x1080, or one side: 1920x or x1080")
    width, height = (None if side is None else int(side) for side in match.groups())
    return width, height


def _as_path(value: str | Path) -> Path:
    return Path(value)


def _port(job: object, field: attrs.Attribute[int | None], value: int | None) -> None:
    if value is not None and not 0 <= value <= 65535:
        raise UsageError(f"there is no port {value}", remedy="give one up to 65535; 0 takes any that is free")


@attrs.frozen
class UpscaleOptions:
    """One job.  Raises UsageError for a value that cannot be, whatever the files are; nothing is looked at here.

    >>> from rave_trio import UpscaleOptions
    >>> UpscaleOptions("in.mkv", "out.mkv", size="1920x", vram_limit="2GiB").vram_limit
    2147483648

    ``scale`` None means the model's own, or 2; ``model`` is a catalogue name or the path of an ONNX file; ``codec``,
    ``crf`` and ``preset`` None mean the container's or the encoder's default; ``tile`` is the largest tile side in
    input pixels, None meaning whole frames if memory allows.

    ``video_stream`` is the index of the stream to upscale, None meaning the best one; ``frame_rate`` is that of an
    input that is an image sequence; ``pixel_format`` is libav's name of the output's, None meaning the encoder's
    nearest to the input's; ``dither`` has samples of 8 bits rounded by an ordered threshold;
    ``background`` is the colour that transparent pictures are laid on, as ``black``, ``white``, ``grey`` or
    ``#rrggbb``; ``deinterlace`` is auto, off or bwdif; ``strict`` makes damage in the input an error;
    ``drop_unsupported`` leaves out what the container cannot hold.

    ``size`` is the output's exact one, as ``1920x1080``, or one side of it, as ``1920x`` or ``x1080``; with
    ``square_pixels`` the pixels' aspect ratio becomes 1:1 on the way.  ``effort`` is the encoder's: fast, normal, high.

    ``graph`` says in place of all these what is done with the frames; then they stay at their defaults.  ``profile``
    is the name of the preset that fills what the graph leaves open: for options without a graph see
    :func:`rave_trio.profiles.with_profile`.  ``contract`` is what the run has to keep, or fail.

    ``audit`` watches the run's copies, memory and counts, and makes a promise that does not hold an error once the
    result is published.

    ``batch`` is how many frames or tiles a GPU computes at a time, ``streams`` how many such batches (on the CPU, how
    many frames or tiles) are worked on at once; None or ``auto`` means what is fastest: by the cores on the CPU,
    measured once on a GPU.  ``batch_deadline_ms`` is for how many milliseconds the first frame of a batch may wait for
    others to fill it; 0 has whatever is there started at once.

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
    batch_deadline_ms: float = attrs.field(default=0.0, validator=_milliseconds)
    overwrite: bool = False
    video_stream: int | None = attrs.field(default=None, validator=_not_negative)
    frame_rate: Fraction | None = attrs.field(default=None, converter=as_rate)
    pixel_format: str | None = None
    dither: bool = False
    background: str | None = None
    deinterlace: str = attrs.field(default="auto", validator=_known_deinterlacing)
    strict: bool = False
    drop_unsupported: bool = False
    audit: bool = False
    vram_limit: int | None = attrs.field(default=None, converter=as_bytes)
    stall_timeout: float | None = attrs.field(default=None, validator=_positive_number)
    size: Size | None = attrs.field(default=None, converter=_as_size)
    square_pixels: bool = False
    effort: str | None = attrs.field(default=None, validator=_known_effort)
    graph: StageGraph | None = None
    profile: str | None = None
    contract: RunContract | None = None
    trace: Path | None = attrs.field(default=None, converter=attrs.converters.optional(_as_path))
    report: Path | None = attrs.field(default=None, converter=attrs.converters.optional(_as_path))
    metrics_port: int | None = attrs.field(default=None, validator=_port)
    metrics_host: str = "127.0.0.1"
