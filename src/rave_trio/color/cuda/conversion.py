"""What both directions share: who loads and launches, and what a kernel is told."""

from __future__ import annotations

import numpy as np

from rave_trio.color.cuda.planes import SurfaceLayout
from rave_trio.color.cuda.specialisation import BLOCK, Specialisation
from rave_trio.devices.arrays import DeviceArray, DevicePicture
from rave_trio.devices.interface import Launcher, Stream
from rave_trio.frames import SurfaceDescriptor


class Conversion:
    """One kernel, loaded, for pictures of one size, on one stream.  One caller at a time, from any thread."""

    def __init__(
        self, descriptor: SurfaceDescriptor, kernel: Specialisation, stream: Stream, launcher: Launcher | None
    ) -> None:
        if launcher is None:
            from rave_trio.devices.launcher import CudaLauncher

            launcher = CudaLauncher()
        self._descriptor = descriptor
        self._specialisation = kernel
        self._stream = stream
        self._launcher = launcher
        self._kernel = launcher.load(stream, kernel)

    def run(self, picture: DevicePicture, tensor: DeviceArray) -> None:
        """Launch it on ``picture`` and ``tensor``, C x H x W with C of 3 or, as a source, 1."""
        width, height = self._descriptor.width, self._descriptor.height
        planes = [picture.planes[number] for number in self._specialisation.planes]
        planes += [planes[0]] * (3 - len(planes))
        channels = [tensor.pointer + channel * height * tensor.pitch for channel in range(tensor.shape[0])]
        channels += [channels[0]] * (3 - len(channels))
        self._launcher.launch(
            self._stream,
            self._kernel,
            self._specialisation.grid(width, height),
            BLOCK,
            *(plane.pointer for plane in planes),
            *(plane.pitch for plane in planes),
            *channels,
            tensor.pitch,
            np.int32(width),
            np.int32(height),
        )


def check_planes(picture: DevicePicture, layout: SurfaceLayout) -> None:
    """Raises ValueError where the planes are not of the layout's shapes; their pitches are their own."""
    found = [(plane.shape, plane.dtype) for plane in picture.planes]
    expected = [((plane.rows, plane.samples), plane.dtype) for plane in layout.planes]
    if found != expected:
        raise ValueError(f"planes of {found} are not those of the picture, {expected}")
    if any(plane.memory is not picture.memory for plane in picture.planes):
        raise ValueError("the planes of one picture lie in different memories")
