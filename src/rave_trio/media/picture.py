"""What a decoded picture says about itself beside its samples: colour, siting, orientation, scan, side data."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rave_trio.frames import ChromaLocation, ColorRange, ColorSpec, SurfaceDescriptor
from rave_trio.media._libav import demux, describe_format

PATIENCE = 256
"""Packets in which a stream must show a first picture: recordings may begin in the middle of a group of pictures."""

CHROMA_SITING = {
    (1, 2): ChromaLocation.LEFT,
    (2, 2): ChromaLocation.CENTER,
    (1, 1): ChromaLocation.TOP_LEFT,
    (2, 1): ChromaLocation.TOP,
}
"""Matroska's ChromaSitingHorz and ChromaSitingVert (RFC 9559, 5.1.4.1.28.28): 1 co-located, 2 half way."""

DisplayMatrix = tuple[int, ...]
"""Nine numbers as in the track header of ISO/IEC 14496-12: 16.16 fixed point, the last column 2.30."""

UPRIGHT: DisplayMatrix = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)

UNCARRIED = {
    "DYNAMIC_HDR_PLUS": "HDR10+ dynamic metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid dynamic metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "STEREO3D": "stereo 3D packing",
    "THREE_D_REFERENCE_DISPLAYS": "3D reference displays",
    "VIEW_ID": "further views of multiview video",
    "SPHERICAL": "a spherical projection",
    "ICC_PROFILE": "an ICC profile",
    "EXIF": "EXIF data",
    "LCEVC": "an LCEVC enhancement",
    "FILM_GRAIN_PARAMS": "film grain parameters (the grain itself is decoded)",
}
"""Side data that no encoder here can be given, by PyAV's names, of which each version knows more."""

NAMELESS = "side data of a kind that cannot be read"


def first_picture(container: Any, stream: VideoStream) -> VideoFrame | None:
    """The first picture that can be decoded, or None.  Reads on in ``container``, which is the caller's."""
    for packet in _few(container, stream):
        with contextlib.suppress(av.error.FFmpegError):
            frames: list[VideoFrame] = packet.decode()
            if frames:
                return frames[0]
    return None


def _few(container: Any, stream: VideoStream) -> Iterator[Any]:
    with contextlib.suppress(av.error.FFmpegError):
        for count, packet in enumerate(demux(container, stream)):
            yield packet
            if count >= PATIENCE:
                return


def surface_of(frame: VideoFrame, location: ChromaLocation, aspect: Fraction | None) -> SurfaceDescriptor:
    """The descriptor of a decoded frame, whose siting and aspect ratio PyAV does not show: the stream's are given."""
    return SurfaceDescriptor(
        width=frame.width,
        height=frame.height,
        pixel_format=describe_format(frame.format.name),
        color=color_of(frame, location),
        sample_aspect_ratio=aspect,
    )


def color_of(tagged: Any, location: ChromaLocation) -> ColorSpec:
    """The colour tags of a frame or of a codec context."""
    return ColorSpec(
        int(tagged.colorspace),
        int(tagged.color_primaries),
        int(tagged.color_trc),
        ColorRange(int(tagged.color_range)),
        location,
    )


def chroma_location_of(stream: VideoStream) -> ChromaLocation:
    """Where the stream's chroma samples lie.

    PyAV does not show it, but carries it over to a muxer: a Matroska header, written to memory, says it.  It has no
    word for the two bottom positions, which read as unspecified.
    """
    header = io.BytesIO()
    with contextlib.suppress(av.error.FFmpegError, ValueError), av.open(header, "w", format="matroska") as trial:
        trial.add_stream_from_template(stream, opaque=True)
        trial.start_encoding()
    written = header.getvalue()
    horizontal, vertical = (written.find(element) for element in (b"\x55\xb7\x81", b"\x55\xb8\x81"))
    if horizontal < 0 or vertical < 0:
        return ChromaLocation.UNSPECIFIED
    return CHROMA_SITING.get((written[horizontal + 3], written[vertical + 3]), ChromaLocation.UNSPECIFIED)


def display_matrix_of(frame: VideoFrame) -> DisplayMatrix | None:
    """How the picture is to be turned and mirrored for display, or None if it is upright."""
    data = side_data(frame, Type.DISPLAYMATRIX)
    matrix = struct.unpack("=9i", data[:36]) if data else UPRIGHT
    return None if matrix == UPRIGHT else matrix


def captions_of(frame: VideoFrame) -> VideoFrame | None:
    """A small frame that carries this one's closed captions (ATSC A/53), or None if there are none.

    PyAV cannot put side data on a frame, but scaling a frame keeps it.
    """
    return frame.reformat(width=16, height=16, threads=1) if side_data(frame, Type.A53_CC) else None


def uncarried(frame: VideoFrame) -> list[str]:
    """What the frame says that will not be in the output, in words."""
    found = all_side_data(frame)
    if found is None:
        return [NAMELESS]
    present = {data.type.name for data in found}
    said = [words for kind, words in UNCARRIED.items() if kind in present]
    if any(name.startswith("UNKNOWN_") for name in present):
        said.append(NAMELESS)
    return list(dict.fromkeys(said))


def side_data(frame: VideoFrame, kind: Type) -> bytes:
    """The raw bytes of one kind of side data, empty if there is none."""
    return next((bytes(data) for data in all_side_data(frame) or () if data.type is kind), b"")


def all_side_data(frame: VideoFrame) -> list[Any] | None:
    """All pieces of it; None where PyAV (before version 19) shows none, as libav gives a kind that it cannot name."""
    try:
        container: Any = frame.side_data
    except ValueError:
        return None
    found: list[Any] = []
    while True:  # its length and its iterator give kinds or pieces, by version
        try:
            found.append(container[len(found)])
        except IndexError:
            return found
