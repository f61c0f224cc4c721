"""Surfaces in a device's memory whose luma is known, and the same luma read back from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from rave_trio.color.cuda.planes import layout
from rave_trio.devices.interface import Stream, use
from rave_trio.frames import Surface, SurfaceDescriptor


def luma(descriptor: SurfaceDescriptor, index: int) -> npt.NDArray[np.uint16]:
    """Height x width code values: waves that move, within the limited range."""
    y, x = np.mgrid[0 : descriptor.height, 0 : descriptor.width]
    waves = 125 + 50 * np.sin(x / 17 + index / 3) + 45 * np.sin(y / 13 - index / 4)
    codes: npt.NDArray[np.uint16] = np.rint(waves * 2 ** (descriptor.pixel_format.bit_depth - 8)).astype(np.uint16)
    return codes


def surface(descriptor: SurfaceDescriptor, index: int, pool: Any, stream: Stream, copy: Any) -> Surface:
    """A dense surface of nv12 or p010le with that luma, without colours, in memory leased from ``pool``.

    ``copy(stream, array, plane)`` brings it there; the surface is ready when this returns.
    """
    placed = layout(descriptor, 1)
    lease = pool.lease(placed.nbytes)
    try:
        picture = placed.picture(lease.memory)
        bits = descriptor.pixel_format.bit_depth
        shift = 16 - bits if bits > 8 else 0
        with use(stream, lease.memory):
            for number, plane in enumerate(picture.planes):
                codes = luma(descriptor, index) if number == 0 else np.full(plane.shape, 1 << bits - 1, np.uint16)
                copy(stream, (codes << shift).astype(plane.dtype), plane)
        if lease.memory.last_use is not None:
            lease.memory.last_use.wait()
    except BaseException:
        lease.close()
        raise
    return Surface(descriptor, picture, lease)


def lumas(path: Path, descriptor: SurfaceDescriptor) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """The luma of every frame of a file in order, with what it should be.  Decodes on the CPU."""
    found = []
    dtype = np.uint8 if descriptor.pixel_format.bit_depth == 8 else np.uint16
    with av.open(path) as container:
        for index, frame in enumerate(container.decode(video=0)):
            plane = frame.planes[0]
            rows: npt.NDArray[Any] = np.ndarray(
                (descriptor.height, descriptor.width),
                dtype,
                memoryview(plane),
                0,
                (plane.line_size, np.dtype(dtype).itemsize),
            )
            found.append((rows.copy(), luma(descriptor, index)))
    return found
