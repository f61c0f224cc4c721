"""What stands before kernels' texts in C++ and more than one set of kernels wants."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rave_trio.inference.compact.kernels_protocol import Resampling


def flag(name: str, value: bool) -> str:
    """A constant that is true or false."""
    return f"constexpr bool {name} = {str(value).lower()};"


def taps(resampling: Resampling, repeated: int = 1) -> tuple[int, npt.NDArray[Any]]:
    """The first sample that counts in any phase, and phases x samples from it on: what each counts.

    With ``repeated`` they are of pixels that are repeated as often, each into neighbouring samples.
    """
    places = [
        [((start + k) // repeated, tap) for k, tap in enumerate(weights)]
        for start, weights in zip(resampling.first, resampling.taps, strict=True)
    ]
    used = [at for row in places for at, tap in row if tap]
    first = min(used)
    dense = np.zeros((resampling.scale, max(used) - first + 1))
    for weights, row in zip(dense, places, strict=True):
        for at, tap in row:
            if tap:
                weights[at - first] += tap
    return first, dense


def taps_table(name: str, resampling: Resampling, repeated: int = 1) -> list[str]:
    """The same as constants."""
    first, dense = taps(resampling, repeated)
    rows = ", ".join("{" + ", ".join(f"{float(np.float32(tap)).hex()}f" for tap in row) + "}" for row in dense)
    return [
        f"constexpr int {name}_FIRST = {first}, {name}_SPAN = {dense.shape[1]};",
        f"__device__ constexpr float {name}_TAPS[{dense.shape[0]}][{dense.shape[1]}] = {{{rows}}};",
    ]
