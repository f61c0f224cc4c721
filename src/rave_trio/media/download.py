"""From a GPU to a software encoder: one copy of each picture, which runs while the picture before is encoded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from rave_trio.color.cuda.conversion import check_planes
from rave_trio.color.cuda.host import can_be_wrapped, copied, placed_planes, wrapped
from rave_trio.color.cuda.planes import PlaneLayout, SurfaceLayout, layout
from rave_trio.devices.arrays import DeviceArray, DevicePicture
from rave_trio.devices.copies import copy_to_host
from rave_trio.devices.interface import Device, Event, LaunchError, MemoryLease, MemoryPool, Stream, use
from rave_trio.errors import EncodeError, OutOfMemory, located
from rave_trio.frames import Frame, Surface, SurfaceDescriptor
from rave_trio.media.parts import Part, PartWriter
from rave_trio.memory import Loans

Copy = Callable[[Any, Any, Any], None]
"""``copy(stream, source, target)`` launches a copy of bytes to the host and may return before it is done."""

BYTES = "uint8"

MARGIN = 64
"""Bytes after the last plane that libav's encoders may read, as after the planes of its own frames."""


@attrs.frozen
class _Download:
    """A picture on its way to the host."""

    frame: Frame
    """Its envelope, without a picture."""
    descriptor: SurfaceDescriptor
    placed: SurfaceLayout
    lease: MemoryLease
    done: Event


class DownloadingEncoder:
    """Hands pictures of ``device`` to ``encoder``, which reads libav frames, and is otherwise as that is.

    A surface's ``native`` is a :class:`~rave_trio.devices.arrays.DevicePicture` of any pitch.  The encoder is given a
    libav frame of its own for each, with the same descriptor, times and captions.  Its planes are page-locked memory
    from ``pool``, which goes back when libav has let go of it; what PyAV cannot wrap is copied to libav's own.

    One frame is under way: :meth:`write` launches the copy of its frame, and then has the frame before it encoded, so
    that the copy runs beside the encoder; :meth:`finish` has the last one encoded.  Errors carry the index of the
    frame that they are about, in the order of frames.

    Streams: copies run on a stream of their own, after all that was launched with the surface before.  :meth:`write`
    does not wait for its copy: a surface can be closed when it returns, whether it raises or not, and the memory's
    ``last_use`` says when the copy is done.

    One caller at a time, from any thread.  Closing it closes ``encoder``, not ``pool``.
    """

    def __init__(
        self,
        encoder: PartWriter,
        device: Device,
        pool: MemoryPool,
        *,
        wrap: bool = True,
        copy: Copy = copy_to_host,
    ) -> None:
        """``pool`` lends page-locked memory: see :func:`rave_trio.devices.pool.pinned_pool`.

        Without ``wrap`` all pictures are copied to libav's own memory: for encoders with threads that let go of frames.
        PyAV ends these with the GIL held, for which letting go of ours waits.

        ``copy`` is how bytes of this device's memory come to the host: CUDA's, unless another is given.
        """
        self._encoder = encoder
        self._stream: Stream = device.stream()
        self._pool = pool
        self._wrap = wrap
        self._copy = copy
        self._pending: _Download | None = None
        self._loans = Loans()

    @property
    def part(self) -> Part:
        """The finished part; only after :meth:`finish`."""
        return self._encoder.part

    @property
    def packets(self) -> int:
        """Packets written so far; after :meth:`finish`, one for each frame."""
        return self._encoder.packets

    def write(self, frame: Frame) -> None:
        """Launch the copy of one frame's picture, and encode the frame before.  The frame stays the caller's.

        Raises what the encoder raises, EncodeError if work on the device has failed, OutOfMemory if there is no memory
        left for the copy, and ValueError for planes that are not what their descriptor says.
        """
        before, self._pending = self._pending, None
        try:
            self._pending = self._launched(frame)
        finally:
            if before is not None:
                self._encode(before)

    def finish(self) -> Part:
        """Encode the last frame, flush the encoder, close the file and hand over the part."""
        last, self._pending = self._pending, None
        if last is not None:
            self._encode(last)
        return self._encoder.finish()

    def close(self) -> None:
        """Drop the frame that is under way and let go of the encoder.  Idempotent."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.lease.close()
        try:
            self._encoder.close()
        finally:
            self._loans.close()

    def _launched(self, frame: Frame) -> _Download:
        descriptor, picture = frame.surface.descriptor, frame.surface.native
        check_planes(picture, layout(descriptor))
        source, placed = _in_one_piece(picture)
        lease = self._pool.lease(placed.nbytes + MARGIN)
        try:
            with _told(frame.index), use(self._stream, picture.memory, lease.memory):
                self._copy(self._stream, source, lease.memory.array(source.shape, BYTES))
            done = lease.memory.last_use
            assert done is not None
        except BaseException:
            lease.close()
            raise
        return _Download(attrs.evolve(frame, picture=None), descriptor, placed, lease, done)

    def _encode(self, download: _Download) -> None:
        frame = download.frame
        with located("encode", lambda: frame.index):
            try:
                with _told(frame.index):
                    download.done.wait()
            except BaseException:
                download.lease.close()
                raise
            frame.picture = Surface(download.descriptor, self._native(download))
            try:
                self._encoder.write(frame)
            finally:
                frame.close()
                self._loans.give_back()

    def _native(self, download: _Download) -> Any:
        memory, descriptor, placed = download.lease.memory, download.descriptor, download.placed
        raw = self._loans.array(download.lease, memory.array((memory.nbytes,), BYTES))
        planes = placed_planes(raw, placed)
        if self._wrap and can_be_wrapped(descriptor, len(planes)):
            return wrapped(planes, descriptor)
        return copied(planes, descriptor, placed)


def _in_one_piece(picture: DevicePicture) -> tuple[DeviceArray, SurfaceLayout]:
    """All bytes from the first sample of the picture to the last, and how the planes lie in them, in whole rows."""
    first = min(plane.offset for plane in picture.planes)
    nbytes = max(plane.offset + plane.nbytes for plane in picture.planes) - first
    planes = tuple(
        PlaneLayout(plane.offset - first, plane.pitch, plane.rows, plane.shape[-1], plane.dtype)
        for plane in picture.planes
    )
    whole = max(plane.offset + plane.rows * plane.pitch for plane in planes)
    return DeviceArray(picture.memory, (nbytes,), BYTES, offset=first), SurfaceLayout(planes, whole)


@contextlib.contextmanager
def _told(index: int) -> Iterator[None]:
    """Around work on the device for the picture of one frame: what fails there becomes an error of the user's."""
    what = f"the picture of frame {index} cannot be had from the device"
    try:
        yield
    except LaunchError as error:
        raise EncodeError(f"{what}: {error}", remedy="run it again; if it happens again, use --device cpu") from error
    except MemoryError as error:
        raise OutOfMemory(f"{what}: {error}") from error
