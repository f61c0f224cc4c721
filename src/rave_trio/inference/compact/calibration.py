"""What a network in fp8 has to know beforehand: how large its activations become, and which of them to keep best.

A number of e4m3 has 4 significant bits wherever it lies, so a scale only has to keep activations below the largest,
with a margin that costs nothing.  Therefore a few drawn pictures do, the same for every network: the hardest edges and
every colour are in them.  Nothing depends on what is upscaled, so a run that goes on where another stopped gives the
frames that this one would have given.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.inference.compact.e4m3 import LARGEST
from rave_trio.inference.compact.kernels_protocol import REMAINING_CHANNELS
from rave_trio.inference.compact.net import CompactNet, Floats, bent, convolved

HEIGHT, WIDTH = 48, 64
"""Of the pictures."""

SHAPES = 30

LARGEST_HALF = float(np.finfo(np.float16).max)
"""What the trunk's sums stay below, since they are rounded to fp16 before they are bent."""

MARGIN = 2.0
"""How many times as large as in the pictures activations may be, and up to twice that, scales being powers of two."""


@attrs.frozen(eq=False)
class Calibration:
    """Of one network."""

    order: npt.NDArray[np.intp]
    """Its features, those whose rounding would do the most harm where remainders are kept: see :func:`reordered`."""
    scales: tuple[Floats, ...]
    """Of each layer of the trunk: what its outputs, in the network's own order, are divided by, features; powers of
    two."""
    energies: tuple[npt.NDArray[Any], ...]
    """Of the same outputs, the mean of their squares."""


@lru_cache(maxsize=4)
def calibrated(net: CompactNet) -> Calibration:
    """By computing the pictures in fp32: some tenths of a second for 64 features, seconds for 128 and many layers."""
    features = net.features
    largest, energy, passed = [], [], []
    values = pictures()
    for layer in net.layers[:-1]:
        sums = [convolved(each, attrs.evolve(layer, slope=None)) for each in values]
        values = [bent(each, layer.slope) for each in sums]
        before, behind = (np.concatenate([each.reshape(features, -1) for each in of], axis=1) for of in (sums, values))
        slope = np.ones(features, np.float32) if layer.slope is None else layer.slope
        positive = np.mean(before > 0, axis=1)
        most, most_behind = (np.abs(each).max(axis=1) for each in (before, behind))
        largest.append(np.maximum(most_behind, most * (LARGEST / LARGEST_HALF)))
        energy.append(np.mean(np.square(behind), axis=1))
        passed.append(positive + (1 - positive) * np.square(slope))
    order = _placed(np.argsort(-_harm(net, energy, passed), kind="stable"))
    return Calibration(order, tuple(map(scales_for, largest[1:])), tuple(energy[1:]))


def _placed(ranked: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """The first ones where remainders are kept."""
    order = np.empty_like(ranked)
    keeps = np.zeros(len(ranked), bool)
    keeps[REMAINING_CHANNELS] = True
    first = np.count_nonzero(keeps)
    order[keeps], order[~keeps] = ranked[:first], ranked[first:]
    return order


def scales_for(largest: Floats) -> Floats:
    """Powers of two that keep so large numbers, and a margin above them, within e4m3."""
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.ceil(np.log2(largest * MARGIN / LARGEST))
    return np.exp2(np.where(np.isfinite(exponent), exponent, 0)).astype(np.float32)


def _harm(net: CompactNet, energy: list[Any], passed: list[Any]) -> npt.NDArray[np.float64]:
    """What the rounding of each feature that goes straight on into the same feature adds to the result's error, summed
    over the trunk.  Errors are taken as independent, so that squares of weights carry them; rounding is relative, so
    that an error is as large as what is rounded.
    """
    harm = np.zeros(net.features)
    onward = np.ones(len(net.layers[-1].bias))
    own = np.arange(net.features)
    for at in range(len(net.layers) - 1, 1, -1):
        squares = np.square(net.layers[at].weights.astype(np.float64))
        if at < len(net.layers) - 1:
            onward = onward * passed[at]
            harm += energy[at - 1] * squares[own, own, 1, 1] * onward
        onward = onward @ squares.sum(axis=(2, 3))
    return np.nan_to_num(harm)


def reordered(net: CompactNet, order: npt.NDArray[np.intp]) -> CompactNet:
    """The same network with its features in another order."""
    head, *trunk, tail = net.layers

    def outputs(layer: Any, weights: Floats) -> Any:
        slope = None if layer.slope is None else layer.slope[order]
        return attrs.evolve(layer, weights=weights[order], bias=layer.bias[order], slope=slope)

    layers = [outputs(head, head.weights), *(outputs(each, each.weights[:, order]) for each in trunk)]
    return attrs.evolve(net, layers=(*layers, attrs.evolve(tail, weights=tail.weights[:, order])))


def pictures() -> list[Floats]:
    """3 x H x W each, of 8 bits in [0, 1]: shapes of any colour with soft and hard edges, the same upside down under
    noise, and samples that are 0 or 1: blocks of black and white, and each for itself."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    shapes = np.zeros((3, HEIGHT, WIDTH))
    for _ in range(SHAPES):
        across, down = np.abs(x - rng.uniform(0, WIDTH)), np.abs(y - rng.uniform(0, HEIGHT))
        size, softness, colour = rng.uniform(2, 16), rng.uniform(0.5, 4), rng.random((3, 1, 1))
        outside = np.hypot(across, down) - size if rng.random() < 0.5 else np.maximum(across / 2, down) - size / 2
        share = np.clip(0.5 - outside / softness, 0, 1)
        shapes = shapes * (1 - share) + colour * share
    noisy = np.clip(shapes[:, ::-1] + rng.normal(0, 0.05, shapes.shape), 0, 1)
    hardest = rng.random(shapes.shape) < 0.5
    hardest[:, : HEIGHT // 2] = (rng.random((HEIGHT // 4, WIDTH // 2)) < 0.5).repeat(2, axis=0).repeat(2, axis=1)
    return [(np.rint(each * 255) / 255).astype(np.float32) for each in (shapes, noisy, hardest)]
