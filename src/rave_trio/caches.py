"""Where what is kept between runs lies."""

from __future__ import annotations

import os
from pathlib import Path

from rave_trio.files import write_whole


def cache_folder(kind: str) -> Path | None:
    """``rave-trio/KIND`` in XDG_CACHE_HOME if that is an absolute path, else in ``~/.cache``; None without a home."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            return None
    return base / "rave-trio" / kind


def keep(path: Path, text: str) -> None:
    """Make ``path`` hold ``text``, or leave it as it was; its folder is made.  Blocking; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
