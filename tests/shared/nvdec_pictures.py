"""Pictures of decoders as code values, whatever memory they are in and however they are laid out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import av
import numpy as np

from rave_trio.color.layout import layout_of
from rave_trio.devices.arrays import DeviceArray
from rave_trio.frames import Frame, SurfaceDescriptor

Read = Callable[[DeviceArray], np.ndarray]
"""The samples of an array in a device's memory."""


@attrs.define(eq=False)
class Shown:
    """One frame as it was read."""

    pts: int
    duration: int
    key_frame: bool
    planes: list[np.ndarray]


def frames_of(decoder: Any, read: Read | None = None, *, ahead: bool = False) -> list[Shown]:
    """All frames of a decoder, which is closed.

    Each is looked at before the next is read; with ``ahead`` all are read first, and nobody has waited for any.
    """
    frames, shown = [], []
    try:
        while (frame := decoder.read()) is not None:
            frames.append(frame)
            while frames and not ahead:
                shown.append(_look(frames.pop(), read))
    finally:
        shown += [_look(frame, read) for frame in frames]
        decoder.close()
    return shown


def _look(frame: Frame, read: Read | None) -> Shown:
    shown = Shown(frame.pts, frame.duration, frame.key_frame, codes(frame, read))
    frame.close()
    return shown


def codes(frame: Frame, read: Read | None = None) -> list[np.ndarray]:
    """Y, Cb, Cr as code values; of a picture in a device's memory if ``read`` reads that."""
    surface = frame.surface
    if read is None:
        return [_libav_plane(surface.native, number) for number in range(len(surface.native.planes))]
    return _separated([read(plane) for plane in surface.native.planes], surface.descriptor)


def _libav_plane(native: av.VideoFrame, number: int) -> np.ndarray:
    plane = native.planes[number]
    dtype = np.dtype(np.uint8 if native.format.components[0].bits == 8 else "<u2")
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size).view(dtype)
    return rows[:, : plane.width].copy()


def _separated(planes: list[np.ndarray], descriptor: SurfaceDescriptor) -> list[np.ndarray]:
    shift = layout_of(descriptor.pixel_format.name).colours[0].shift
    if len(planes) == 2:
        luma, chroma = planes
        planes = [luma, chroma[:, 0::2], chroma[:, 1::2]]
    return [plane >> shift for plane in planes]


def differences(found: list[Shown], expected: list[Shown], most: int = 0) -> list[str]:
    """What is not alike, in words: times, flags, shapes and samples, of which each may differ by ``most``."""
    wrong = []
    for what in ("pts", "duration", "key_frame"):
        ours, theirs = ([getattr(shown, what) for shown in some] for some in (found, expected))
        if ours != theirs:
            wrong.append(f"{what}: {ours[:12]} ({len(ours)}) in the place of {theirs[:12]} ({len(theirs)})")
    for index, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
        for number, (a, b) in enumerate(zip(ours.planes, theirs.planes, strict=True)):
            if a.shape != b.shape:
                wrong.append(f"frame {index}, plane {number}: {a.shape} in the place of {b.shape}")
            elif (worst := int(np.abs(a.astype(int) - b.astype(int)).max())) > most:
                count = int((np.abs(a.astype(int) - b.astype(int)) > most).sum())
                wrong.append(f"frame {index}, plane {number}: {count} samples differ, by {worst} at most")
    return wrong[:12]
