"""The kinds of stages, each with its settings.  A setting that is None is left open: the profile or a default fills it.

All are frozen values.  Raising UsageError, they refuse settings that cannot be, by name.
"""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar

import attrs

from rave_trio.graph.settings import OneOf, Rate, Switch, Text, Whole, setting
from rave_trio.values import EFFORTS, PRECISIONS, as_rate


@attrs.frozen(kw_only=True)
class DecodeStage:
    """The input's frames."""

    kind: ClassVar[str] = "decode"

    video_stream: int | None = setting(Whole(0), "the stream to take, by its number in rave-trio probe; else the best")
    frame_rate: Fraction | None = attrs.field(default=None, converter=as_rate, metadata={
        "rule": Rate(), "says": "frames per second of numbered pictures, such as 24 or 24000/1001; else 25"
    })  # fmt: skip
    background: str | None = setting(Text(), "what transparent pictures are laid on: black, white, grey or #rrggbb")
    strict: bool | None = setting(Switch(), "whether the first damaged frame ends the run; else it is shown again")


@attrs.frozen(kw_only=True)
class DeinterlaceStage:
    """Whole frames out of interlaced ones, one out for one in."""

    kind: ClassVar[str] = "deinterlace"

    mode: str | None = setting(OneOf(("auto", "bwdif")), "auto takes frames that are flagged, the default; bwdif all")


@attrs.frozen(kw_only=True)
class EnhanceStage:
    """A model over every frame: it enlarges, or with a scale of 1 cleans."""

    kind: ClassVar[str] = "enhance"

    model: str | None = setting(
        Text(), "a shipped model's name or an ONNX file, found from the document's folder; else the one of the scale"
    )
    scale: int | None = setting(Whole(1), "how many times it enlarges; else what the model does, or 2")
    precision: str | None = setting(OneOf(PRECISIONS), "arithmetic, the same in all enhance stages; else auto")
    tile: int | None = setting(
        Whole(1), "the largest tile side in pixels of what goes in; else whole frames if they fit"
    )


@attrs.frozen(kw_only=True)
class ResizeStage:
    """An exact size, by Lanczos-3.  An open side follows the picture's shape, to the nearest even number."""

    kind: ClassVar[str] = "resize"

    width: int | None = setting(Whole(1), "pixels; else as the height and the picture's shape have it")
    height: int | None = setting(Whole(1), "pixels; else as the width and the picture's shape have it")
    square_pixels: bool | None = setting(
        Switch(), "whether pixels become square; else their aspect ratio changes so that the picture keeps its shape"
    )


@attrs.frozen(kw_only=True)
class EncodeStage:
    """Frames into the output's video stream."""

    kind: ClassVar[str] = "encode"

    codec: str | None = setting(Text(), "the encoder, such as libx264; else the container's default")
    crf: int | None = setting(Whole(0), "quality, lower is better; else the encoder's default for the effort")
    preset: str | None = setting(Text(), "the encoder's own name of an effort; else that of the effort")
    effort: str | None = setting(OneOf(EFFORTS), "fast, normal or high, whatever the encoder; else normal")
    pixel_format: str | None = setting(Text(), "by FFmpeg's name; else the encoder's nearest to the input's")
    dither: bool | None = setting(
        Switch(), "whether 8-bit samples are rounded by an ordered threshold; else to nearest"
    )


StageConfig = DecodeStage | DeinterlaceStage | EnhanceStage | ResizeStage | EncodeStage
"""Any stage of a graph; for annotations."""

KINDS: dict[str, type[StageConfig]] = {
    stage.kind: stage for stage in (DecodeStage, DeinterlaceStage, EnhanceStage, ResizeStage, EncodeStage)
}
