"""From a software decoder to a GPU: one copy of each picture into the device's memory."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

from rave_trio.color.cuda.host import host_planes
from rave_trio.color.cuda.planes import SurfaceLayout, device_layout_of, layout
from rave_trio.devices.copies import copy_from_host
from rave_trio.devices.interface import Device, Event, LaunchError, MemoryPool, Stream, use
from rave_trio.errors import InputFormatUnsupported
from rave_trio.frames import Frame, PixelFormat, Surface, SurfaceDescriptor

Copy = Callable[[Any, Any, Any], None]
"""``copy(stream, source, target)`` launches the copy of one plane and may return before it is done."""


def upload_refusal(pixel_format: PixelFormat) -> str | None:
    """Why surfaces of that format cannot lie on a GPU, in one line; None if they can.

    Packed formats, palettes, alpha, floating point, bits across words and big-endian samples cannot.
    """
    try:
        device_layout_of(pixel_format.name)
    except InputFormatUnsupported as error:
        return str(error)
    return None


class Uploading:
    """Copies surfaces that are libav frames into memory leased from a pool of a device: a stage's converter.

    The frame's envelope, its captions and the surface's descriptor stay as they are; ``native`` becomes a
    :class:`~rave_trio.devices.arrays.DevicePicture` laid out by :func:`rave_trio.color.cuda.layout`.

    Streams: copies run on a stream of their own, after all that was launched with the memory before, and may be under
    way when :meth:`convert` returns: the memory's ``last_use`` says when they are done.  The libav frame is kept until
    then.

    One caller at a time, from any thread.
    """

    def __init__(self, device: Device, pool: MemoryPool, *, copy: Copy = copy_from_host) -> None:
        """``copy`` is how a plane comes into this device's memory: CUDA's, unless another is given."""
        self._pool = pool
        self._stream: Stream = device.stream()
        self._copy = copy
        self._layouts: dict[SurfaceDescriptor, SurfaceLayout] = {}
        self._sent: deque[tuple[Event, list[Any]]] = deque()
        """Planes on the host whose copies may be under way."""

    def convert(self, frame: Frame) -> Frame:
        """The same frame with a surface on the device in place of its own, which is closed.

        Leaves the frame as it is if it raises: InputFormatUnsupported for a format that a GPU does not hold,
        OutOfMemory, ValueError for a picture that is not what its descriptor says, LaunchError if work on the device
        has failed.
        """
        self._forget_done()
        descriptor = frame.surface.descriptor
        if descriptor not in self._layouts:
            self._layouts = {descriptor: layout(descriptor)}
        placed = self._layouts[descriptor]
        planes = host_planes(frame.surface.native, descriptor, placed)
        lease = self._pool.lease(placed.nbytes)
        try:
            picture = placed.picture(lease.memory)
            try:
                with use(self._stream, lease.memory):
                    for source, target in zip(planes, picture.planes, strict=True):
                        self._copy(self._stream, source, target)
            finally:
                if lease.memory.last_use is not None:
                    self._sent.append((lease.memory.last_use, planes))
        except BaseException:
            lease.close()
            raise
        return frame.become(Surface(descriptor, picture, lease))

    def close(self) -> None:
        """Wait for the copies that are under way and let go of what they read.  Idempotent."""
        while self._sent:
            done, _ = self._sent[0]
            with contextlib.suppress(LaunchError):
                done.wait()
            self._sent.popleft()

    def _forget_done(self) -> None:
        with contextlib.suppress(LaunchError):  # which is told where the surface is used
            while self._sent and self._sent[0][0].query():
                self._sent.popleft()
