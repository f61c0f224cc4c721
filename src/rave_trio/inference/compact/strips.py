"""A picture through a network in strips of rows, so that activations of a strip are held and no more.

A strip holds as many rows beyond its own as the layers look; what each layer computes of them shrinks by a row a layer,
so that nothing is computed in vain.  The result is that of the whole picture, bit for bit.
"""

from __future__ import annotations

import itertools
import math

import attrs

from rave_trio.inference.compact.kernels_protocol import (
    ALIGNMENT,
    HEAD_STEPS,
    PLANES,
    REMAINING,
    TAPS,
    Architecture,
    Resampling,
    Rows,
    remainder_bytes,
    remainders_at,
)

HALF_BYTES = 2


@attrs.frozen
class Strip:
    """One strip; all rows are the picture's."""

    top: int
    bottom: int
    """The rows that are held, to before ``bottom``."""
    layers: tuple[Rows, ...]
    """What each layer computes, counted from ``top``."""
    result: Rows
    """The strip's own, counted from ``top``."""

    @property
    def height(self) -> int:
        return self.bottom - self.top


def strips(architecture: Architecture, layers: int, height: int, rows: int) -> list[Strip]:
    """``height`` rows in as few strips of at most ``rows`` as can be, all about as tall; ``layers`` count all."""
    count = -(-height // rows)
    edges = [height * at // count for at in range(count + 1)]
    return [_strip(architecture, layers, height, *pair) for pair in itertools.pairwise(edges)]


def _strip(architecture: Architecture, layers: int, height: int, begin: int, end: int) -> Strip:
    reach = 0 if architecture.resampling is None else resampling_reach(architecture.resampling, architecture.factor)

    def around(more: int) -> Rows:
        return Rows(max(0, begin - more), min(height, end + more))

    held = around(reach + layers)
    computed = [around(reach + layers - 1 - at) for at in range(layers)]
    return Strip(
        held.begin,
        held.end,
        tuple(Rows(rows.begin - held.begin, rows.end - held.begin) for rows in computed),
        Rows(begin - held.begin, end - held.begin),
    )


def resampling_reach(how: Resampling, factor: int) -> int:
    """How many of the picture's rows beyond a pixel's own the final resize looks, up or down."""
    before = max(-first for first in how.first)
    after = max(first + len(taps) for first, taps in zip(how.first, how.taps, strict=True)) - factor
    return max(0, math.ceil(before / factor), math.ceil(after / factor))


def buffer_bytes(
    architecture: Architecture, layers: int, height: int, width: int, rows: int, *, fp8: bool = False
) -> int:
    """What one of the two buffers between the layers takes: activations, at least those of the head in fp16, or what
    the tail leaves to the resize."""
    tallest = max(strip.height for strip in strips(architecture, layers, height, rows))
    features, pixels = architecture.features, tallest * width
    sizes = [HALF_BYTES * features * pixels]
    if fp8:
        sizes.append(remainders_at(tallest, width, features) + remainder_bytes(tallest, width))
    if architecture.resampling is not None:
        sizes.append(PLANES * architecture.factor**2 * HALF_BYTES * pixels)
    return max(sizes)


def picture_bytes(planes: int, height: int, width: int) -> int:
    """What a tensor takes."""
    return HALF_BYTES * planes * height * width


def aligned(nbytes: int) -> int:
    """Up to where the next piece may begin."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def parameter_bytes(architecture: Architecture, layers: int, *, fp8: bool = False) -> int:
    """What a network's packed parameters take, or a little more."""
    features, outputs = architecture.features, architecture.outputs
    weights = HALF_BYTES * (TAPS * features * (features * (layers - 2) + outputs) + HEAD_STEPS * features)
    rows = 2 * layers * max(features, outputs)
    pieces = 3 * layers
    if fp8:
        weights -= TAPS * features * (features * (layers - 3) + outputs)
        rows += (layers - 3) * (features + REMAINING) + outputs
        pieces += layers - 2
    return weights + pieces * ALIGNMENT + 4 * rows
