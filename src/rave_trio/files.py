"""Files that get their names when they are whole and on the disk, and whether they could."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import TextIO

from rave_trio import errors

UNFINISHED = ".tmp"
"""How the name of a file ends that is not whole."""


def check_place(path: Path, *, overwrite: bool) -> None:
    """Raise the OutputError that says why no file can be put there."""
    try:
        if not path.parent.is_dir():
            raise errors.OutputFolderMissing(f"there is no folder {path.parent} for {path.name}")
        if path.is_dir():
            raise errors.OutputNotWritable(f"{path} is a folder", remedy="name a file, not a folder")
        if os.path.lexists(path) and not overwrite:
            raise errors.OutputExists(f"{path} exists already")
    except OSError as error:
        raise errors.OutputNotWritable(f"{path} cannot be written: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise errors.OutputNotWritable(f"the folder {path.parent} may not be written to")


def is_same(one: Path, other: Path) -> bool:
    """Whether both name one file, be it there or not."""
    with contextlib.suppress(OSError):
        if one.exists() and other.exists():
            return one.samefile(other)
    return one.resolve() == other.resolve()


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk.  Blocking; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class NewFile:
    """A text file that gets its name when it is whole; until then it lies hidden beside it.  Blocking calls.

    Whoever has it calls :meth:`publish` or :meth:`discard`.  All raise OSError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hidden = path.with_name(f".rave-trio-{secrets.token_hex(8)}{UNFINISHED}")
        descriptor = os.open(self._hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self.file: TextIO = os.fdopen(descriptor, "w", encoding="utf-8")

    def publish(self) -> None:
        """Write through to the disk and give it its name."""
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            self._hidden.replace(self._path)
            sync(self._path.parent)
        except OSError:
            self.discard()
            raise

    def discard(self) -> None:
        """Leave nothing.  Idempotent."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self._hidden.unlink()


def write_whole(path: Path, *pieces: bytes) -> None:
    """Make ``path`` hold the pieces in a row, or leave it as it was.  Blocking; raises OSError."""
    new = NewFile(path)
    try:
        new.file.buffer.writelines(pieces)
        new.publish()
    except BaseException:
        new.discard()
        raise
