"""A stand-in for PyNvVideoCodec on a simulated device: libav decodes, and the library's rules hold.

As the library does, it keeps four pictures back, gives them out in display order with the packet's pts, writes them in
the stream that it was given, lays planes densely one after the other with an even width where chroma is interleaved,
and says wrong addresses for the second and third plane of 4:4:4 with more than 8 bits.  Its buffers are spoilt as soon
as the next packet comes, and not after four frames: who still reads them then reads garbage.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import threading
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import av
import av.error
import numpy as np
from av.packet import Packet

from rave_trio.devices.simulated import SimulatedDevice

LATENCY = 4
GARBAGE = 0xA5


class NvdecDevice(SimulatedDevice):
    """A simulated device with what of a CUDA device the decoder asks for."""

    ordinal = 0
    context = 0xC0DE

    def __init__(self, capacity: int = 1 << 28, **how: Any) -> None:
        self.by_handle: dict[int, Any] = {}
        self._current = threading.local()
        super().__init__(capacity, **how)

    def stream(self) -> Any:
        stream: Any = super().stream()
        stream.raw = SimpleNamespace(handle=0x5000 + 0x10 * len(self.by_handle))
        self.by_handle[stream.raw.handle] = stream
        return stream

    @contextlib.contextmanager
    def current(self):
        self._current.here = True
        try:
            yield
        finally:
            self._current.here = False

    def must_be_current(self) -> None:
        assert getattr(self._current, "here", False), "the library is called without a current context"


def copy(stream, source, target) -> None:
    """As rave_trio.devices.copies.copy, on a simulated device."""
    stream.launch(_copy, source, target.pointer, target.pitch, target.rows, target.row_bytes, target.memory)


def _copy(source, pointer, pitch, rows, row_bytes, memory) -> None:
    assert source.pitch >= row_bytes
    for row in range(rows):
        ctypes.memmove(pointer + row * pitch, source.pointer + row * source.pitch, row_bytes)


class PyNvVCException(Exception):
    pass


class PyNvVCExceptionUnsupported(Exception):
    pass


CudaVideoCodec = enum.Enum("cudaVideoCodec", "MPEG1 MPEG2 MPEG4 VC1 H264 JPEG HEVC VP8 VP9 AV1")
PixelFormat = enum.Enum("Pixel_Format", "NV12 P016 NV16 P216 YUV444 YUV444_16Bit")

LIBAV = {
    "H264": "h264",
    "HEVC": "hevc",
    "VP8": "vp8",
    "VP9": "vp9",
    "MPEG1": "mpeg1video",
    "MPEG2": "mpeg2video",
    "MPEG4": "mpeg4",
    "AV1": "libdav1d",
}


OTHERS = {
    "maxwidth",
    "maxheight",
    "outputColorType",
    "enableSEIMessage",
    "bWaitForSessionWarmUp",
    "latency",
    "enableDecodeStats",
}
"""The other keywords of CreateDecoder."""


class PacketData:
    __slots__ = (
        "bDiscontinuity", "bsl", "bsl_data", "decode_flag", "discardable", "dts", "duration", "is_video", "key", "pos",
        "pts", "seek_pts", "stream_index",
    )  # fmt: skip


class StandIn:
    """Goes for the module.  ``refuse`` makes what Decode raises next; ``lose`` are packets that give nothing."""

    cudaVideoCodec = CudaVideoCodec  # noqa: N815
    Pixel_Format = PixelFormat
    PacketData = PacketData
    PyNvVCException = PyNvVCException
    PyNvVCExceptionUnsupported = PyNvVCExceptionUnsupported

    def __init__(self, device: NvdecDevice, *, lose: tuple[int, ...] = ()) -> None:
        self.device = device
        self.lose = lose
        self.refuse: Callable[[], Exception] | None = None
        self.open_decoders = 0

    def CreateDecoder(  # noqa: N802
        self, *, gpuid=0, codec=CudaVideoCodec.H264, cudacontext=0, cudastream=0, usedevicememory=0, **others
    ):
        self.device.must_be_current()
        assert others.keys() <= OTHERS
        assert (gpuid, cudacontext, bool(usedevicememory)) == (self.device.ordinal, self.device.context, True)
        return Decoder(self, codec, self.device.by_handle[cudastream])


class Decoder:
    def __init__(self, standin, codec, stream) -> None:
        self._standin = standin
        self._stream = stream
        self._codec = av.CodecContext.create(LIBAV[codec.name], "r")
        self._codec.thread_type = "SLICE"
        self._held: deque[Any] = deque()
        self._buffers: list[np.ndarray] = []
        self._count = 0
        self._largest: tuple[int, int] | None = None
        standin.open_decoders += 1

    def __del__(self) -> None:
        self._standin.open_decoders -= 1

    def Decode(self, packet):  # noqa: N802
        self._standin.device.must_be_current()
        for buffer in self._buffers:
            buffer.fill(GARBAGE)
        if self._standin.refuse is not None:
            raise self._standin.refuse()
        self._held += self._decoded(packet)
        keep = LATENCY if packet.bsl else 0
        ready = [self._held.popleft() for _ in range(max(0, len(self._held) - keep))]
        while len(self._buffers) < len(ready):
            self._buffers.append(np.empty(0, np.uint8))
        return [self._written(at, frame) for at, frame in enumerate(ready)]

    def WaitOnCUStream(self, handle) -> None:  # noqa: N802
        self._standin.device.must_be_current()
        self._standin.device.by_handle[handle].wait(self._stream.record())

    def _decoded(self, packet) -> list[Any]:
        with contextlib.suppress(av.error.FFmpegError):
            if not packet.bsl:
                return self._codec.decode(None)
            self._count += 1
            if self._count - 1 in self._standin.lose:
                return []
            given = Packet(packet.bsl)  # of this size it is padded, as libav's parsers want it
            given.update(ctypes.string_at(packet.bsl_data, packet.bsl))
            given.pts = packet.pts
            return self._codec.decode(given)
        return []

    def _written(self, at, frame):
        size = (frame.width, frame.height)
        self._largest = self._largest or size
        if size[0] > self._largest[0] or size[1] > self._largest[1]:
            raise PyNvVCException(
                "HandleVideoSequence : \nError code : 1\n"
                "Error Type : Reconfigure Not supported when width/height > maxwidth/maxheight\nat NvDecoder.cpp:1\n"
            )
        if size != self._largest:  # it goes on with surfaces of the first size, and does not say so
            frame = padded(frame, *self._largest)
        form, planes = surface_of(frame)
        data = np.concatenate([np.ascontiguousarray(plane).view(np.uint8).reshape(-1) for plane in planes])
        if self._buffers[at].size < data.size:
            self._buffers[at] = np.full(data.size, GARBAGE, np.uint8)
        self._stream.launch(np.copyto, self._buffers[at][: data.size], data)
        return DecodedFrame(frame.pts, form, planes, self._buffers[at])


class DecodedFrame:
    def __init__(self, pts, form, planes, buffer) -> None:
        self._pts, self.format, self._buffer = pts, form, buffer
        self._shapes = [(*plane.shape, 1) for plane in planes]
        self._type = planes[0].dtype
        if len(planes) == 2:
            rows, samples = planes[1].shape
            self._shapes[1] = (rows, samples // 2, 2)

    def getPTS(self):  # noqa: N802
        return self._pts

    def GetPtrToPlane(self, plane):  # noqa: N802
        return self.cuda()[plane].__cuda_array_interface__["data"][0]

    def cuda(self):
        step = 1 if len(self._shapes) == 3 else self._type.itemsize  # the library's mistake
        views, address = [], self._buffer.ctypes.data
        for shape in self._shapes:
            strides = [shape[1] * shape[2], shape[2], 1]
            described = {"shape": list(shape), "strides": strides, "typestr": f"|u{self._type.itemsize}"}
            views.append(SimpleNamespace(__cuda_array_interface__=described | {"data": (address, False)}))
            address += int(np.prod(shape)) * step
        return views


def padded(frame, width, height):
    """A larger frame with this one in its corner."""
    larger = av.VideoFrame(width, height, frame.format.name)
    larger.pts = frame.pts
    for source, target in zip(frame.planes, larger.planes, strict=True):
        small = np.frombuffer(source, np.uint8).reshape(source.height, source.line_size)
        large = np.frombuffer(target, np.uint8).reshape(target.height, target.line_size)
        large[: len(small), : source.width] = small[:, : source.width]
    return larger


def surface_of(frame) -> tuple[PixelFormat, list[np.ndarray]]:
    """A libav frame as NVDEC lays it out."""
    bits = frame.format.components[0].bits
    dtype = np.dtype(np.uint8 if bits == 8 else "<u2")
    y, u, v = (
        np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width] << (8 * dtype.itemsize - bits)
        for plane in frame.planes
    )
    if u.shape == y.shape:
        return (PixelFormat.YUV444 if bits == 8 else PixelFormat.YUV444_16Bit), [y, u, v]
    chroma = np.stack([u, v], axis=2).reshape(u.shape[0], -1)
    luma = np.full((y.shape[0], chroma.shape[1]), GARBAGE, dtype)
    luma[:, : y.shape[1]] = y
    names = ("NV16", "P216") if frame.format.name.startswith(("yuv422", "yuvj422")) else ("NV12", "P016")
    return PixelFormat[names[bits > 8]], [luma, chroma]
