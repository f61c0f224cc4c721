"""The copies between host and device that belong to every frame.  Imports no CUDA."""

from __future__ import annotations

import math

import attrs

from rave_trio.color.cuda.planes import layout
from rave_trio.frames import SurfaceDescriptor


@attrs.frozen
class PlannedCopy:
    """One copy that is made for every frame."""

    direction: str
    """``HtoD`` or ``DtoH``."""
    plane: int | None
    """Which plane of the picture, without the gaps between rows; None for all of them in one piece, gaps included."""
    nbytes: int
    stage: str


def planned_copies(source: SurfaceDescriptor | None, target: SurfaceDescriptor | None) -> tuple[PlannedCopy, ...]:
    """All of them: for each plane of ``source``, which a software decoder gives out and the GPU reads, one up; for
    ``target``, which a software encoder takes from the GPU, one down.

    None stands for a picture that is decoded (by NVDEC) or encoded (by NVENC) where it lies.
    """
    up = () if source is None else plane_bytes(source)
    down = () if target is None else (layout(target).extent,)
    return (
        *(PlannedCopy("HtoD", plane, nbytes, "preprocess") for plane, nbytes in enumerate(up)),
        *(PlannedCopy("DtoH", None, nbytes, "encode") for nbytes in down),
    )


def plane_bytes(descriptor: SurfaceDescriptor) -> tuple[int, ...]:
    """Bytes of each plane's samples, in the order of libav's format."""
    return tuple(math.prod((plane.rows, plane.samples, plane.dtype.itemsize)) for plane in layout(descriptor).planes)
