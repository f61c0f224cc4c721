"""Hashes of pictures that are the same for the same samples, however the format lays them out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from rave_trio.color.layout import layout_of
from rave_trio.color.samples import colours_of
from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import Stream, use
from rave_trio.frames import Surface

Download = Callable[[Stream, DeviceArray, npt.NDArray[Any]], None]
"""``download(stream, array, host)`` launches a copy into the host's memory."""


def surface_hash(surface: Surface) -> str:
    """SHA-256 in hexadecimal of a surface that is a libav frame, without its alpha.

    What is hashed are code values: component after component (Y, Cb, Cr, or R, G, B), row by row, little-endian, a byte
    each up to 8 bits and two above.
    """
    descriptor = surface.descriptor
    layout = layout_of(descriptor.pixel_format.name)
    return _hash(samples.rows(0, samples.shape[0]) for samples in colours_of(surface.native, layout, descriptor))


def device_surface_hash(surface: Surface, stream: Stream, download: Download) -> str:
    """The same of a surface in a device's memory.  Waits until the picture is there and has been copied."""
    picture, planes = surface.native, []
    with use(stream, picture.memory):
        for plane in picture.planes:
            planes.append(np.empty(plane.shape, plane.dtype))
            download(stream, plane, planes[-1])
    stream.synchronize()
    components = layout_of(surface.descriptor.pixel_format.name).colours
    return _hash(
        planes[c.plane][:, c.offset // c.dtype.itemsize :: c.step // c.dtype.itemsize] >> c.shift for c in components
    )


def _hash(components: Any) -> str:
    digest = hashlib.sha256()
    for codes in components:
        digest.update(np.ascontiguousarray(codes, codes.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
