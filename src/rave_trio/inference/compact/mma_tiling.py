"""How a convolution is cut into blocks and warps, and what lies where in a block's shared memory.

The choice follows from the number of channels and what shared memory the architecture gives to a block.  It was
measured on an H200: docs/compact-kernels-notes.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs

from rave_trio.inference.compact.kernels_protocol import REMAINING

KIB = 1024

SHARED_BYTES = {"75": 64 * KIB, "80": 163 * KIB, "87": 163 * KIB, "90": 227 * KIB, "100": 227 * KIB, "103": 227 * KIB}
"""The most that a block may use, by compute capability (CUDA C++ Programming Guide, technical specifications)."""

SHARED_BYTES_ELSEWHERE = 99 * KIB
"""8.6, 8.9, 12.0, 12.1."""

RESERVED_BYTES = KIB
"""What a block's shared memory takes beside what it uses; a multiprocessor has as much more than a block may use."""

SLICE_BYTES = 32
"""Of a pixel's channels, that a matrix product takes in."""

PIXELS_ACROSS = 16
"""Of a matrix product, and so of a warp."""

MOST_SUMS = 128
"""Registers of a thread that hold sums; what else it needs fits beside them into 255, the most that there are."""

FEW_SUMS = 32
"""With no more than these, two blocks share a multiprocessor."""

BARRIER_BYTES = 8


def shared_bytes_of(arch: str) -> int:
    """What a block may use of shared memory on ``arch`` (``"sm_90"``)."""
    return SHARED_BYTES.get(arch.removeprefix("sm_").rstrip("af"), SHARED_BYTES_ELSEWHERE)


@attrs.frozen
class Tiling:
    """Of one convolution from ``channels_in`` to ``channels_out``, both multiples of 16."""

    channels_in: int
    channels_out: int
    warps_x: int
    warps_y: int
    warps_out: int
    """Warps across, down and over the channels out."""
    warp_rows: int
    """Rows of 16 pixels that a warp computes."""
    ring_rows: int
    weight_stages: int
    """Steps of weights that lie in shared memory; all where they stay."""
    step_slices: int = 1
    """Slices of 32 bytes of channels in that make a step of weights."""
    blocks: int = 1
    """On a multiprocessor."""
    samples_bytes: int = 0
    """What each warp needs besides."""
    input_bytes: int = 2
    """Of a channel in: 2 in fp16, 1 in e4m3."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Warps across, down and over the channels out, and rows of a warp."""
        return self.warps_x, self.warps_y, self.warps_out, self.warp_rows

    @property
    def slices(self) -> int:
        """Of a pixel, of which the last one may be half full."""
        return -(-self.channels_in * self.input_bytes // SLICE_BYTES)

    @property
    def steps(self) -> int:
        """Of weights, in a tile."""
        return 3 * self.slices // self.step_slices

    @property
    def resident(self) -> bool:
        """Whether all weights stay in shared memory."""
        return self.weight_stages == self.steps

    @property
    def tile(self) -> tuple[int, int]:
        """Pixels across and down."""
        return PIXELS_ACROSS * self.warps_x, self.warp_rows * self.warps_y

    @property
    def warps(self) -> int:
        return self.warps_x * self.warps_y * self.warps_out

    @property
    def threads(self) -> int:
        return 32 * self.warps

    @property
    def sums(self) -> int:
        """Registers of a thread that hold sums."""
        return self.warp_rows * PIXELS_ACROSS * (self.channels_out // self.warps_out) // 32

    def layout(self) -> dict[str, int]:
        """Where each piece begins, in bytes; ``SHARED_BYTES`` is where they end."""
        sizes = {
            "RING_AT": self.ring_rows * (self.tile[0] + 2) * self.slices * SLICE_BYTES,
            "WEIGHTS_AT": self.weight_stages * self.step_slices * 3 * self.channels_out * SLICE_BYTES,
            "SAMPLES_AT": self.samples_bytes * self.warps,
            "BIAS_AT": 4 * self.channels_out,
            "SLOPE_AT": 4 * self.channels_out,
            "SCALE_AT": 4 * (self.channels_out + REMAINING) if self.input_bytes == 1 else 0,
            "BARRIERS_AT": BARRIER_BYTES * (4 + 2 * self.weight_stages),
        }
        ends = list(itertools.accumulate(sizes.values(), initial=0))
        return dict(zip([*sizes, "SHARED_BYTES"], ends, strict=True))

    @property
    def shared_bytes(self) -> int:
        return self.layout()["SHARED_BYTES"]

    def constants(self) -> list[str]:
        """C++ that kernels/mma_convolution.cuh is specialised by."""
        values = {
            "CHANNELS_IN": self.channels_in,
            "CHANNELS_OUT": self.channels_out,
            "INPUT_BYTES": self.input_bytes,
            "WARPS_X": self.warps_x,
            "WARPS_Y": self.warps_y,
            "WARPS_OUT": self.warps_out,
            "WARP_ROWS": self.warp_rows,
            "RING_ROWS": self.ring_rows,
            "WEIGHT_STAGES": self.weight_stages,
            "STEP_SLICES": self.step_slices,
            "BLOCKS": self.blocks,
            "UNROLLED_COLUMNS": 3 if self.resident else 1,
            **self.layout(),
        }
        return [f"constexpr int {name} = {value};" for name, value in values.items()]


RESIDENT, STREAMED = True, False

SHAPES = (
    (4, 2, 1, 4, RESIDENT),
    (4, 1, 2, 4, RESIDENT),
    (4, 2, 1, 2, RESIDENT),
    (4, 2, 1, 4, STREAMED),
    (4, 1, 2, 4, STREAMED),
    (4, 2, 1, 2, STREAMED),
    (2, 1, 4, 4, STREAMED),
    (2, 2, 2, 2, STREAMED),
    (2, 4, 1, 2, STREAMED),
    (1, 2, 4, 2, STREAMED),
    (2, 4, 1, 1, STREAMED),
    (1, 4, 1, 2, STREAMED),
)
"""Warps across, down and over the channels out, rows of a warp, and whether the weights stay; the first that fits is
taken."""

STAGES = ((4, 2), (3, 2), (4, 1), (3, 1), (2, 1))
"""Of weights that do not stay, and slices in a step."""


def tilings(
    channels_in: int, channels_out: int, shared_bytes: int, samples_bytes: int = 0, input_bytes: int = 2
) -> Iterator[Tiling]:
    """Those that fit into ``shared_bytes``, best first.

    Warps that need ``samples_bytes`` each have all channels out.  The ring holds a tile's rows and those that the next
    one adds, so that fetching is a tile ahead.
    """
    slices = -(-channels_in * input_bytes // SLICE_BYTES)
    for warps_x, warps_y, warps_out, warp_rows, resident in SHAPES:
        if channels_out % (16 * warps_out) or (samples_bytes and warps_out > 1):
            continue
        for stages, step_slices in ((3 * slices, 1),) if resident else STAGES:
            tiling = Tiling(
                channels_in=channels_in,
                channels_out=channels_out,
                warps_x=warps_x,
                warps_y=warps_y,
                warps_out=warps_out,
                warp_rows=warp_rows,
                ring_rows=2 * warp_rows * warps_y + 2,
                weight_stages=stages,
                step_slices=step_slices,
                samples_bytes=samples_bytes,
                input_bytes=input_bytes,
            )
            if tiling.sums > MOST_SUMS or slices % step_slices or tiling.weight_stages > tiling.steps:
                continue
            half = (shared_bytes + RESERVED_BYTES) // 2 - RESERVED_BYTES
            if tiling.sums <= FEW_SUMS and tiling.shared_bytes <= half:
                yield attrs.evolve(tiling, blocks=2)
            if tiling.shared_bytes <= shared_bytes:
                yield tiling


def tiling_of(channels_in: int, channels_out: int, arch: str, samples_bytes: int = 0, input_bytes: int = 2) -> Tiling:
    """The best tiling on ``arch``; there is one for all channels up to 128."""
    return next(tilings(channels_in, channels_out, shared_bytes_of(arch), samples_bytes, input_bytes))
