"""The command line: one module a command; rendering for people, JSON and JSON lines."""

from rave_trio.cli.app import main

__all__ = ["main"]
