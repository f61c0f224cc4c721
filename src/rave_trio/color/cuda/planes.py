"""How the planes of a surface lie in one piece of a device's memory."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from rave_trio import errors
from rave_trio.color.layout import Layout, Packing, layout_of
from rave_trio.devices.arrays import DeviceArray, DevicePicture
from rave_trio.devices.interface import DeviceMemory
from rave_trio.frames import SurfaceDescriptor

ROW_ALIGNMENT = 256
"""Bytes: what the rows of planes begin at multiples of, so that threads can read and write 16 bytes at once."""


@attrs.frozen
class PlaneLayout:
    """One plane: ``rows`` rows of ``samples`` samples of ``dtype``, ``pitch`` bytes apart, from byte ``offset`` on.

    Interleaved chroma is one plane with twice as many samples a row as there are of each component.
    """

    offset: int
    pitch: int
    rows: int
    samples: int
    dtype: np.dtype[Any]


@attrs.frozen
class SurfaceLayout:
    """The planes of a surface, in the order of libav's format, and the bytes that all of them take."""

    planes: tuple[PlaneLayout, ...]
    nbytes: int

    @property
    def extent(self) -> int:
        """Bytes from the first sample of all to the last."""
        ends = (p.offset + (p.rows - 1) * p.pitch + p.samples * p.dtype.itemsize for p in self.planes)
        return max(ends) - min(plane.offset for plane in self.planes)

    def picture(self, memory: DeviceMemory) -> DevicePicture:
        """The planes in ``memory``, from its first byte on.  Raises ValueError where they do not fit."""
        return DevicePicture(
            tuple(
                DeviceArray(memory, (plane.rows, plane.samples), plane.dtype, offset=plane.offset, pitch=plane.pitch)
                for plane in self.planes
            )
        )


def layout(descriptor: SurfaceDescriptor, alignment: int = ROW_ALIGNMENT) -> SurfaceLayout:
    """One plane after the other, in rows that begin at multiples of ``alignment`` bytes; 1 packs them densely.

    Raises InputFormatUnsupported for a format that the kernels do not know: see :func:`device_layout_of`.
    """
    components = device_layout_of(descriptor.pixel_format.name).colours
    found: dict[int, PlaneLayout] = {}
    offset = 0
    for number in range(max(component.plane for component in components) + 1):
        index, first = next((i, c) for i, c in enumerate(components) if c.plane == number)
        subsampled = index > 0 and not descriptor.pixel_format.is_rgb
        shift_x = descriptor.pixel_format.chroma_shift_x if subsampled else 0
        shift_y = descriptor.pixel_format.chroma_shift_y if subsampled else 0
        samples = -(-descriptor.width >> shift_x) * (first.step // first.dtype.itemsize)
        rows = -(-descriptor.height >> shift_y)
        pitch = -(-samples * first.dtype.itemsize // alignment) * alignment
        found[number] = PlaneLayout(offset, pitch, rows, samples, first.dtype)
        offset += pitch * rows
    return SurfaceLayout(tuple(found.values()), offset)


def device_layout_of(name: str) -> Layout:
    """The layout of a format whose surfaces a GPU can hold: planar, or with both chroma components in one plane.

    That is 8 to 16 bits a sample, little-endian, without alpha; grey, Y'CbCr and G, B, R.  Raises
    InputFormatUnsupported for all others.
    """
    found = layout_of(name)
    if found.packing != Packing.WORDS or found.alpha is not None or found.padded or not _is_planar(found):
        raise errors.InputFormatUnsupported(
            f"the pixel format {name} is not supported on a GPU", remedy="use a planar format without alpha"
        )
    return found


def _is_planar(found: Layout) -> bool:
    for index, component in enumerate(found.colours):
        little = component.dtype.kind == "u" and component.dtype.newbyteorder("<") == component.dtype
        words = component.step // component.dtype.itemsize
        interleaved = index > 0 and words == 2 and len({c.plane for c in found.colours}) == 2
        if not little or component.dtype.itemsize > 2 or component.shared or component.bits < 8:
            return False
        if words != 1 and not interleaved:
            return False
    return True
