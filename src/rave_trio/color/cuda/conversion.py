"""What both directions share: who loads and launches, what a kernel is told, and what pictures are refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from rave_trio import errors
from rave_trio.color.cuda.planes import SurfaceLayout
from rave_trio.color.cuda.specialisation import BLOCK, Specialisation
from rave_trio.devices.arrays import DeviceArray, DevicePicture
from rave_trio.devices.interface import Launcher, Stream
from rave_trio.frames import Frame, SurfaceDescriptor


class Conversion:
    """One kernel, loaded, for pictures of one size, on one stream.  One caller at a time, from any thread.

    Its tensors are C x H x W, with C of 3 or, as a source, 1.
    """

    def __init__(
        self, descriptor: SurfaceDescriptor, kernel: Specialisation, stream: Stream, launcher: Launcher | None = None
    ) -> None:
        """Compile ``kernel``, or find it on disk, and load it; ``launcher`` is CUDA's unless given."""
        if launcher is None:
            from rave_trio.devices.launcher import CudaLauncher

            launcher = CudaLauncher()
        self._descriptor = descriptor
        self._specialisation = kernel
        self._stream = stream
        self._launcher = launcher
        self._kernel = launcher.load(stream, kernel)

    def run(self, picture: DevicePicture, tensor: DeviceArray) -> None:
        """Launch it on its stream."""
        self._launcher.launch(self._stream, self._kernel, self._grid, BLOCK, *self._arguments(picture, tensor))

    def put(self, raw: Any, picture: DevicePicture, tensor: DeviceArray) -> None:
        """Put it into ``raw``, which is of the same device and may be being captured."""
        self._launcher.put(raw, self._kernel, self._grid, BLOCK, *self._arguments(picture, tensor))

    @property
    def _grid(self) -> tuple[int, int]:
        return self._specialisation.grid(self._descriptor.width, self._descriptor.height)

    def _arguments(self, picture: DevicePicture, tensor: DeviceArray) -> tuple[Any, ...]:
        width, height = self._descriptor.width, self._descriptor.height
        planes = [picture.planes[number] for number in self._specialisation.planes]
        planes += [planes[0]] * (3 - len(planes))
        channels = [tensor.pointer + channel * height * tensor.pitch for channel in range(tensor.shape[0])]
        channels += [channels[0]] * (3 - len(channels))
        return (
            *(plane.pointer for plane in planes),
            *(plane.pitch for plane in planes),
            *channels,
            tensor.pitch,
            np.int32(width),
            np.int32(height),
        )


def picture_of(frame: Frame, source: SurfaceDescriptor, layout: SurfaceLayout) -> DevicePicture:
    """The picture of a frame whose surface is one like ``source``, laid out like ``layout`` but for the pitches.

    Raises DecodeError where its size or format is another, and ValueError where its planes are not what its descriptor
    says.
    """
    found = frame.surface.descriptor
    if (found.width, found.height, found.pixel_format) != (source.width, source.height, source.pixel_format):
        raise errors.DecodeError(
            f"the picture changes to {found.width}x{found.height} {found.pixel_format.name} at frame "
            f"{frame.index}; it began as {source.width}x{source.height} {source.pixel_format.name}",
            remedy="split the input where it changes and upscale the pieces one by one",
        )
    picture: DevicePicture = frame.surface.native
    check_planes(picture, layout)
    return picture


def check_planes(picture: DevicePicture, layout: SurfaceLayout) -> None:
    """Raises ValueError where the planes are not of the layout's shapes; their pitches are their own."""
    found = [(plane.shape, plane.dtype) for plane in picture.planes]
    expected = [((plane.rows, plane.samples), plane.dtype) for plane in layout.planes]
    if found != expected:
        raise ValueError(f"planes of {found} are not those of the picture, {expected}")
    if any(plane.memory is not picture.memory for plane in picture.planes):
        raise ValueError("the planes of one picture lie in different memories")
