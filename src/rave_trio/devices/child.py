"""Questions put to a library in a process of its own, since it may end or hang the process that asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import rave_trio

PACKAGE_ROOT = Path(rave_trio.__file__).resolve().parent.parent
START = """
import runpy, sys, typing
sys.path.insert(0, sys.argv.pop(1))
import rave_trio
sys.path.pop(0)
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""
"""``python -m`` with this very package, whatever others are installed, and nothing else from the folder it is in."""


def ask(module: str, *, environment: Mapping[str, str], seconds: float) -> tuple[list[dict[str, Any]], str | None]:
    """Run ``module`` as a program and give the JSON objects that it wrote, one a line, to its standard output.

    The second value is None if it came to its end, with ``{"end": true}`` as its last word; else one line that says
    what became of it.  It is killed after ``seconds``.  Blocks; raises nothing for what the child does.
    """
    try:
        done = subprocess.run(
            [sys.executable or "python3", "-P", "-c", START, str(PACKAGE_ROOT), module],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return list(_objects(late.stdout)), f"no answer within {seconds:g} s"
    except OSError as error:
        return [], f"no process could be started: {error.strerror}"
    answers = list(_objects(done.stdout))
    if answers and answers[-1] == {"end": True}:
        return answers[:-1], None
    return answers, _last_words(done.stderr) or _ending(done.returncode)


def answering() -> Any:
    """In the child: a text file that leads to :func:`ask`.  What the library prints goes to standard error from now."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def _objects(output: bytes | None) -> Iterator[dict[str, Any]]:
    for line in (output or b"").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _last_words(stderr: bytes) -> str | None:
    """The line that says what was fatal, else the last one."""
    lines = [" ".join(line.split()) for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    fatal = [line for line in lines if "FATAL" in line]
    return (fatal or lines[-1:] or [""])[0][:200] or None


def _ending(status: int) -> str:
    return f"it was killed by signal {-status}" if status < 0 else f"it ended with status {status} without an answer"
