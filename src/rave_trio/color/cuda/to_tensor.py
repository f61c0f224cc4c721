"""Surfaces to tensors on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from rave_trio.color.cuda.conversion import Conversion, picture_of
from rave_trio.color.cuda.planes import layout
from rave_trio.color.cuda.specialisation import Tile, reading
from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import Launcher, MemoryPool, Stream, use
from rave_trio.frames import Frame, SurfaceDescriptor, Tensor


class CudaSurfaceToTensor:
    """Surfaces of one size and format to 3 x H x W RGB, float16 or float32, dense, in memory leased from a pool.

    The surface's ``native`` is a :class:`~rave_trio.devices.arrays.DevicePicture`, of any pitch; the tensor's array is
    a :class:`~rave_trio.devices.arrays.DeviceArray`.  What is computed is what
    :class:`rave_trio.color.SurfaceToTensor` computes, in float32 (ITU-T H.273): nominally [0, 1], nothing is clipped,
    subsampled chroma is interpolated where the descriptor says that it lies.

    Streams: the work is launched on ``stream``, after all that was launched with its memory before, and is under way
    when :meth:`convert` returns; the host never waits.

    One caller at a time, from any thread.
    """

    def __init__(
        self,
        source: SurfaceDescriptor,
        pool: MemoryPool,
        stream: Stream,
        *,
        dtype: Any = np.float16,
        launcher: Launcher | None = None,
        tile: Tile | None = None,
    ) -> None:
        """Compiles the kernel, or finds it on disk, and loads it onto the device of ``stream``.

        ``launcher`` has it run elsewhere, as tests do; ``tile`` is for measurements.  Raises InputFormatUnsupported for
        a format that cannot be read, alpha included.
        """
        self._source = source
        self._pool = pool
        self._stream = stream
        self._dtype = np.dtype(dtype)
        self._layout = layout(source)
        self._conversion = Conversion(source, reading(source, dtype, tile), stream, launcher)

    def convert(self, frame: Frame) -> Frame:
        """The same frame with a tensor in place of its surface, which is closed.

        Raises DecodeError, and leaves the frame as it is, when its size or format is not the source's; ValueError when
        its planes are not what its descriptor says.
        """
        source = self._source
        picture = picture_of(frame, source, self._layout)
        lease = self._pool.lease(3 * source.height * source.width * self._dtype.itemsize)
        try:
            tensor = DeviceArray(lease.memory, (3, source.height, source.width), self._dtype)
            with use(self._stream, picture.memory, lease.memory):
                self._conversion.run(picture, tensor)
        except BaseException:
            lease.close()
            raise
        return frame.become(Tensor(tensor, lease))
