"""The command line: one module a command; rendering for people, JSON and JSON lines."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from rave_trio.errors import Stalled

STOPPED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line, the process's own unless it is given, and return its exit status.

    A process that leaves a thread behind in a native call ends here: the thread would come back while the interpreter
    goes down, which aborts the process.
    """
    try:
        from rave_trio.cli.app import run
    except KeyboardInterrupt:  # while modules load, before anything has begun
        return STOPPED
    status = run(argv)
    if argv is None and status == Stalled.exit_code:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, full, or not there
                stream.flush()
        os._exit(status)
    return status


__all__ = ["main"]
