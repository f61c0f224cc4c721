"""A final resize within the tail's weights: a pixel's outputs are sums of its samples in place of the samples.

Along one axis a result is a weighted sum of samples, of which one may be a neighbouring pixel's outermost.  So all that
is needed of a pixel is ``scale`` sums of its own samples, and the first and the last of them, in both directions alike.
These are outputs of a convolution whose weights are such sums of the tail's.  Beyond the picture's edge the outermost
sample repeats, which is the edge pixel's own first or last.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.inference.compact.kernel_constants import taps
from rave_trio.inference.compact.kernels_protocol import PLANES, Architecture, Resampling
from rave_trio.inference.compact.net import Floats, Layer

OUTERMOST = 2
"""Sums of an axis beside one for each result: the first and the last sample."""


def resizes_within_weights(architecture: Architecture) -> bool:
    """Whether the sums are no more than the samples, and a result depends on its pixel's own samples and at most one
    beyond, before or behind but not both.
    """
    if architecture.resampling is None or architecture.scale + OUTERMOST > architecture.factor:
        return False
    first, weights = taps(architecture.resampling)
    last = first + weights.shape[1] - 1
    if first < -1 or last > architecture.factor:
        return False
    return first >= 0 or last < architecture.factor or not (weights[:, 0] * weights[:, -1]).any()


def sums_of(resampling: Resampling, factor: int) -> npt.NDArray[np.float64]:
    """[factor sums][factor samples]: the samples' weights in the first ``scale`` sums, which are what a pixel's own
    samples are of its results, and in the two that are its first and its last sample; any further sum is zero.
    """
    first, weights = taps(resampling)
    sums = np.zeros((factor, factor))
    for at in range(max(0, first), min(factor, first + weights.shape[1])):
        sums[: resampling.scale, at] = weights[:, at - first]
    sums[resampling.scale, 0] = sums[resampling.scale + 1, factor - 1] = 1
    return sums


def summed(tail: Layer, architecture: Architecture) -> Layer:
    """The tail with sums in the places of samples, as :mod:`~rave_trio.inference.compact.kernels_protocol` numbers
    them; combined in fp64.  For an architecture that :func:`resizes_within_weights`.
    """
    assert architecture.resampling is not None
    factor = architecture.factor
    sums = sums_of(architecture.resampling, factor)

    def of(outputs: Floats) -> Floats:
        samples = outputs.reshape(PLANES, factor, factor, -1).astype(np.float64)
        made: Floats = np.einsum("vi,hj,cijx->cvhx", sums, sums, samples).reshape(outputs.shape).astype(np.float32)
        return made

    return attrs.evolve(tail, weights=of(tail.weights), bias=of(tail.bias))
