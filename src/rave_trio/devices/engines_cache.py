"""What video engines a GPU has, kept on disk: asking takes seconds, and only another driver or library changes it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import attrs

from rave_trio.caches import cache_folder, keep
from rave_trio.devices.nvidia import DecoderFormat, EncoderFormat, Gpu, VideoEngines, video_engines

FORMAT = 1
"""Of the files; others are not read."""


def remembered_engines(gpu: Gpu, driver: str | None, library: str | None) -> VideoEngines:
    """What :func:`~rave_trio.devices.nvidia.video_engines` says, asked once for each GPU, driver and PyNvVideoCodec.

    ``driver`` and ``library`` are versions; None for what is not there, which is not remembered.  Blocks for seconds
    the first time.  A cache that cannot be read or written is done without.
    """
    folder = cache_folder("devices")
    if driver is None or library is None or folder is None:
        return video_engines(gpu, library is not None)
    name = hashlib.sha256(json.dumps([FORMAT, gpu.name, gpu.uuid, driver, library]).encode()).hexdigest()[:32]
    path = folder / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return _read(path)
    found = video_engines(gpu, True)
    if found.decoders:  # else something may have been in the way
        with contextlib.suppress(OSError):
            keep(path, json.dumps(attrs.asdict(found)))
    return found


def _read(path: Path) -> VideoEngines:
    kept = json.loads(path.read_text())
    return VideoEngines(
        tuple(DecoderFormat(**each) for each in kept["decoders"]),
        tuple(EncoderFormat(**each) for each in kept["encoders"]),
        tuple(kept["notes"]),
    )
