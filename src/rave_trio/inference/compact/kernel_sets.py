"""Which kernels run on which GPU."""

from __future__ import annotations

import functools

from rave_trio.inference.compact.kernels_protocol import MakeKernels

HOPPER = (9, 0)

FP8_CAPABILITIES = "8.9, 9.0 and 12.x"
"""Where :func:`computes_fp8`, for people."""


def computes_fp8(capability: tuple[int, int]) -> bool:
    """Whether a GPU of this compute capability has matrix products of e4m3 that we can use.

    10.x and 11.0 have them for other instructions only; for ``mma.sync`` compilers make two products of fp16 of one.
    """
    return capability in ((8, 9), HOPPER) or capability[0] == 12


def kernels_for(capability: tuple[int, int], *, fp8: bool = False) -> MakeKernels:
    """The fastest kernels for a GPU of this compute capability, 8.0 or higher; with ``fp8`` where it computes that."""
    from rave_trio.inference.compact.mma_kernels import MmaKernels

    assert not fp8 or computes_fp8(capability)
    if capability != HOPPER:
        return functools.partial(MmaKernels, fp8=fp8)
    from rave_trio.inference.compact.wgmma_kernels import WgmmaKernels

    return functools.partial(WgmmaKernels, fp8=fp8)
