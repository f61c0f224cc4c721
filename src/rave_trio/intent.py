"""What plain options ask for, as the values that plans are made of: every job is a graph under a contract."""

from __future__ import annotations

from typing import Any

import attrs

from rave_trio.contract import RunContract
from rave_trio.errors import UsageError
from rave_trio.graph import (
    DecodeStage,
    DeinterlaceStage,
    EncodeStage,
    EnhanceStage,
    ResizeStage,
    StageConfig,
    StageGraph,
)
from rave_trio.options import UpscaleOptions
from rave_trio.profiles import profile_named

OF_STAGES = (
    *("video_stream", "frame_rate", "background", "strict", "deinterlace"),
    *("model", "scale", "precision", "tile", "size", "square_pixels"),
    *("codec", "crf", "preset", "effort", "pixel_format", "dither"),
)
"""Options that say what a stage does; all others are about the run."""


def graph_of(options: UpscaleOptions) -> StageGraph:
    """What the options ask to be done with every frame.  What a graph of their own leaves open, their profile fills.

    Raises UsageError where a graph is given and options say something about its stages as well.
    """
    preset = profile_named(options.profile).options
    if options.graph is None:
        return _plain(options)
    defaults = attrs.fields_dict(UpscaleOptions)
    for name in OF_STAGES:
        value = getattr(options, name)
        if value not in (defaults[name].default, preset.get(name)):
            flag = name.replace("_", "-")
            raise UsageError(
                f"{name} is set to {value} and there is a graph, whose stages say that",
                remedy=f"write it into the graph; --{flag}, its variable and its entry of a file go without one",
            )
    return options.graph.filled(preset)


def _plain(options: UpscaleOptions) -> StageGraph:
    size = options.size
    stages: list[StageConfig] = [
        DecodeStage(
            video_stream=options.video_stream,
            frame_rate=options.frame_rate,
            background=options.background,
            strict=options.strict or None,
        )
    ]
    if options.deinterlace != "off":
        stages.append(DeinterlaceStage(mode=options.deinterlace))
    stages.append(
        EnhanceStage(
            model=options.model,
            scale=options.scale,
            precision=_unless("auto", options.precision),
            tile=options.tile,
        )
    )
    if size is not None:
        stages.append(ResizeStage(width=size[0], height=size[1], square_pixels=options.square_pixels or None))
    elif options.square_pixels:
        raise UsageError("square pixels come with a size", remedy="add --size, such as --size 1920x1080")
    stages.append(
        EncodeStage(
            codec=options.codec,
            crf=options.crf,
            preset=options.preset,
            effort=options.effort,
            pixel_format=options.pixel_format,
            dither=options.dither or None,
        )
    )
    return StageGraph(stages)


def _unless(default: Any, value: Any) -> Any:
    return None if value == default else value


def contract_of(options: UpscaleOptions) -> RunContract:
    """The contract of a job: the one that is given, and the profile's clauses where it has none."""
    contract = options.contract or RunContract()
    clauses = profile_named(options.profile).clauses
    return attrs.evolve(contract, **{n: value for n, value in clauses.items() if getattr(contract, n) is None})
