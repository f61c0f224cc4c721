"""From a GPU to a software encoder: one copy of each picture into the host's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from rave_trio.color.cuda.host import host_planes
from rave_trio.color.cuda.planes import layout
from rave_trio.color.samples import blank
from rave_trio.devices.arrays import DevicePicture
from rave_trio.devices.copies import copy_to_host
from rave_trio.devices.interface import Device, LaunchError, Stream, use
from rave_trio.errors import EncodeError, OutOfMemory
from rave_trio.frames import Frame, Surface, SurfaceDescriptor
from rave_trio.media.parts import Part, PartWriter

Copy = Callable[[Any, Any, Any], None]
"""``copy(stream, source, target)`` launches the copy of one plane and may return before it is done."""


class DownloadingEncoder:
    """Hands pictures of ``device`` to ``encoder``, which reads libav frames, and is otherwise as that is.

    A surface's ``native`` is a :class:`~rave_trio.devices.arrays.DevicePicture` of any pitch.  The encoder is given a
    libav frame of its own for each, with the same descriptor, times and captions; it may keep it for as long as it
    likes.

    Streams: copies run on a stream of their own, after all that was launched with the surface before.  :meth:`write`
    waits for them, so a surface can be closed when it returns, whether it raises or not.

    One caller at a time, from any thread.  Closing it closes ``encoder``.
    """

    def __init__(self, encoder: PartWriter, device: Device, *, copy: Copy = copy_to_host) -> None:
        """``copy`` is how a plane of this device's memory comes to the host: CUDA's, unless another is given."""
        self._encoder = encoder
        self._stream: Stream = device.stream()
        self._copy = copy

    @property
    def part(self) -> Part:
        """The finished part; only after :meth:`finish`."""
        return self._encoder.part

    @property
    def packets(self) -> int:
        """Packets written so far; after :meth:`finish`, one for each frame."""
        return self._encoder.packets

    def write(self, frame: Frame) -> None:
        """Copy one frame's picture and encode it.  The frame stays the caller's.

        Raises what the encoder raises, EncodeError if work on the device has failed, OutOfMemory if the device has no
        memory left for the copy, and ValueError for planes that are not what their descriptor says.
        """
        surface = frame.surface
        native = self._downloaded(frame.index, surface.descriptor, surface.native)
        self._encoder.write(attrs.evolve(frame, picture=Surface(surface.descriptor, native)))

    def finish(self) -> Part:
        """Flush the encoder, close the file and hand over the part."""
        return self._encoder.finish()

    def close(self) -> None:
        """Let go of the encoder.  Idempotent."""
        self._encoder.close()

    def _downloaded(self, index: int, descriptor: SurfaceDescriptor, picture: DevicePicture) -> Any:
        native = blank(descriptor)
        planes = host_planes(native, descriptor, layout(descriptor))
        if [plane.shape for plane in planes] != [plane.shape for plane in picture.planes]:
            raise ValueError(f"planes of {[plane.shape for plane in picture.planes]} are not those of {descriptor}")
        memory = picture.memory
        try:
            if memory.last_use is not None:
                # A copy to memory that is not page-locked keeps its caller inside the driver: not also for the kernels.
                memory.last_use.wait()
            try:
                with use(self._stream, memory):
                    for source, target in zip(picture.planes, planes, strict=True):
                        self._copy(self._stream, source, target)
            finally:
                if memory.last_use is not None:
                    memory.last_use.wait()
        except LaunchError as error:
            raise EncodeError(
                f"the picture of frame {index} cannot be had from the device: {error}",
                remedy="run it again; if it happens again, use --device cpu",
            ) from error
        except MemoryError as error:
            raise OutOfMemory(f"the picture of frame {index} cannot be had from the device: {error}") from error
        return native
