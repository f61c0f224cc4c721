"""Memory of a CUDA device, and page-locked memory of the host that its copies reach without a detour."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from cuda.bindings import driver

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.driver import check
from rave_trio.devices.interface import Event, LaunchError

if TYPE_CHECKING:
    from rave_trio.devices.cuda import CudaDevice

logger = logging.getLogger(__name__)


class _Memory:
    """A piece of memory that a device accounts for.  Any thread may use it, one at a time."""

    def __init__(self, device: CudaDevice, pointer: int, nbytes: int) -> None:
        """Only a device makes memory: see :meth:`CudaDevice.allocate` and :meth:`CudaDevice.pin`."""
        self.nbytes = nbytes
        self.last_use: Event | None = None
        self._device = device
        self._pointer: int | None = pointer

    @property
    def closed(self) -> bool:
        return self._pointer is None

    @property
    def pointer(self) -> int:
        """The address of its first byte, the device's and the host's alike.  Raises ValueError once it is closed."""
        if self._pointer is None:
            raise ValueError("the memory is closed")
        return self._pointer

    def close(self) -> None:
        """Wait for the work that was last launched with it, and give it back.  Idempotent.

        Raises nothing: work that failed says so where it is waited for, and after such a failure the driver frees no
        memory any more, but with the whole context.
        """
        pointer, self._pointer = self._pointer, None
        if pointer is None:
            return
        if self.last_use is not None:
            with contextlib.suppress(LaunchError):
                self.last_use.wait()
        try:
            with self._device.current():
                self._free(pointer)
        except LaunchError as error:
            logger.debug("freeing %d bytes: %s", self.nbytes, error)
        finally:
            self._forget()

    def _free(self, pointer: int) -> None:
        raise NotImplementedError

    def _forget(self) -> None:
        raise NotImplementedError


class CudaMemory(_Memory):
    """A piece of a CUDA device's memory, 256-byte aligned."""

    def array(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Its beginning seen as a dense array; raises ValueError once it is closed, and for more than it holds."""
        self.pointer  # noqa: B018 (raises)
        return DeviceArray(self, shape, dtype)

    def _free(self, pointer: int) -> None:
        check(driver.cuMemFree(pointer))

    def _forget(self) -> None:
        self._device._leave(device_bytes=self.nbytes)


class PinnedMemory(_Memory):
    """A piece of the host's memory that stays where it is, so that copies from and to it run beside the host.

    The host reads it after :attr:`last_use` has come, and writes to it no earlier.
    """

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Its beginning seen as a numpy array; raises ValueError once it is closed, and for more than it holds.

        The array must not be touched after the memory is closed: its pages are gone then.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > self.nbytes:
            raise ValueError(f"an array of {size} bytes does not fit into {self.nbytes}")
        pages = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.pointer))
        return pages.view(dtype).reshape(shape)

    def _free(self, pointer: int) -> None:
        check(driver.cuMemFreeHost(pointer))

    def _forget(self) -> None:
        self._device._leave(pinned_bytes=self.nbytes)
