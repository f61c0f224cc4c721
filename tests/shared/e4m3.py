"""Numbers of 8 bits, e4m3: sign, four bits of exponent, three of mantissa; no infinity, 127 and 255 are no numbers."""

from __future__ import annotations

import numpy as np


def _numbers() -> np.ndarray:
    exponent, mantissa = np.divmod(np.arange(127), 8)
    return np.where(exponent == 0, mantissa / 512, (8 + mantissa) / 8 * 2.0 ** (exponent - 7))


NUMBERS = _numbers()
"""Of the codes 0 to 126."""


def encoded(numbers: np.ndarray) -> np.ndarray:
    """Codes, uint8: rounded to nearest even, limited to 448."""
    size = np.abs(numbers)
    above = np.searchsorted(NUMBERS, size).clip(1, 126)
    below = above - 1
    to_above, to_below = NUMBERS[above] - size, size - NUMBERS[below]
    code = np.where((to_above < to_below) | ((to_above == to_below) & (above % 2 == 0)), above, below)
    return np.where(np.signbit(numbers), code | 0x80, code).astype(np.uint8)


def decoded(codes: np.ndarray) -> np.ndarray:
    """Numbers, float64."""
    size = np.append(NUMBERS, np.nan)[codes & 0x7F]
    return np.where(codes & 0x80, -size, size)
