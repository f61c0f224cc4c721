"""Surfaces to tensors and back."""

from rave_trio.color.swscale import SurfaceToTensor, TensorToSurface

__all__ = ["SurfaceToTensor", "TensorToSurface"]
