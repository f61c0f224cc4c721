"""Loans of a device's memory, whichever the device."""

from __future__ import annotations

import contextlib
from typing import Any

from rave_trio.devices.interface import Device, DeviceMemory, LaunchError
from rave_trio.memory import Lease, Ledger, Pool, Waiting

DEVICE, SCRATCH = POOLS = ("device", "engine scratch")
"""The ledger's owners of device memory that we allocate ourselves: frames, and what a network works in."""


class DeviceLease(Lease[DeviceMemory]):
    """A loan of a device's memory.  Closing it does not wait for work: the memory's ``last_use`` keeps the order."""

    @property
    def closed(self) -> bool:
        return self._buffer is None

    def array(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """The leased memory seen as an array, of the device's own kind; contents are undefined at first.

        Raises ValueError once the lease is closed, and for more than it holds.
        """
        return self.memory.array(shape, dtype)


class DevicePool(Pool[DeviceMemory]):
    """Lends a device's memory.  Thread-safe; see :class:`rave_trio.memory.Pool`."""

    def lease(self, nbytes: int) -> DeviceLease:
        """A loan of at least ``nbytes``.  Blocks while others hold too much; raises OutOfMemory if it cannot be."""
        return DeviceLease(self, self._obtain(nbytes))


def device_pool(device: Device, ledger: Ledger, waiting: Waiting | None = None, owner: str = DEVICE) -> DevicePool:
    """A pool of ``device``'s memory, accounted in ``ledger`` under ``owner``.  Close it before the device.

    Memory that the pool frees is idle, but work with it may be under way: the thread that frees it waits for that.
    """
    return DevicePool(ledger, device.allocate, free_when_done, owner=owner, waiting=waiting)


def pinned_pool(device: Device, ledger: Ledger, owner: str) -> DevicePool:
    """A pool of page-locked memory of the host for copies from and to ``device``; otherwise as :func:`device_pool`.

    ``ledger`` is the host's, not the device's.
    """
    return DevicePool(ledger, device.pin, free_when_done, owner=owner)


def free_when_done(memory: DeviceMemory) -> None:
    """Close ``memory`` once the work that was last launched with it is done, or has failed."""
    settle(memory)
    memory.close()


def settle(memory: DeviceMemory) -> None:
    """Wait until the work that was last launched with it is done, or has failed."""
    if memory.last_use is not None:
        with contextlib.suppress(LaunchError):
            memory.last_use.wait()
