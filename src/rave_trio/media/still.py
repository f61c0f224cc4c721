"""Single pictures as files: whatever libav decodes in, PNG out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import av.error
from av.packet import Packet
from av.video.frame import VideoFrame

from rave_trio import errors
from rave_trio.files import check_place, is_same, write_whole
from rave_trio.frames import SurfaceDescriptor
from rave_trio.media._libav import writing
from rave_trio.media.picture import first_picture
from rave_trio.media.probe import probe

ENDING = ".png"


def read_still(path: Path) -> tuple[VideoFrame, SurfaceDescriptor]:
    """The first picture of a file, and what it is.  Blocking.

    Raises an InputError for what is not there or cannot be read.
    """
    media = probe(path)
    with media.open() as container:
        picture = first_picture(container, container.streams.video[0])
    if picture is None:
        raise errors.DecodeError(f"no picture can be decoded from {path}")
    return picture, media.video.surface


def check_still(path: Path, source: Path, *, overwrite: bool) -> None:
    """Raise the OutputError that fits if a PNG could not be put at ``path``."""
    if path.suffix.lower() != ENDING:
        raise errors.ContainerUnsupported(
            f"{path} does not end in {ENDING}", remedy=f"name a file that ends in {ENDING}"
        )
    if is_same(path, source):
        raise errors.OutputIsInput(f"{path} is the input itself")
    check_place(path, overwrite=overwrite)


def write_still(frame: VideoFrame, path: Path) -> None:
    """A frame in a format of PNG's as a file, which is there when it is whole.  Blocking.

    Raises OutputNotWritable, DiskFull or EncodeError; the path is as it was then.
    """
    context = av.VideoCodecContext.create("png", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
    with writing(path, errors.EncodeError):
        packets: list[Packet[Any]] = [*context.encode(frame), *context.encode(None)]
    with writing(path, errors.OutputNotWritable):
        write_whole(path, *(bytes(packet) for packet in packets))
