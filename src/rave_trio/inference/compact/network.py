"""A network of the Compact family made ready for pictures of one size on one device."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import numpy.typing as npt

from rave_trio.devices.arrays import DeviceArray, DevicePicture
from rave_trio.devices.interface import Player, Stream, use
from rave_trio.inference.compact.calibration import calibrated
from rave_trio.inference.compact.kernels_protocol import KernelSet, Planes, SurfaceTail
from rave_trio.inference.compact.net import CompactNet
from rave_trio.inference.compact.strips import HALF_BYTES, Strip, aligned, buffer_bytes, picture_bytes, strips
from rave_trio.inference.compact.surfaces import Surfaces, address_of
from rave_trio.inference.compact.weights import packed
from rave_trio.inference.device_backend import DevicePool
from rave_trio.memory import Lease

Upload = Callable[[Stream, npt.NDArray[Any], DeviceArray], None]
"""How the host's numbers come to the device, in a stream's order: :func:`rave_trio.devices.copies.copy_from_host`."""


class CompactNetwork:
    """A :class:`rave_trio.inference.device_backend.Network` of our own kernels, in fp16 or in fp8.

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
        numbers = packed(net, calibrated(net) if kernels.fp8 else None, resized=kernels.resizes_at_once)
        buffer = aligned(buffer_bytes(architecture, len(net.layers), height, width, strip, fp8=kernels.fp8))
        self._surfaces = surfaces
        shapes = [] if surfaces is None else surfaces.shapes
        sizes = [aligned(picture_bytes(*shape)) for shape in shapes]
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
        offset = numbers.data.nbytes + 2 * buffer
        self._tensors = [
            DeviceArray(memory, shape, self.dtype, offset=offset + sum(sizes[:at])) for at, shape in enumerate(shapes)
        ]
        """Those of the surfaces' shapes."""

    def launch(
        self, stream: Stream, source: DeviceArray, target: DeviceArray, failed: Callable[[Exception], None], *held: Any
    ) -> None:
        """See :meth:`rave_trio.inference.device_backend.Network.launch`; ``stream`` is the one it was made with."""
        begin, end = source.pointer, target.pointer
        self._play(stream, (begin, end), lambda raw: self._to_tensor(raw, begin, end), failed, held)

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
        surfaces, (entry, *results) = self._surfaces, self._tensors

        def run(raw: Any) -> None:
            surfaces.read.put(raw, source, entry)
            if surfaces.tail is not None:
                self._to_surface(raw, entry.pointer, target, surfaces.tail)
            else:
                assert surfaces.write is not None
                [result] = results
                self._to_tensor(raw, entry.pointer, result.pointer)
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

    def _to_tensor(self, raw: Any, source: int, target: int) -> None:
        for strip in self._strips:
            self._end(raw, strip, source, target)

    def _to_surface(self, raw: Any, source: int, target: DevicePicture, put: SurfaceTail) -> None:
        for strip in self._strips:
            picture = _part(source, self._height, self._width, strip.top)
            read, _, held = self._begin(raw, strip, picture)
            tail = strip.layers[-1], self._parameters[-1]
            put(raw, read, picture, target, strip.top, held, self._width, *tail)

    def _begin(self, raw: Any, strip: Strip, picture: Planes) -> tuple[int, int, int]:
        """All layers but the last: where their result lies, the other buffer, and how many rows are held."""
        kernels, width = self._kernels, self._width
        read, written = self._buffers
        held = strip.height
        for at, (rows, parameters) in enumerate(zip(strip.layers[:-1], self._parameters[:-1], strict=True)):
            if at == 0:
                kernels.head(raw, picture, written, held, width, rows, parameters)
            else:
                kernels.trunk(raw, read, written, held, width, rows, parameters)
            read, written, held = written, read, rows.end
        return read, written, held

    def _end(self, raw: Any, strip: Strip, source: int, target: int) -> None:
        kernels, architecture, width = self._kernels, self._architecture, self._width
        picture = _part(source, self._height, width, strip.top)
        scale = architecture.scale
        result = _part(target, self._height * scale, width * scale, strip.top * scale)
        read, written, held = self._begin(raw, strip, picture)
        tail = strip.layers[-1], self._parameters[-1]
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
