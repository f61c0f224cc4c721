"""Where a trace and a report go: refused before anything runs if they could not, in place only when they are whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import TextIO

from rave_trio import errors
from rave_trio.options import UpscaleOptions

REPORT_ENDINGS = (".html", ".json")


def check_places(options: UpscaleOptions) -> None:
    """Raise the OutputError that fits if the trace or the report could not be put where it should go."""
    taken = [("the input", options.input), ("the output", options.output)]
    for what, path in (("trace", options.trace), ("report", options.report)):
        if path is None:
            continue
        if what == "report" and path.suffix.lower() not in REPORT_ENDINGS:
            raise errors.UsageError(
                f"a report cannot be made as {path.name}",
                remedy=f"name a file that ends in {' or '.join(REPORT_ENDINGS)}",
            )
        for other, there in taken:
            if _same(path, there):
                kind = errors.OutputIsInput if there is options.input else errors.UsageError
                raise kind(f"--{what} names {other} itself, {path}", remedy="give it another name")
        try:
            check_place(path, overwrite=options.overwrite)
        except OSError as error:
            raise errors.OutputNotWritable(f"{path} cannot be written: {error.strerror}") from error
        taken.append((f"the {what}", path))


def check_place(path: Path, *, overwrite: bool) -> None:
    """Raise the OutputError that says why no file can be put there, or OSError."""
    if not path.parent.is_dir():
        raise errors.OutputFolderMissing(f"there is no folder {path.parent} for {path.name}")
    if path.is_dir():
        raise errors.OutputNotWritable(f"{path} is a folder", remedy="name a file, not a folder")
    if os.path.lexists(path) and not overwrite:
        raise errors.OutputExists(f"{path} exists already")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise errors.OutputNotWritable(f"the folder {path.parent} may not be written to")


def _same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        if one.exists() and other.exists():
            return one.samefile(other)
    return one.resolve() == other.resolve()


class NewFile:
    """A text file that gets its name when it is whole; until then it lies hidden beside it.  Blocking calls.

    Whoever has it calls :meth:`publish` or :meth:`discard`.  All raise OSError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hidden = path.with_name(f".rave-trio-{secrets.token_hex(8)}.tmp")
        descriptor = os.open(self._hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self.file: TextIO = os.fdopen(descriptor, "w", encoding="utf-8")

    def publish(self) -> None:
        """Write through to the disk and give it its name."""
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            self._hidden.replace(self._path)
        except OSError:
            self.discard()
            raise

    def discard(self) -> None:
        """Leave nothing.  Idempotent."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self._hidden.unlink()
