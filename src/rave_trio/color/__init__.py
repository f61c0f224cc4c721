"""Surfaces to tensors and back, exactly: ITU-T H.273 in float32, on the CPU.

Both converters read and write libav's planes in place.  What they agree on is in the other modules: the matrices, the
levels of code values, where chroma lies, and how libav's formats lay out their samples.
"""

from rave_trio.color.levels import range_of
from rave_trio.color.matrix import HD_LINES, matrix_of
from rave_trio.color.to_surface import TensorToSurface
from rave_trio.color.to_tensor import SurfaceToTensor

__all__ = ["HD_LINES", "SurfaceToTensor", "TensorToSurface", "matrix_of", "range_of"]
