"""Numbers of 8 bits, e4m3: sign, four bits of exponent, three of mantissa, up to 448; no infinity."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LARGEST = 448.0

LEAST_EXPONENT = -6
"""Below two to this power numbers are all as far apart as just above it."""

NOT_A_NUMBER = 0x7F


NUMBERS = np.array([(at % 8 / 8 + (at >= 8)) * 2.0 ** max(at // 8 - 7, LEAST_EXPONENT) for at in range(NOT_A_NUMBER)])
"""Of the codes without a sign."""


def rounded(numbers: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """What becomes of numbers that are some."""
    codes = encoded(numbers)
    result: npt.NDArray[np.float64] = np.where(codes & 0x80, -1, 1) * NUMBERS[codes & 0x7F]
    return result


def encoded(numbers: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Codes, of the same shape: rounded to nearest even, limited to :data:`LARGEST`."""
    size = np.minimum(np.abs(numbers), LARGEST).astype(np.float64)
    unknown = np.isnan(size)
    size[unknown] = 0
    exponent = np.frexp(np.maximum(size, 2.0**LEAST_EXPONENT))[1] - 1
    eighths = np.rint(np.ldexp(size, 3 - exponent)).astype(np.int64)
    code = np.where(unknown, NOT_A_NUMBER, (exponent - LEAST_EXPONENT) * 8 + eighths)
    return (code | np.where(np.signbit(numbers), 0x80, 0)).astype(np.uint8)
