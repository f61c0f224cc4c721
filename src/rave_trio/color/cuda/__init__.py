"""Surfaces to tensors and back on an NVIDIA GPU, by the same definitions as on the CPU.

``planes`` lays out surfaces in a device's memory and ``specialisation`` writes the kernel of a format; neither touches
CUDA.  :mod:`rave_trio.devices.launcher` does, and is imported by the converters when they are made without a launcher
of the caller's.
"""

from rave_trio.color.cuda.planes import SurfaceLayout, layout
from rave_trio.color.cuda.to_surface import CudaTensorToSurface
from rave_trio.color.cuda.to_tensor import CudaSurfaceToTensor

__all__ = ["CudaSurfaceToTensor", "CudaTensorToSurface", "SurfaceLayout", "layout"]
