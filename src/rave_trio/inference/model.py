"""The contract between the engine and a model, and what is known of a model before it runs."""

from __future__ import annotations

from pathlib import Path

import attrs

CONTRACT = (
    "one NCHW input and one NCHW output, fp32 or fp16, RGB in [0, 1], 3 channels to 3 or 1, or 1 to 1, "
    "enlarging height and width by the same integer"
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

    ``overlap`` is in input pixels on each side of a cut; ``reach`` is how far an output pixel looks according to the
    graph, None if that cannot be told.  Tiles start at multiples of ``period`` input pixels.
    """

    tile_height: int
    tile_width: int
    overlap: int
    tiles: int
    reach: int | None = None
    period: int = 1
    strip: int | None = None
    """The most rows that a backend which can computes at a time, to the same result; None for all of a tile's."""

    @property
    def strip_rows(self) -> int:
        """``strip`` as a number."""
        return self.strip or self.tile_height

    @property
    def seamless(self) -> bool:
        """Whether the tiles are certain to give what the whole frame would."""
        return self.tiles == 1 or (self.reach is not None and self.overlap >= self.reach)


@attrs.frozen
class ModelLoad:
    """What one inference request of a compiled shape is expected to hold, in bytes, and the arithmetic it does."""

    activation_bytes: int
    weight_bytes: int
    flops: int


ARENA_SLACK = 256 << 20
"""Bytes beside a model's tensors and weights that convolutions may want to work in."""


def arena_bytes(load: ModelLoad, batch: int = 1) -> int:
    """What a library on a GPU may take for ``batch`` pictures at once of one shape: its scratch memory and the weights.

    Twice what the graph needs, since NHWC and NCHW copies of a tensor are alive together, and the slack.
    """
    return 2 * (batch * load.activation_bytes + load.weight_bytes) + ARENA_SLACK
