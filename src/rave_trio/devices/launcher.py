"""Kernels on a real device: loaded through cuda.core, launched through it or through the driver."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from cuda.bindings import driver
from cuda.core import Device, Kernel, LaunchConfig
from cuda.core import launch as cuda_launch

from rave_trio.devices.compiler import compile_kernel
from rave_trio.devices.driver import check
from rave_trio.devices.kernel_source import Source

STRUCT_ALIGNMENT = 64
"""Bytes; what the largest of CUDA's own structures (CUtensorMap) wants on the host."""


class CudaLauncher:
    """Loads and launches kernels on the device of a stream.  Stateless; any thread."""

    def arch(self, stream: Any) -> str:
        """Of the stream's device, as the compiler calls it: ``"sm_90"``."""
        return f"sm_{Device(stream.raw.device.device_id).arch}"

    def processors(self, stream: Any) -> int:
        """How many multiprocessors the stream's device has."""
        return int(Device(stream.raw.device.device_id).properties.multiprocessor_count)

    def load(self, stream: Any, kernel: Source, *, arch: str | None = None, shared_bytes: int = 0) -> Kernel:
        """Compile ``kernel``, or take it from the disk's cache, and load it onto the device of ``stream``.

        ``arch`` is the device's own unless given (``"sm_90a"``); ``shared_bytes`` is the most dynamic shared memory
        that it will be launched with.  Needs a device with a driver.
        """
        device = _device_of(stream)
        loaded = compile_kernel(kernel, arch or f"sm_{device.arch}").get_kernel(kernel.name)
        if shared_bytes:
            limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            ordinal = check(driver.cuDeviceGet(device.device_id))
            check(driver.cuKernelSetAttribute(limit, shared_bytes, driver.CUkernel(int(loaded.handle)), ordinal))
        return loaded

    def launch(self, stream: Any, kernel: Kernel, grid: tuple[int, int], block: tuple[int, int], *args: object) -> None:
        """See :func:`launch`."""
        launch(stream, kernel, grid, block, *args)

    def put(
        self,
        raw: Any,
        kernel: Kernel,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        *args: int | np.generic | bytes,
        shared_bytes: int = 0,
        overlapping: bool = False,
    ) -> None:
        """Put one launch into ``raw``, cuda.core's stream, which may be being captured.

        Grid and block are of up to three axes.  ``args`` are addresses as int (64 bits), numpy scalars, and structures
        by value as bytes, such as the 128 of a tensor map.  ``overlapping`` is programmatic dependent launch: the
        kernel may begin before the one before it has ended, and itself waits for that (griddepcontrol.wait).

        Call it with the context current.  Raises LaunchError where CUDA refuses.
        """
        values = [_value(each) for each in args]
        pointers = (ctypes.c_void_p * len(values))(*(address for _, address in values))
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = (*grid, 1, 1)[:3]
        config.blockDimX, config.blockDimY, config.blockDimZ = (*block, 1, 1)[:3]
        config.hStream = raw.handle
        config.sharedMemBytes = shared_bytes
        if overlapping:
            attribute = driver.CUlaunchAttribute()
            attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            attribute.value.programmaticStreamSerializationAllowed = 1
            config.attrs, config.numAttrs = [attribute], 1
        function = driver.CUfunction(int(kernel.handle))
        check(driver.cuLaunchKernelEx(config, function, ctypes.addressof(pointers), 0))


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


def _value(argument: int | np.generic | bytes) -> tuple[Any, int]:
    """Something that holds the argument's bytes, and where they begin."""
    data = (
        argument
        if isinstance(argument, bytes)
        else np.uint64(argument).tobytes()
        if isinstance(argument, int)
        else argument.tobytes()
    )
    room = ctypes.create_string_buffer(len(data) + STRUCT_ALIGNMENT)
    address = -(-ctypes.addressof(room) // STRUCT_ALIGNMENT) * STRUCT_ALIGNMENT
    ctypes.memmove(address, data, len(data))
    return room, address
