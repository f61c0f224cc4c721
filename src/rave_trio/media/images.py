"""Image sequences as output: one file a frame, made beside the output and moved into place when all are done."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
from av.packet import Packet

from rave_trio.errors import EncodeError, MuxError, OutputExists
from rave_trio.files import sync
from rave_trio.frames import Frame
from rave_trio.media._libav import writing
from rave_trio.media.encoders import EncoderSettings, configure
from rave_trio.media.parts import FrameTimes, Part
from rave_trio.media.sequence import ImageSequence


class ImageEncoder:
    """Encodes surfaces into one file each, ``000000.png`` and so on in a folder of its own.

    Not thread-safe; one caller at a time, from any thread.  :meth:`finish` makes the part whole.
    """

    def __init__(self, folder: Path, settings: EncoderSettings) -> None:
        self._folder = folder
        self._times = FrameTimes(settings)
        self.packets = 0
        """Files written so far; after :meth:`finish`, one for each frame."""
        with writing(folder, MuxError):
            folder.mkdir()
        context = av.VideoCodecContext.create(settings.encoder, "w")
        assert isinstance(context, av.VideoCodecContext)
        configure(context, settings)
        self._context: av.VideoCodecContext | None = context

    def write(self, frame: Frame) -> None:
        """Encode one frame; its surface must have the settings' size and format.  The frame stays the caller's."""
        self._encode(self._times.take(frame, frame.surface.native))

    @property
    def part(self) -> Part:
        """The finished part; only after :meth:`finish`.  Its path is the folder."""
        return self._times.finished

    def finish(self) -> Part:
        """Flush the encoder and hand over the part."""
        self._encode(None)
        return self._times.finish(self._folder)

    def close(self) -> None:
        """Let go of the codec.  Idempotent."""
        self._context = None

    def _encode(self, native: Any) -> None:
        assert self._context is not None
        with writing(self._folder, EncodeError):
            packets: list[Packet[Any]] = self._context.encode(native)
        for packet in packets:
            path = image_path(self._folder, self.packets)
            with writing(path, MuxError):
                path.write_bytes(bytes(packet))
            self.packets += 1


def image_path(folder: Path, index: int) -> Path:
    """Where the frame of that index lies in a part."""
    return folder / f"{index:06}.png"


def publish_images(
    part: Part,
    target: ImageSequence,
    first: int,
    *,
    overwrite: bool,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Move a part's images to the names of ``target``, numbered from ``first``.  Blocking.

    Each file is either as it was or whole; if it fails midway, those that have been moved are taken away again, but not
    what ``overwrite`` had them replace.  ``tick`` is called for every file and may raise.
    """
    names = [target.path(first + index) for index in range(part.frames)]
    existing = next((name for name in names if os.path.lexists(name)), None)
    if existing is not None and not overwrite:
        raise OutputExists(f"{existing} has come into being meanwhile")
    moved: list[Path] = []
    try:
        for index, name in enumerate(names):
            tick()
            made = image_path(part.path, index)
            with writing(name, MuxError):
                sync(made)
                made.replace(name)
            moved.append(name)
        with writing(target.folder, MuxError):
            sync(target.folder)
    except BaseException:
        for index, name in enumerate(moved):
            with contextlib.suppress(OSError):
                name.replace(image_path(part.path, index))
        raise
