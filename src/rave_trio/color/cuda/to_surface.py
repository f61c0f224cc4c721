"""Tensors to surfaces on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from rave_trio.color.cuda.conversion import Conversion
from rave_trio.color.cuda.planes import ROW_ALIGNMENT, layout
from rave_trio.color.cuda.specialisation import Tile, writing
from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import Launcher, MemoryPool, Stream, use
from rave_trio.frames import Frame, Surface, SurfaceDescriptor


class CudaTensorToSurface:
    """3 x H x W RGB or 1 x H x W grey, float16 or float32, to surfaces of one size and format.

    The tensor's array is a :class:`~rave_trio.devices.arrays.DeviceArray` of ``dtype``, of any pitch; the surface's
    ``native`` is a :class:`~rave_trio.devices.arrays.DevicePicture` in memory leased from a pool, laid out by
    :func:`rave_trio.color.cuda.layout`.  What is computed is what :class:`rave_trio.color.TensorToSurface` computes, in
    float32 (ITU-T H.273): every sample is rounded once, to the nearest code value, halves up, and clipped to what the
    format can hold; what is not a number counts as 0.

    With ``dither`` samples are rounded up or down by an ordered threshold in place of 1/2, as there.

    Streams and threads: as :class:`~rave_trio.color.cuda.CudaSurfaceToTensor`.
    """

    def __init__(
        self,
        target: SurfaceDescriptor,
        pool: MemoryPool,
        stream: Stream,
        *,
        dtype: Any = np.float16,
        dither: bool = False,
        alignment: int = ROW_ALIGNMENT,
        launcher: Launcher | None = None,
        tile: Tile | None = None,
    ) -> None:
        """Compiles the kernel, or finds it on disk, and loads it onto the device of ``stream``.

        Rows of the surfaces begin at multiples of ``alignment`` bytes; 1 packs them densely.  ``launcher`` has the
        kernel run elsewhere, as tests do; ``tile`` is for measurements.  Raises InputFormatUnsupported for a format
        that cannot be written.
        """
        self._target = target
        self._pool = pool
        self._stream = stream
        self._dtype = np.dtype(dtype)
        self._layout = layout(target, alignment)
        self._conversion = Conversion(target, writing(target, dtype, dither=dither, tile=tile), stream, launcher)

    def convert(self, frame: Frame) -> Frame:
        """The same frame with a surface in place of its tensor, which is closed.

        Raises ValueError, and leaves the frame as it is, when the tensor is not of the target's size or of the dtype.
        """
        target, tensor = self._target, frame.tensor
        if tensor.shape[1:] != (target.height, target.width) or tensor.shape[0] not in (1, 3):
            raise ValueError(f"a tensor of shape {tensor.shape} is no {target.width}x{target.height} picture")
        if tensor.dtype != self._dtype:
            raise ValueError(f"a tensor of {tensor.dtype} is not one of {self._dtype}")
        lease = self._pool.lease(self._layout.nbytes)
        try:
            picture = self._layout.picture(lease.memory)
            with use(self._stream, tensor.memory, lease.memory):
                self._conversion.run(picture, _as_array(tensor))
        except BaseException:
            lease.close()
            raise
        return frame.become(Surface(target, picture, lease))


def _as_array(tensor: Any) -> DeviceArray:
    if not isinstance(tensor, DeviceArray):
        raise TypeError(f"a tensor in a device's memory is a DeviceArray, not {type(tensor).__name__}")
    return tensor
