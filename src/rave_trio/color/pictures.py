"""Single pictures as samples and back: numpy arrays and libav frames, with their alpha, on the CPU.

Samples are 3 x H x W float32, RGB, nominally in [0, 1]; alpha is H x W float32 in [0, 1], straight.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from rave_trio.color.layout import layout_of
from rave_trio.color.levels import levels_of
from rave_trio.color.samples import Floats, alpha_of
from rave_trio.color.to_surface import TensorToSurface
from rave_trio.color.to_tensor import SurfaceToTensor
from rave_trio.frames import ColorRange, ColorSpec, Frame, PixelFormat, Surface, SurfaceDescriptor, Tensor
from rave_trio.memory import HostPool, Ledger

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Of R, G and B in the grey of arrays (ITU-R BT.709)."""

RGB, SRGB, BT709 = 0, 13, 1
"""Code points of H.273."""

Array = npt.NDArray[Any]


@attrs.frozen(eq=False)
class Picture:
    """One picture's samples, and what kind of picture it came as."""

    samples: Floats
    alpha: Floats | None
    grey: bool
    deep: bool
    """Whether it had more than 8 bits."""


def from_array(array: Array) -> Picture:
    """H x W grey, or H x W x 1, 2, 3 or 4 (grey, grey and alpha, RGB, RGB and alpha), uint8, uint16 or floating.

    Integers are full range.  Raises ValueError for other shapes, and TypeError for other dtypes.
    """
    if array.ndim not in (2, 3) or not array.size or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise ValueError(f"an array of shape {array.shape} is no picture: give H x W, or H x W x 1 to 4")
    full = _full(array.dtype)
    planes = np.moveaxis(array.reshape(*array.shape[:2], -1), 2, 0)
    values = planes.astype(np.float32) / np.float32(full)
    colours = 1 if len(values) < 3 else 3
    samples = np.ascontiguousarray(np.broadcast_to(values[:colours], (3, *array.shape[:2])))
    alpha = np.ascontiguousarray(values[colours]) if len(values) > colours else None
    return Picture(samples, alpha, colours == 1, array.dtype.itemsize > 1)


def to_array(samples: Floats, alpha: Floats | None, like: Array) -> Array:
    """C x H x W samples, C of 3 or 1, as an array of the kind of ``like``: its channels and its dtype.

    Integers are rounded to nearest and clipped; floating values are neither.
    """
    grey = like.ndim == 2 or like.shape[2] < 3
    colours = samples if not grey or len(samples) == 1 else np.einsum("c,cyx->yx", LUMA, samples)[np.newaxis]
    if not grey and len(colours) == 1:
        colours = np.broadcast_to(colours, (3, *colours.shape[1:]))
    values = colours if alpha is None else np.concatenate([colours, alpha[np.newaxis]])
    if like.dtype.kind == "u":
        full = _full(like.dtype)
        values = np.clip(np.nan_to_num(values) * np.float32(full) + np.float32(0.5), 0, full)
    result = np.ascontiguousarray(np.moveaxis(values, 0, 2)).astype(like.dtype)
    return result[:, :, 0] if like.ndim == 2 else result


def from_frame(frame: VideoFrame, descriptor: SurfaceDescriptor) -> Picture:
    """A libav frame that ``descriptor`` describes.  Raises InputFormatUnsupported for what cannot be read."""
    layout, kind = layout_of(descriptor.pixel_format.name), descriptor.pixel_format
    opaque = attrs.evolve(descriptor, pixel_format=attrs.evolve(kind, has_alpha=False))
    pool = HostPool(Ledger())
    try:
        held = Frame(0, 0, 1, Fraction(1), True, Surface(opaque, frame))
        SurfaceToTensor(opaque, pool).convert(held)
        samples: Floats = held.tensor.copy()
        held.close()
    finally:
        pool.close()
    found = alpha_of(frame, layout, descriptor) if kind.has_alpha or layout.alpha is not None else None
    alpha = None
    if found is not None and layout.alpha is not None:
        full = levels_of(layout.alpha, ColorRange.FULL).scale
        alpha = found.rows(0, descriptor.height).astype(np.float32) / np.float32(full)
    return Picture(samples, alpha, kind.is_grey, kind.bit_depth > 8)


def to_frame(samples: Floats, alpha: Floats | None, *, grey: bool, deep: bool) -> VideoFrame:
    """C x H x W samples as a libav frame in a format that PNG knows: gray, ya8, rgb24, rgba and their 16 bits."""
    descriptor = _target(samples, alpha is not None, grey, deep)
    held = Frame(0, 0, 1, Fraction(1), True, Tensor(samples, None))
    native: VideoFrame = TensorToSurface(descriptor).convert(held).surface.native
    layout = layout_of(descriptor.pixel_format.name)
    written = alpha_of(native, layout, descriptor)
    if alpha is not None and written is not None and layout.alpha is not None:
        full = levels_of(layout.alpha, ColorRange.FULL).scale
        written.write(0, np.clip(alpha * np.float32(full) + np.float32(0.5), 0, full))
    return native


def _target(samples: Floats, alpha: bool, grey: bool, deep: bool) -> SurfaceDescriptor:
    name = {
        (True, False, False): "gray",
        (True, False, True): "gray16be",
        (True, True, False): "ya8",
        (True, True, True): "ya16be",
        (False, False, False): "rgb24",
        (False, False, True): "rgb48be",
        (False, True, False): "rgba",
        (False, True, True): "rgba64be",
    }[grey, alpha, deep]
    pixel_format = PixelFormat(name, 16 if deep else 8, is_rgb=not grey, is_grey=grey, has_alpha=alpha)
    color = ColorSpec(BT709 if grey else RGB, BT709, SRGB, ColorRange.FULL)
    return SurfaceDescriptor(samples.shape[2], samples.shape[1], pixel_format, color)


def _full(dtype: Any) -> float:
    """What white is."""
    dtype = np.dtype(dtype)
    if dtype in (np.uint8, np.uint16):
        return float(np.iinfo(dtype).max)
    if dtype.kind == "f":
        return 1.0
    raise TypeError(f"pictures are arrays of uint8, uint16 or floating values, not {dtype}")
