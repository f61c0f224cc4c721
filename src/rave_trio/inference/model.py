"""The contract between the engine and a model, and what is known of a model before it runs."""

from __future__ import annotations

from pathlib import Path

import attrs

CONTRACT = (
    "one NCHW input and one NCHW output, fp32 or fp16, 1 or 3 channels each, RGB in [0, 1], enlarging height and width "
    "by the same integer"
)


@attrs.frozen
class ModelMetadata:
    """What a model declares, and the scale that was found by asking it for an output shape.

    ``height`` and ``width`` are set when the model takes one size only.
    """

    name: str
    path: Path
    sha256: str
    scale: int
    input_name: str
    output_name: str
    input_channels: int
    output_channels: int
    height: int | None
    width: int | None


@attrs.frozen
class Geometry:
    """How one model is applied to frames of one size: the shape it is compiled for and how frames are cut for it.

    ``overlap`` is in input pixels on each side of a cut; ``overlap_known`` says whether it was derived from the graph.
    """

    tile_height: int
    tile_width: int
    overlap: int
    tiles: int
    overlap_known: bool = True


@attrs.frozen
class ModelLoad:
    """What one inference request of a compiled shape is expected to hold, in bytes, and the arithmetic it does."""

    activation_bytes: int
    weight_bytes: int
    flops: int
