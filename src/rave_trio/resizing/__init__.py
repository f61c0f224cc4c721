"""Pictures of an exact size: Lanczos-3 on tensors, in float32 on the CPU and by CUDA kernels on a GPU.

``lanczos`` has the weights, which both use; ``host`` and ``device`` are backends of the pipeline's kind.
"""

RESIZER_DEPTH = 1
"""Frames under way in a resizer."""
