"""Processes of the command, and what they say while they run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

Start = Callable[..., subprocess.Popen[str]]
WaitForFrames = Callable[..., dict[str, object]]


@pytest.fixture
def start() -> Start:
    """Begins upscaling in a process of its own."""

    def start(*arguments: object, before: Callable[[], object] | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "rave_trio", "upscale", *map(str, arguments), "--progress", "jsonl", "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before)

    return start


@pytest.fixture
def wait_for_frames() -> WaitForFrames:
    """Reads a process's progress."""

    def wait_for_frames(running: subprocess.Popen[str], event: str = "progress") -> dict[str, object]:
        """Read the progress until frames have come out, or the named event."""
        assert running.stderr is not None
        for line in running.stderr:
            record = json.loads(line)
            if record["event"] == event and (event != "progress" or record["done"] > 0):
                return dict(record)
        raise AssertionError(f"the run ended without {event}")

    return wait_for_frames
