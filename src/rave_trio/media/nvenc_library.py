"""PyNvVideoCodec's encoder: where it is imported, and its failures in our words.

Creating an encoder ends the process where CUDA has no device at all: ask :mod:`rave_trio.devices.nvidia` first.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from rave_trio.devices.interface import LaunchError
from rave_trio.errors import EncodeError, OutOfMemory

NO_DEVICE = {1, 2, 3, 4, 5}
"""NVENCSTATUS: no encoder, or not on this GPU."""
MEMORY = 10
CLIENT_KEY = 21


@attrs.frozen
class NvencLibrary:
    """The module ``PyNvVideoCodec``, or what goes for it, and how it is told of a stream."""

    module: Any
    handle: Callable[[Any], int]
    """The CUstream of a stream of ours."""

    @contextlib.contextmanager
    def failures(self, what: str) -> Iterator[None]:
        """Turn the library's exceptions into EncodeError and OutOfMemory that begin with ``what`` failed."""
        try:
            yield
        except LaunchError as error:
            raise EncodeError(
                f"{what}: work on the GPU had failed: {error}",
                remedy="run it again; if it happens again, use a software encoder such as --codec libx265",
            ) from error
        except MemoryError as error:
            raise OutOfMemory(f"{what}: {error}") from error
        except (self.module.PyNvVCException, self.module.PyNvVCExceptionUnsupported, RuntimeError) as error:
            raise _named(what, error) from error


def nvenc_library() -> NvencLibrary:
    """The real one.  Raises EncodeError where it is not installed or cannot be loaded."""
    try:
        import PyNvVideoCodec
    except Exception as error:  # it raises what it likes where the driver's libraries are missing
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncodeError(
            f"PyNvVideoCodec cannot be loaded: {first}", remedy="rave-trio devices says what is missing"
        ) from error
    return NvencLibrary(PyNvVideoCodec, lambda stream: int(stream.raw.handle))


def _named(what: str, error: Exception) -> EncodeError | OutOfMemory:
    text = " ".join(str(error).split()) or type(error).__name__
    found = re.search(r"returned error (\d+)|[Ee]rror code *:? *(\d+)", text)
    status = int(next(filter(None, found.groups()))) if found else None
    opening = "nvEncOpenEncodeSession" in text
    if opening and status in (MEMORY, CLIENT_KEY):
        return EncodeError(
            f"{what}: no further encoding session can be opened (NVENC's error {status}): the GPU's sessions are all "
            "in use, or its memory is",
            remedy="end other programs that encode on this GPU, or use a software encoder such as --codec libx265",
        )
    if opening and status in NO_DEVICE:
        return EncodeError(
            f"{what}: this GPU has no NVENC (error {status})",
            remedy="use a software encoder such as --codec libx265",
        )
    if status == MEMORY or "out of memory" in text.lower() or "CUDA_ERROR_OUT_OF_MEMORY" in text:
        return OutOfMemory(f"{what}: {text}")
    return EncodeError(f"{what}: {text}", remedy="use a software encoder such as --codec libx265")
