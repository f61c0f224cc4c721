"""A network of the Compact family made ready for pictures of one size on one device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import Player, Stream, use
from rave_trio.inference.compact.calibration import calibrated
from rave_trio.inference.compact.kernels_protocol import KernelSet, Planes
from rave_trio.inference.compact.net import CompactNet
from rave_trio.inference.compact.strips import HALF_BYTES, Strip, aligned, buffer_bytes, strips
from rave_trio.inference.compact.weights import packed
from rave_trio.inference.device_backend import DevicePool
from rave_trio.memory import Lease

Upload = Callable[[Stream, npt.NDArray[Any], DeviceArray], None]
"""How the host's numbers come to the device, in a stream's order: :func:`rave_trio.devices.copies.copy_from_host`."""


class CompactNetwork:
    """A :class:`rave_trio.inference.device_backend.Network` of our own kernels, in fp16 or with its trunk in fp8.

    Parameters and two buffers of activations are one lease from ``scratch``, since a second could wait for ever for the
    first.  It is the network's until it is closed; frames follow one another through the buffers on one stream.
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
    ) -> None:
        """For pictures of ``height`` x ``width``, computed in strips of at most ``strip`` rows on ``stream`` alone.

        Kernels in fp8 want a trunk of at least two layers.  Waits until the parameters are on the device.  Raises
        OutOfMemory.
        """
        self._architecture = architecture = net.architecture
        self._kernels = kernels
        self._player = player
        self._height, self._width = height, width
        self._strips = strips(architecture, len(net.layers), height, strip)
        numbers = packed(net, calibrated(net) if kernels.fp8 else None)
        buffer = aligned(buffer_bytes(architecture, len(net.layers), height, width, strip, fp8=kernels.fp8))
        self._lease: Lease[Any] | None = scratch.lease(numbers.data.nbytes + 2 * buffer)
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

    def launch(
        self, stream: Stream, source: DeviceArray, target: DeviceArray, failed: Callable[[Exception], None], *held: Any
    ) -> None:
        """See :meth:`rave_trio.inference.device_backend.Network.launch`; ``stream`` is the one it was made with."""
        begin, end = source.pointer, target.pointer

        def run(raw: Any) -> None:
            for strip in self._strips:
                self._compute(raw, strip, begin, end)

        try:
            self._player.play(stream, (begin, end), run, *held, self._lease)
        except MemoryError as error:
            failed(error)

    def describe(self, error: Exception) -> tuple[bool, str]:
        """Whether a failure is for want of memory, and its reason in one line."""
        return isinstance(error, MemoryError), " ".join(str(error).split()) or type(error).__name__

    def close(self) -> None:
        """Give back its memory.  Idempotent; nothing may be under way."""
        self._player.close()
        if self._lease is not None:
            self._lease.close()
            self._lease = None

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
