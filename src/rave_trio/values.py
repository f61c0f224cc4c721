"""What texts mean: words that options, graphs and contracts share, rates, and amounts of memory."""

from __future__ import annotations

import re
from fractions import Fraction

from rave_trio.errors import UsageError

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "fp8", "fastest")
"""``fastest`` is fp8 where that can be computed, and ``auto`` elsewhere."""

EFFORTS = ("fast", "normal", "high")


def as_rate(value: Fraction | float | str | None) -> Fraction | None:
    """Frames per second from a number or from text.  Raises UsageError."""
    if value is None:
        return None
    try:
        rate = Fraction(value).limit_denominator(1_001_000)
    except (ValueError, ZeroDivisionError, OverflowError, TypeError):
        rate = Fraction(0)
    if not 0 < rate <= 1_000_000:
        raise UsageError(f"{value!r} is no frame rate", remedy="give one such as 24, 23.976 or 24000/1001")
    return rate


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def as_bytes(value: int | str | None) -> int | None:
    """Bytes from a number, or from text such as ``2GiB``, ``1.5 GB`` or ``800M``."""
    if value is None:
        return None
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmg]?i?)b?\s*", str(value).lower())
    nbytes = int(float(match[1]) * UNITS[match[2]]) if match and match[2] in UNITS else 0
    if nbytes < 1:
        raise UsageError(f"{value!r} is no amount of memory", remedy="give one such as 2GiB or 800MB")
    return nbytes
