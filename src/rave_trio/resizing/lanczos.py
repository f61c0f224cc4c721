"""The weights of Lanczos-3, antialiased where pictures shrink.

Output sample i of n lies at c = (i + 1/2) m / n among m input samples, of which sample j lies at j + 1/2.  With
s = max(1, m / n) its weight is L((j + 1/2 - c) / s), L(x) = sinc(x) sinc(x / 3) for |x| < 3 and else 0, with
sinc(x) = sin(pi x) / (pi x) (C. E. Duchon, "Lanczos filtering in one and two dimensions", J. Appl. Meteorol. 18, 1979).
The weights of a sample are divided by their sum.  What lies outside the picture is its outermost sample.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
import numpy.typing as npt

LOBES = 3


@attrs.frozen(eq=False)
class Taps:
    """One axis: output sample i is the sum of ``weights[i, k]`` times input sample ``clip(first[i] + k, 0, m - 1)``.

    ``first`` is int32 of n, ``weights`` float64 of n x taps.
    """

    source: int
    first: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float64]


def taps_of(source: int, target: int) -> int:
    """How many input samples an output sample is made of at most."""
    return math.ceil(2 * LOBES * max(1.0, source / target)) + 1


def taps(source: int, target: int) -> Taps:
    """Of ``target`` samples from ``source`` ones, both at least 1."""
    stretch, count = max(1.0, source / target), taps_of(source, target)
    centre = (np.arange(target) + 0.5) * source / target
    first = np.floor(centre - LOBES * stretch + 0.5).astype(np.int32)
    places = first[:, np.newaxis] + np.arange(count) + 0.5
    x = (places - centre[:, np.newaxis]) / stretch
    weights = np.where(np.abs(x) < LOBES, np.sinc(x) * np.sinc(x / LOBES), 0.0)
    return Taps(source, first, weights / weights.sum(axis=1, keepdims=True))
