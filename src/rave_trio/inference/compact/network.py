"""A network of the Compact family made ready for pictures of one size on one device."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import numpy.typing as npt

from rave_trio.devices.arrays import DeviceArray, DevicePicture
from rave_trio.devices.interface import Player, Stream, use
from rave_trio.inference.compact.kernels_protocol import KernelSet, Planes
from rave_trio.inference.compact.net import CompactNet
from rave_trio.inference.compact.strips import HALF_BYTES, Strip, aligned, buffer_bytes, picture_bytes, strips
from rave_trio.inference.compact.surfaces import Surfaces, address_of
from rave_trio.inference.compact.weights import packed
from rave_trio.inference.device_backend import DevicePool
from rave_trio.memory import Lease

Upload = Callable[[Stream, npt.NDArray[Any], DeviceArray], None]
"""How the host's numbers come to the device, in a stream's order: :func:`rave_trio.devices.copies.copy_from_host`."""


class CompactNetwork:
    """A :class:`rave_trio.inference.device_backend.Network` of our own kernels, in fp16.

    Parameters, two buffers of activations, and the tensors between surfaces and layers are one lease from ``scratch``,
    since a second could wait for ever for the first.  It is the network's until it is closed; frames follow one another
    through the buffers on one stream.
    """

    dtype = np.dtype(np.float16)
    alignment = HALF_BYTES

    def __init__(
        self,
        net: CompactNet,
        kernels: KernelSet,
        *,
        height: int,
        width: int,
        strip: int,
        stream: Stream,
        scratch: DevicePool,
        player: Player,
        upload: Upload,
        surfaces: Surfaces | None = None,
    ) -> None:
        """For pictures of ``height`` x ``width``, computed in strips of at most ``strip`` rows on ``stream`` alone.

        ``surfaces``, of that size, are for :meth:`launch_surfaces`.  Waits until the parameters are on the device.
        Raises OutOfMemory.
        """
        self._architecture = architecture = net.architecture
        self._kernels = kernels
        self._player = player
        self._height, self._width = height, width
        self._strips = strips(architecture, len(net.layers), height, strip)
        numbers = packed(net)
        buffer = aligned(buffer_bytes(architecture, len(net.layers), height, width, strip, kernels.itemsize))
        sizes = [aligned(picture_bytes(*shape)) for shape in (() if surfaces is None else surfaces.shapes)]
        self._lease: Lease[Any] | None = scratch.lease(numbers.data.nbytes + 2 * buffer + sum(sizes))
        try:
            memory = self._lease.memory
            with use(stream, memory):
                upload(stream, numbers.data, DeviceArray(memory, numbers.data.shape, np.uint8))
            stream.synchronize()
        except BaseException:
            self.close()
            raise
        self._parameters = numbers.at(memory.pointer)
        first = memory.pointer + numbers.data.nbytes
        self._buffers = first, first + buffer
        self._surfaces = surfaces
        self._tensors: tuple[DeviceArray, ...] = ()
        """In fp16: what a surface becomes, and what becomes a surface."""
        if surfaces is not None:
            source, target = surfaces.shapes
            offset = numbers.data.nbytes + 2 * buffer
            self._tensors = (
                DeviceArray(memory, source, self.dtype, offset=offset),
                DeviceArray(memory, target, self.dtype, offset=offset + sizes[0]),
            )

    def launch(
        self, stream: Stream, source: DeviceArray, target: DeviceArray, failed: Callable[[Exception], None], *held: Any
    ) -> None:
        """See :meth:`rave_trio.inference.device_backend.Network.launch`; ``stream`` is the one it was made with."""
        begin, end = source.pointer, target.pointer
        self._play(stream, (begin, end), lambda raw: self._through(raw, begin, end), failed, held)

    def launch_surfaces(
        self,
        stream: Stream,
        source: DevicePicture,
        target: DevicePicture,
        failed: Callable[[Exception], None],
        *held: Any,
    ) -> None:
        """The same from a surface to a surface, of the sizes and formats that it was made for."""
        assert self._surfaces is not None
        surfaces, (entry, result) = self._surfaces, self._tensors

        def run(raw: Any) -> None:
            surfaces.read.put(raw, source, entry)
            self._through(raw, entry.pointer, result.pointer)
            surfaces.write.put(raw, target, result)

        self._play(stream, (address_of(source), address_of(target)), run, failed, held)

    def describe(self, error: Exception) -> tuple[bool, str]:
        """Whether a failure is for want of memory, and its reason in one line."""
        return isinstance(error, MemoryError), " ".join(str(error).split()) or type(error).__name__

    def close(self) -> None:
        """Give back its memory.  Idempotent; nothing may be under way."""
        self._player.close()
        if self._lease is not None:
            self._lease.close()
            self._lease = None

    def _play(
        self,
        stream: Stream,
        key: Hashable,
        run: Callable[[Any], None],
        failed: Callable[[Exception], None],
        held: tuple[Any, ...],
    ) -> None:
        try:
            self._player.play(stream, key, run, *held, self._lease)
        except MemoryError as error:
            failed(error)

    def _through(self, raw: Any, source: int, target: int) -> None:
        for strip in self._strips:
            self._compute(raw, strip, source, target)

    def _compute(self, raw: Any, strip: Strip, source: int, target: int) -> None:
        kernels, architecture, width = self._kernels, self._architecture, self._width
        picture = _part(source, self._height, width, strip.top)
        scale = architecture.scale
        result = _part(target, self._height * scale, width * scale, strip.top * scale)
        *layers, tail = zip(strip.layers, self._parameters, strict=True)
        read, written = self._buffers
        held = strip.height
        for at, (rows, parameters) in enumerate(layers):
            if at == 0:
                kernels.head(raw, picture, written, held, width, rows, parameters)
            else:
                kernels.trunk(raw, read, written, held, width, rows, parameters)
            read, written, held = written, read, rows.end
        if architecture.resampling is None:
            kernels.tail(raw, read, picture, result, held, width, *tail)
            return
        if kernels.resizes_at_once:
            kernels.tail_resized(raw, read, picture, result, held, width, strip.result, tail[1])
            return
        between = _part(written, strip.height * architecture.factor, width * architecture.factor, 0)
        kernels.tail(raw, read, picture, between, held, width, *tail)
        kernels.resize(raw, between, picture, result, tail[0].end, width, strip.result)


def _part(pointer: int, height: int, width: int, top: int) -> Planes:
    """A dense picture from row ``top`` on."""
    return Planes(pointer + HALF_BYTES * top * width, height * width)
