"""Ordered dither: thresholds in the place of one half where code values are rounded, for the CPU and for the kernels.

A threshold is Bayer's 8 x 8 matrix at the sample's place among those of its component, one column further for Cb and
one line further for Cr, so that the components' patterns do not coincide.  (B. E. Bayer, "An optimum method for
two-level rendition of continuous-tone pictures", ICC 1973.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rave_trio.color.samples import Floats

SIDE = 8

UNIT = 128
"""What thresholds are counted in: they are odd multiples of 1/128, whose mean is 1/2."""

MOST_BITS = 8
"""Of a sample that is dithered: with more, the steps between neighbouring codes are not seen."""

CB, CR = (1, 0), (0, 1)
"""Columns and lines by which the matrix is moved."""


def thresholds() -> npt.NDArray[np.int64]:
    """8 x 8, in units of 1/128: the bits of x ^ y and of y, reversed and interleaved, are a sample's rank."""
    y, x = np.indices((SIDE, SIDE))
    a = x ^ y
    rank = (a & 1) << 5 | (y & 1) << 4 | (a & 2) << 2 | (y & 2) << 1 | (a & 4) >> 1 | (y & 4) >> 2
    return 2 * rank + 1


class Rounding:
    """What is added to code values before their fractions are cut off: one half, or with ``dither`` thresholds."""

    def __init__(self, width: int, lines: int, *, dither: bool) -> None:
        """For strips of at most ``lines`` lines of ``width`` samples."""
        self._added: Floats | None = None
        if dither:
            repeats = -(-lines // SIDE) + 2, -(-width // SIDE) + 1
            self._added = np.tile((thresholds() / UNIT).astype(np.float32), repeats)

    def add(self, codes: Floats, start: int, moved: tuple[int, int] = (0, 0)) -> None:
        """In place, to rows of one component from row ``start`` on; the matrix is ``moved`` columns and lines on."""
        if self._added is None:
            np.add(codes, 0.5, out=codes)
            return
        columns, lines = moved
        height, width = codes.shape
        first = (start + lines) % SIDE
        np.add(codes, self._added[first : first + height, columns : columns + width], out=codes)
