"""The command line: one module a command; rendering for people, JSON and JSON lines."""

from __future__ import annotations

from collections.abc import Sequence

STOPPED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    try:
        from rave_trio.cli.app import run
    except KeyboardInterrupt:  # while modules load, before anything has begun
        return STOPPED
    return run(argv)


__all__ = ["main"]
