"""Pictures in horizontal strips, so that what one operation leaves is still in the cache when the next one wants it."""

from __future__ import annotations

from collections.abc import Iterator

STRIP_BYTES = 1 << 19
"""Bytes of one float32 plane of a strip: few enough for the caches, enough to outweigh what each numpy call costs."""

MULTIPLE = 4
"""Strips are a multiple of this many lines: the largest vertical chroma factor (4:1:0)."""


def strip_lines(width: int, height: int) -> int:
    """The lines of a strip of pictures of this size."""
    fitting = STRIP_BYTES // (4 * width)
    return max(MULTIPLE, min(fitting, height + MULTIPLE - 1) // MULTIPLE * MULTIPLE)


def strips(height: int, lines: int) -> Iterator[tuple[int, int]]:
    """First line and the one after the last of every strip, from the top."""
    for start in range(0, height, lines):
        yield start, min(start + lines, height)
