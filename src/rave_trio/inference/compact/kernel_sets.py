"""Which kernels run on which GPU."""

from __future__ import annotations

import functools

from rave_trio.inference.compact.kernels_protocol import MakeKernels

FP8_CAPABILITY = (9, 0)
"""Where the trunk can be computed in fp8."""


def kernels_for(capability: tuple[int, int], *, fp8: bool = False) -> MakeKernels:
    """The fastest kernels for a GPU of this compute capability, 8.0 or higher; with ``fp8`` :data:`FP8_CAPABILITY`."""
    from rave_trio.inference.compact.mma_kernels import MmaKernels

    if capability != FP8_CAPABILITY:
        assert not fp8
        return MmaKernels
    from rave_trio.inference.compact.wgmma_kernels import WgmmaKernels

    return functools.partial(WgmmaKernels, fp8=fp8)
