"""What the rest of this room needs to know about libav: its errors in our words, its formats as our facts."""

from __future__ import annotations

import contextlib
import errno
import io
import re
import threading
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import av.error
import av.logging
from av.packet import Packet
from av.video.format import VideoFormat

from rave_trio import errors
from rave_trio.frames import PixelFormat

FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

PYAV_19 = int(av.__version__.partition(".")[0]) >= 19

DAMAGED_TAGS: dict[str, Any] = {} if PYAV_19 else {"metadata_errors": "replace"}
"""For ``av.open``: tags that are not UTF-8 are read as far as they can be, as PyAV does unasked from version 19 on."""

STREAM_LINE = re.compile(r"^  Stream #0:\d", re.MULTILINE)
"""How libav's description of a file begins to tell of a stream; tags are indented further."""

ANNOUNCED = ("matroska", "mov")
"""Formats in which no stream is found late."""

_logging = threading.Lock()


def library_versions() -> dict[str, str]:
    """The versions of FFmpeg's libraries that PyAV is using, such as ``{"libavcodec": "62.11.100"}``."""
    return {name: ".".join(map(str, version)) for name, version in sorted(av.library_versions.items())}


def reason(error: BaseException) -> str:
    """The cause in a few words, without the path, which the caller names itself."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@contextlib.contextmanager
def writing(path: Path, what: type[errors.RaveError]) -> Iterator[None]:
    """Turn failures while writing ``path`` into our errors: a full disk by name, anything else into ``what``."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        number = getattr(error, "errno", None)
        if number in FULL_DISK:
            raise errors.DiskFull(f"no space left while writing {path}") from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise errors.OutputNotWritable(f"cannot write {path}: {reason(error)}") from error
        raise what(f"cannot write {path}: {reason(error)}") from error


def describe_format(name: str) -> PixelFormat:
    """The facts about one libav pixel format."""
    native = VideoFormat(name, 64, 64)
    components = native.components
    is_rgb = native.is_rgb or native.has_palette
    colours = [c for c in components if not c.is_alpha]
    is_grey = len(colours) == 1 and not is_rgb
    chroma = None if is_rgb or is_grey else colours[1]
    return PixelFormat(
        name=name,
        bit_depth=max(c.bits for c in components),
        chroma_shift_x=_log2(64 // chroma.width) if chroma else 0,
        chroma_shift_y=_log2(64 // chroma.height) if chroma else 0,
        is_rgb=is_rgb,
        is_grey=is_grey,
        has_alpha=any(c.is_alpha for c in components),
    )


def _log2(n: int) -> int:
    return n.bit_length() - 1


def fraction(value: Any) -> Fraction | None:
    """A ratio of PyAV's, None if it is not set.

    From version 19 on they are of a kind of its own, which rounds to 32 bits and is 0 or without bounds where not set.
    """
    return Fraction(value.numerator, value.denominator) if value else None


def demux(container: Any, *streams: Any) -> Iterator[Packet[Any]]:
    """The packets of these streams, or of all, in the file's order; a flush packet for each stream ends it."""
    with contextlib.suppress(IndexError):  # before version 19 PyAV trips over late streams at the very end
        yield from container.demux(*streams)


def has_late_streams(container: Any) -> bool:
    """Whether libav has found streams while reading: PyAV has no place for them, and gives nothing of them.

    libav tells of them in its log alone, which is for the whole process and otherwise off: threads that write to it
    wait for Python.  So it is not asked about files whose header tells of all streams.
    """
    if container.format.name.startswith(ANNOUNCED):
        return False
    with _logging:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            described = container.dumps_format()
        finally:
            av.logging.set_level(level)
    return len(STREAM_LINE.findall(described)) > len(container.streams)


@cache
def codecs_of(muxer: str) -> frozenset[str]:
    """Names of the codecs that the container ``muxer`` can hold."""
    with av.open(io.BytesIO(), "w", format=muxer) as container:
        return frozenset(container.supported_codecs)
