"""Numbers of 8 bits, e4m3: sign, four bits of exponent, three of mantissa, up to 448; no infinity."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LARGEST = 448.0

LEAST_EXPONENT = -6
"""Below two to this power numbers are all as far apart as just above it."""

NOT_A_NUMBER = 0x7F


def encoded(numbers: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Codes, of the same shape: rounded to nearest even, limited to :data:`LARGEST`."""
    size = np.minimum(np.abs(numbers), LARGEST).astype(np.float64)
    unknown = np.isnan(size)
    size[unknown] = 0
    exponent = np.maximum(np.frexp(size)[1] - 1, LEAST_EXPONENT)
    eighths = np.rint(np.ldexp(size, 3 - exponent)).astype(np.int64)
    code = np.where(unknown, NOT_A_NUMBER, (exponent - LEAST_EXPONENT) * 8 + eighths)
    return (code | np.where(np.signbit(numbers), 0x80, 0)).astype(np.uint8)
