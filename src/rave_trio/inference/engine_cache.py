"""Built engines kept on disk: one file an engine, found by all that it depends on.

A file is two lines and the engine: what the file is, a JSON object with the whole key, the size and the SHA-256 of what
follows, then the bytes.  ``head -n 2`` shows what an engine was built from.

Files are written under another name, synced and renamed, so a reader meets a whole file or none, also after a crash.
Nobody waits for anybody: of several who build the same engine at once, each gets its own, and the last one stays.
What cannot be read back, or is not what its name says, is removed and built again.  A cache that cannot be used costs
time and a warning, never the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import attrs

from rave_trio.caches import cache_folder
from rave_trio.files import UNFINISHED, write_whole

log = logging.getLogger("rave_trio.inference")

FORMAT = 1
"""Version of the files, and of whatever else of ours an engine depends on."""

FIRST_LINE = b"rave-trio engine cache\n"
LONGEST_HEADER = 1 << 16
DEFAULT_LIMIT = 4 << 30
"""Bytes that all files may take up together."""

SUFFIXES = {"engine": ".engine", "runtime": ".runtime"}
"""What is kept: engines, and what the runtime compiled for them."""

ABANDONED_AFTER = 3600.0
"""Seconds after which an unfinished file is taken for one whose writer was killed; writing takes far less."""


@attrs.frozen
class EngineKey:
    """All that an engine depends on.  Two engines of the same key are interchangeable."""

    library: str
    version: str
    gpu: str
    """The device's name as the driver gives it."""
    compute_capabilities: tuple[str, ...]
    """What the engine is built for, such as ``8.9``; empty for the GPU that built it."""
    driver: str
    model_sha256: str
    """Of the ONNX bytes that were given to the parser."""
    shapes: tuple[tuple[int, ...], ...]
    """Of the input, N x C x H x W: the smallest, the one to optimise for, the largest."""
    precision: str
    options: tuple[tuple[str, str], ...] = ()
    """What else the builder was told, by name."""
    format: int = FORMAT

    def as_json(self) -> str:
        """The key as one line, the same for equal keys."""
        return json.dumps(attrs.asdict(self), sort_keys=True)

    def digest(self) -> str:
        """SHA-256 of the key, in hexadecimal."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()


def default_folder() -> Path | None:
    """Where engines are kept; None where there is no home."""
    return cache_folder("engines")


class EngineCache:
    """A folder of engines.  Thread-safe, and safe against other processes that use the same folder.

    Nothing here raises for what is wrong with the folder or a file in it: it warns, and goes on without.
    """

    def __init__(self, folder: Path | None, *, limit: int = DEFAULT_LIMIT) -> None:
        """``folder`` is made when it is first written to; None keeps nothing.  ``limit`` is in bytes."""
        self._folder = folder
        self._limit = limit

    def load(self, key: EngineKey, kind: str = "engine") -> bytes | None:
        """What was stored under the key; None if there is nothing, or nothing that can be used."""
        path = self.path(key, kind)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                header = file.readline(len(FIRST_LINE)) + file.readline(LONGEST_HEADER)
                payload = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error.strerror)
            return None
        if header != _header(key, kind, payload):
            log.warning("%s is damaged or not ours; it is made again", path)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return payload

    def store(self, key: EngineKey, payload: bytes, kind: str = "engine") -> bool:
        """Keep ``payload``, removing what was not used for longest if it gets too much; whether it was kept."""
        path = self.path(key, kind)
        if path is None:
            return False
        if len(payload) > self._limit:
            log.warning("an engine of %d bytes is not kept: the cache holds at most %d", len(payload), self._limit)
            return False
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(path, _header(key, kind, payload), payload)
        except OSError as error:
            log.warning("the engine cache %s cannot be written, so engines are built anew: %s", path.parent, error)
            return False
        self._tidy(path)
        return True

    def discard(self, key: EngineKey, kind: str = "engine") -> None:
        """Forget what is stored under the key, for instance since the library does not take it."""
        path = self.path(key, kind)
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()

    def path(self, key: EngineKey, kind: str = "engine") -> Path | None:
        """Where it is kept, or would be; None if nothing is."""
        return None if self._folder is None else self._folder / f"{key.digest()}{SUFFIXES[kind]}"

    def _tidy(self, newest: Path) -> None:
        """Keep within the limit, and remove what killed writers left."""
        assert self._folder is not None
        files: list[tuple[float, int, Path]] = []
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                with contextlib.suppress(OSError):
                    found = path.stat()
                    if path.suffix in SUFFIXES.values() and path != newest:
                        files.append((found.st_mtime_ns, found.st_size, path))
                    elif path.suffix == UNFINISHED and found.st_mtime < time.time() - ABANDONED_AFTER:
                        path.unlink()
            total = newest.stat().st_size + sum(size for _, size, _ in files)
            for _, size, path in sorted(files):
                if total <= self._limit:
                    break
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                total -= size


def _header(key: EngineKey, kind: str, payload: bytes) -> bytes:
    described: dict[str, Any] = {
        "kind": kind,
        "key": json.loads(key.as_json()),
        "size": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    return FIRST_LINE + json.dumps(described, sort_keys=True).encode() + b"\n"
