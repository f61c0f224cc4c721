"""The models that are shipped, and how a name or a path given by the user becomes a file."""

from __future__ import annotations

import hashlib
import os
import stat
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from rave_trio import errors

PACKAGE = Path(__file__).resolve().parent.parent


@attrs.frozen
class CatalogueModel:
    """One shipped model; ``path`` is its ONNX file."""

    name: str
    path: Path
    scale: int
    architecture: str
    licence: str
    source: str
    sha256: str


def models_folder() -> Path:
    """Where the shipped models are: inside the installed package, or at the root of a source tree."""
    installed = PACKAGE / "models"
    return installed if installed.is_dir() else PACKAGE.parent.parent / "models"


@cache
def catalogue() -> dict[str, CatalogueModel]:
    """All shipped models by name."""
    folder = models_folder()
    entries: dict[str, dict[str, Any]] = tomllib.loads((folder / "catalogue.toml").read_text())
    return {
        name: CatalogueModel(
            name=name,
            path=folder / entry["file"],
            scale=entry["scale"],
            architecture=entry["architecture"],
            licence=entry["licence"],
            source=entry["source"],
            sha256=entry["sha256"],
        )
        for name, entry in entries.items()
    }


def model_for_scale(scale: int) -> CatalogueModel:
    """The shipped model that enlarges ``scale`` times."""
    for model in catalogue().values():
        if model.scale == scale:
            return model
    known = ", ".join(str(model.scale) for model in catalogue().values())
    raise errors.UsageError(f"no shipped model enlarges {scale} times", remedy=f"use --scale {known}, or --model")


def find_model(name_or_path: str) -> tuple[str, Path]:
    """A model's display name and file.  A catalogue name wins over a file of that name in the current folder."""
    if entry := catalogue().get(name_or_path):
        return entry.name, entry.path
    path = Path(name_or_path)
    try:
        mode = path.stat().st_mode
    except PermissionError as error:
        raise errors.ModelUnknown(f"{path} may not be read", remedy="check the permissions") from error
    except (OSError, ValueError) as error:
        names = ", ".join(catalogue())
        raise errors.ModelUnknown(f"there is no model or file {name_or_path!r}; shipped are {names}") from error
    if not os.access(path, os.R_OK):
        raise errors.ModelUnknown(f"{path} may not be read", remedy="check the permissions")
    if not stat.S_ISREG(mode):
        raise errors.ModelUnknown(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'not a file'}, not an ONNX file")
    return path.stem, path


def sha256_of(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
