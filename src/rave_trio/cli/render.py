"""Plain text for people, and the two streams it goes to, either of which may be closed, broken or full."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from rave_trio.errors import OutputNotWritable


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns, the first one aligned."""
    width = max((len(left) for left, _ in rows), default=0)
    return "\n".join(f"{left:<{width}}  {right}" for left, right in rows)


def put(text: str) -> None:
    """Write a result to stdout.  A reader that has gone away is its own business; a full disk is an error.

    What its encoding lacks, such as parts of a file's name that are no text, is written with backslashes.
    """
    if sys.stdout is None:
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding, sys.stdout.errors or "strict")
    except UnicodeEncodeError:
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(text, flush=True)  # noqa: T201 (the one place that prints results)
    except BrokenPipeError:
        _give_up(sys.stdout)
    except OSError as error:
        _give_up(sys.stdout)
        raise OutputNotWritable(
            f"cannot write to standard output: {error.strerror}", remedy="send it somewhere with room"
        ) from error


def say(text: str) -> None:
    """Write progress, a note or an error to stderr, if anybody is there to read it."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 (the one place that tells people)
    except OSError:
        _give_up(sys.stderr)


def _give_up(stream: TextIO) -> None:
    """What is buffered would be written again at exit, and fail again with a traceback or a status of its own."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
