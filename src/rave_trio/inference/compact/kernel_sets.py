"""Which kernels run on which GPU."""

from __future__ import annotations

from rave_trio.inference.compact.kernels_protocol import MakeKernels


def kernels_for(capability: tuple[int, int]) -> MakeKernels:
    """The fastest kernels for a GPU of this compute capability, 8.0 or higher."""
    from rave_trio.inference.compact.mma_kernels import MmaKernels

    if capability != (9, 0):
        return MmaKernels
    from rave_trio.inference.compact.wgmma_kernels import WgmmaKernels

    return WgmmaKernels
