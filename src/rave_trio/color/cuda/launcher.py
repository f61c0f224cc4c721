"""Kernels on a real device: loaded and launched through cuda.core."""

from __future__ import annotations

from typing import Any

from cuda.core import Device, Kernel, LaunchConfig
from cuda.core import launch as cuda_launch

from rave_trio.color.cuda.compiler import compile_kernel
from rave_trio.color.cuda.specialisation import Specialisation


class CudaLauncher:
    """Loads and launches kernels on the device of a stream.  Stateless; any thread."""

    def load(self, stream: Any, kernel: Specialisation) -> Kernel:
        """Compile ``kernel``, or take it from the disk's cache, and load it onto the device of ``stream``.

        That needs a device with a driver.
        """
        device = _device_of(stream)
        return compile_kernel(kernel, f"sm_{device.arch}").get_kernel(kernel.name)

    def launch(self, stream: Any, kernel: Kernel, grid: tuple[int, int], block: tuple[int, int], *args: object) -> None:
        """See :func:`launch`."""
        launch(stream, kernel, grid, block, *args)


def launch(stream: Any, kernel: Kernel, grid: tuple[int, int], block: tuple[int, int], *args: object) -> None:
    """Launch ``kernel`` on ``stream`` and return at once; the one place that knows what a stream is made of.

    ``args`` are addresses as int (64 bits) and numpy scalars.
    """
    stream.launch(cuda_launch, LaunchConfig(grid=grid, block=block), kernel, *args)


def _device_of(stream: Any) -> Device:
    """The stream's device, which becomes the calling thread's: its context is the thread's own matter in CUDA."""
    device = Device(stream.raw.device.device_id)
    device.set_current()
    return device
