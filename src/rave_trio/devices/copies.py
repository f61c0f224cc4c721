"""Copies of planes between device and host, and within a device, with a pitch on either side.

Each is launched on a stream and returns at once, but for copies from or to host memory that is not page-locked (see
:meth:`rave_trio.devices.cuda.CudaDevice.pin`), for which the driver may keep the caller until it is done with it.

Order is the caller's, as with all work: launch inside :func:`rave_trio.devices.interface.use` of the memory on both
sides.  Host arrays belong to the copy until an event recorded after it has come.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import attrs
import numpy.typing as npt

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import Stream


class RawPlane(NamedTuple):
    """A plane in device memory that somebody else owns, such as a decoder's; as large as what it is copied to or from.

    ``pitch`` is the distance in bytes from one row to the next.
    """

    pointer: int
    pitch: int


@attrs.frozen
class _Rows:
    """One side of a copy; extents are None where the other side decides.  Sizes are in bytes."""

    pointer: int
    pitch: int
    rows: int | None = None
    row_bytes: int | None = None
    on_host: bool = False


def copy_from_host(stream: Stream, host: npt.NDArray[Any], target: DeviceArray | RawPlane) -> None:
    """Copy ``host`` to the device.

    Raises ValueError unless both have as many rows of as many bytes, and the host's lie at one distance from another.
    """
    _launch(stream, _host_rows(host), _device_rows(target))


def copy_to_host(stream: Stream, source: DeviceArray | RawPlane, host: npt.NDArray[Any]) -> None:
    """Copy from the device into ``host``.  Raises ValueError as :func:`copy_from_host` does, and if it is read-only."""
    if not host.flags.writeable:
        raise ValueError("the array on the host is read-only")
    _launch(stream, _device_rows(source), _host_rows(host))


def copy(stream: Stream, source: DeviceArray | RawPlane, target: DeviceArray | RawPlane) -> None:
    """Copy within the device.  Raises ValueError unless both have as many rows of as many bytes, and one says how many.

    The two must not overlap.
    """
    _launch(stream, _device_rows(source), _device_rows(target))


def _device_rows(plane: DeviceArray | RawPlane) -> _Rows:
    if isinstance(plane, RawPlane):
        return _Rows(plane.pointer, plane.pitch)
    return _Rows(plane.pointer, plane.pitch, plane.rows, plane.row_bytes)


def _host_rows(array: npt.NDArray[Any]) -> _Rows:
    """The array's last axis as rows, of which all others must make one even sequence."""
    if array.ndim == 0 or (array.size and array.shape[-1] > 1 and array.strides[-1] != array.itemsize):
        raise ValueError("the rows of the array on the host are not contiguous")
    row_bytes = array.shape[-1] * array.itemsize
    rows, pitch = 1, row_bytes
    for size, stride in zip(reversed(array.shape[:-1]), reversed(array.strides[:-1]), strict=True):
        if size > 1 and array.size:
            if rows == 1:
                pitch = stride
            elif stride != pitch * rows:
                raise ValueError("the planes of the array on the host are not dense above one another")
            rows *= size
    if pitch < row_bytes:
        raise ValueError("the rows of the array on the host overlap or run backwards")
    return _Rows(array.ctypes.data, pitch, math.prod(array.shape[:-1]), row_bytes, on_host=True)


def _extent(source: _Rows, target: _Rows) -> tuple[int, int]:
    """Rows, and bytes in each."""
    known = [(side.rows, side.row_bytes) for side in (source, target) if side.rows is not None]
    if not known:
        raise ValueError("neither side of the copy says how large it is")
    (rows, row_bytes), *others = known
    if any(other != (rows, row_bytes) for other in others):
        raise ValueError(f"{source.rows} rows of {source.row_bytes} bytes are not {target.rows} of {target.row_bytes}")
    assert rows is not None
    assert row_bytes is not None
    if rows > 1 and row_bytes > min(source.pitch, target.pitch):
        raise ValueError(f"rows of {row_bytes} bytes do not fit into a pitch of {min(source.pitch, target.pitch)}")
    return rows, row_bytes


def _launch(stream: Stream, source: _Rows, target: _Rows) -> None:
    rows, row_bytes = _extent(source, target)
    if rows and row_bytes:
        stream.launch(_copy, source, target, rows, row_bytes)


def _copy(raw: Any, source: _Rows, target: _Rows, rows: int, row_bytes: int) -> None:
    from cuda.bindings import driver

    from rave_trio.devices.driver import check

    kinds = driver.CUmemorytype
    what = driver.CUDA_MEMCPY2D()
    what.Height, what.WidthInBytes = rows, row_bytes
    what.srcPitch, what.dstPitch = max(source.pitch, row_bytes), max(target.pitch, row_bytes)
    if source.on_host:
        what.srcMemoryType, what.srcHost = kinds.CU_MEMORYTYPE_HOST, source.pointer
    else:
        what.srcMemoryType, what.srcDevice = kinds.CU_MEMORYTYPE_DEVICE, source.pointer
    if target.on_host:
        what.dstMemoryType, what.dstHost = kinds.CU_MEMORYTYPE_HOST, target.pointer
    else:
        what.dstMemoryType, what.dstDevice = kinds.CU_MEMORYTYPE_DEVICE, target.pointer
    check(driver.cuMemcpy2DAsync(what, raw.handle))
