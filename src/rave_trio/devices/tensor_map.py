"""What the copy engine of compute capability 9.0 and newer (TMA) is told of an array: CUDA's tensor maps."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

from cuda.bindings import driver

from rave_trio.devices.driver import check
from rave_trio.devices.interface import LaunchError

BYTES = 128
"""Of CUtensorMap."""

ALIGNMENT = 128
"""Of CUtensorMap on the host, which the driver checks and cuda.bindings' own object does not promise."""

SINCE = 12000
"""The CUDA version whose cuTensorMapEncodeTiled this is."""

KEPT = 256
"""Maps that are not made again when they are asked for again."""

Encoder = Callable[..., int]

_SIGNATURE = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_uint32,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint64),
    ctypes.POINTER(ctypes.c_uint64),
    ctypes.POINTER(ctypes.c_uint32),
    ctypes.POINTER(ctypes.c_uint32),
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
)

_KINDS = {
    1: driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_UINT8,
    2: driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
}

_SWIZZLES = {
    32: driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_32B,
    64: driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_64B,
    128: driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
}


@functools.lru_cache(maxsize=KEPT)
def tensor_map(
    pointer: int,
    shape: tuple[int, ...],
    box: tuple[int, ...],
    itemsize: int,
    swizzle: int,
    *,
    encoder: Encoder | None = None,
) -> bytes:
    """The tensor map of a dense array, to be passed to a kernel by value.

    ``shape`` and ``box``, which is what one copy moves, are in elements of ``itemsize`` bytes (1 or 2), the innermost
    axis last.  In shared memory the box's rows are as wide as ``swizzle`` (32, 64 or 128 bytes), whose 16-byte pieces
    are exchanged as the hardware does it.  Outside the array zeros are read and nothing is written.

    ``encoder`` is the driver's unless given, as tests do.  Raises LaunchError where the driver refuses: an address or a
    row that is no multiple of 16 bytes, a box of more than 256 elements along an axis or wider than the swizzle.
    """
    rank = len(shape)
    sizes = shape[::-1]
    pitches, pitch = [], itemsize
    for size in sizes[:-1]:
        pitch *= size
        pitches.append(pitch)
    room = ctypes.create_string_buffer(BYTES + ALIGNMENT)
    address = -(-ctypes.addressof(room) // ALIGNMENT) * ALIGNMENT
    status = (encoder or _encoder())(
        address,
        int(_KINDS[itemsize]),
        rank,
        pointer,
        (ctypes.c_uint64 * rank)(*sizes),
        (ctypes.c_uint64 * max(rank - 1, 1))(*pitches),
        (ctypes.c_uint32 * rank)(*box[::-1]),
        (ctypes.c_uint32 * rank)(*[1] * rank),
        int(driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE),
        int(_SWIZZLES[swizzle]),
        int(driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B),
        int(driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
    )
    if status:
        raise LaunchError(f"the driver makes no tensor map of {shape} at {pointer}: {driver.CUresult(status).name}")
    return ctypes.string_at(address, BYTES)


@functools.cache
def _encoder() -> Encoder:
    status, entry, _ = driver.cuGetProcAddress(b"cuTensorMapEncodeTiled", SINCE, 0)
    check((status,))
    return _SIGNATURE(int(entry))
