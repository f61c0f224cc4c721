"""Decoding by NVDEC, through PyNvVideoCodec: pictures stay in the GPU's memory.

Order.  The decoder is given a stream of our own: it copies each picture from the chip's surface into one of a few
buffers of its own in that stream, and uses those buffers again.  So each picture is copied into leased memory in the
same stream, and the host waits for that stream before it hands over the next packet: whichever stream the library
should write a buffer from, nobody reads it then.  The picture's memory carries the moment of the copy, as all memory
does, and nobody else has to wait.

Damage.  NVDEC conceals it and does not tell: a picture with errors comes out like any other.  Only packets that give no
picture are noticed.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs
import av
import av.error
from av.packet import Packet
from av.video.stream import VideoStream

from rave_trio import errors
from rave_trio.color.cuda.planes import layout
from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.copies import RawPlane, copy
from rave_trio.devices.interface import LaunchError, use
from rave_trio.devices.libraries import EXTRA
from rave_trio.devices.pool import DevicePool
from rave_trio.frames import SurfaceDescriptor
from rave_trio.media._libav import reason
from rave_trio.media.decoder import SPLIT, VideoDecoder
from rave_trio.media.engine import CannotDecode, Picture
from rave_trio.media.nvdec_formats import CODECS, nvdec_format, nvdec_surface
from rave_trio.media.nvdec_headers import headers_of, size_in
from rave_trio.media.probe import MediaInfo
from rave_trio.memory import SharedLease

if TYPE_CHECKING:
    from rave_trio.devices.cuda import CudaDevice, CudaStream

Copy = Callable[["CudaStream", RawPlane, DeviceArray], None]

REORDERED = 64
"""Packets after which a picture that has not come never will: more than any codec keeps back."""

CAPTIONS = (b"\xb5\x00\x31GA94\x03", b"\x00\x00\x01\xb2GA94\x03")
"""How closed captions begin (ATSC A/53, part 4, 6.2.3): in T.35 messages, of H.264 and later codecs, and in MPEG-2."""

SOFTWARE = "decode it in software"


class NvdecEngine:
    """NVDEC and the parser of one stream; see :class:`~rave_trio.media.engine.Engine`.

    Pictures are :class:`~rave_trio.devices.arrays.DevicePicture` in memory leased from ``pool``, one at a time: leasing
    blocks, and raises, as the pool does.  ``module`` is PyNvVideoCodec, ``copy`` copies within the device.

    Raises DecodeError if NVDEC refuses the stream, here or at the first packets, and InputFormatUnsupported for formats
    that it has no surfaces for.  PyNvVideoCodec ends the process where CUDA fails it.
    """

    def __init__(
        self, media: MediaInfo, stream: VideoStream, device: CudaDevice, pool: DevicePool, module: Any, copy: Copy
    ) -> None:
        self.surface = nvdec_surface(media)
        self._format = nvdec_format(media)
        self._layout = layout(self.surface)
        codec = CODECS.get(media.video.codec)
        if codec is None:
            raise errors.InputFormatUnsupported(f"NVDEC does not decode {media.video.codec}", remedy=SOFTWARE)
        self._filter: Any = av.BitStreamFilterContext(codec.filter, stream)
        self._opening: Any = None
        if codec.headers_apart:
            self._opening = av.BitStreamFilterContext(f"{codec.filter},dump_extra=freq=all", stream)
        self._device, self._pool, self._module, self._copy = device, pool, module, copy
        self._stream = device.stream()
        self._sent: dict[int, deque[_Sent]] = {}
        """What waits for its picture, by the time that NVDEC was told."""
        self._latest = 0
        self._decode_times: deque[tuple[int, int]] = deque()
        self._codec = media.video.codec
        self._count = 0
        self._headers = b""
        self._changed: tuple[int, tuple[int, int]] | None = None
        """The first packet of another size than the first one's, and that size."""
        self._begun = False
        create = functools.partial(
            module.CreateDecoder,
            gpuid=device.ordinal,
            codec=getattr(module.cudaVideoCodec, codec.member),
            cudacontext=device.context,
            cudastream=int(self._stream.raw.handle),
            usedevicememory=True,
        )
        self._decoder: Any = self._called(create)

    def decode(self, packet: Packet[Any]) -> Iterator[Picture]:
        if packet.size == 0:
            if packet.pts is None and packet.dts is None:  # the end, and not a frame that an encoder left out
                yield from self._drain()
            return
        time, sent = self._note(packet)
        for filtered in self._filtered(packet):
            data = bytes(filtered)
            if filtered.is_keyframe:  # filtering has emptied the packet
                self._note_size(data)
            if any(mark in data for mark in CAPTIONS):
                sent.captioned = True
            yield from self._pictures(self._give(filtered.buffer_ptr, filtered.buffer_size, time))

    def close(self) -> None:
        self._filter = self._opening = None
        decoder, self._decoder = self._decoder, None
        if decoder is None:
            return
        with contextlib.suppress(LaunchError):
            self._stream.synchronize()
        with contextlib.suppress(LaunchError), self._device.current():
            del decoder

    def _note(self, packet: Packet[Any]) -> tuple[int, _Sent]:
        """Remember what NVDEC does not pass on, under the presentation time, which it does and orders pictures by."""
        self._count += 1
        sent = _Sent(self._count, packet.pts, packet.duration, packet.is_keyframe, packet.is_discard)
        self._latest = self._latest + 1 if packet.pts is None else packet.pts
        self._sent.setdefault(self._latest, deque()).append(sent)
        if packet.dts is not None:
            self._decode_times.append((self._count, packet.dts))
        return self._latest, sent

    def _filtered(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """The packet as the parser wants it, the first key frame's with the container's headers before it."""
        chosen = self._filter
        if packet.is_keyframe and self._opening is not None:
            chosen, self._opening = self._opening, None
        try:
            filtered: list[Packet[Any]] = chosen.filter(packet)
        except av.error.FFmpegError as error:
            raise CannotDecode(reason(error)) from error
        return filtered

    def _drain(self) -> Iterator[Picture]:
        while frames := self._give(0, 0, 0):
            yield from self._pictures(frames)

    def _give(self, address: int, size: int, time: int) -> list[Any]:
        """Hand data to the parser, and take the frames that are ready; no data means that none will follow."""
        self._stream.synchronize()  # see above: the frames of before are overwritten now
        data = self._module.PacketData()
        data.bsl_data, data.bsl, data.pts = address, size, time
        frames: list[Any] = self._called(self._decoder.Decode, data)
        if frames:
            self._called(self._decoder.WaitOnCUStream, int(self._stream.raw.handle))
        return frames

    def _note_size(self, data: bytes) -> None:
        """Look at a key frame's size, if its headers are others than before.

        Where pictures become smaller NVDEC goes on with surfaces of the old size, and says nothing.
        """
        headers = headers_of(self._codec, data)
        if not headers or headers == self._headers or self._changed is not None:
            return
        first, self._headers = not self._headers, headers
        size = None if first else size_in(self._codec, data)
        if size is not None and size != (self.surface.width, self.surface.height):
            self._changed = self._count, size

    def _pictures(self, frames: list[Any]) -> Iterator[Picture]:
        for frame in frames:
            sent = self._taken(int(frame.getPTS()))
            dts = self._decode_time(sent.number)
            if not sent.discarded:
                yield self._picture(frame, sent, dts)

    def _taken(self, time: int) -> _Sent:
        """What was sent with that time, the first of it."""
        waiting = self._sent.get(time)
        if waiting is None:
            return _Sent(self._count)
        sent = waiting.popleft()
        if not waiting:
            del self._sent[time]
        return sent

    def _decode_time(self, number: int) -> int | None:
        """The earliest that no picture has had: frames leave in the order of decode times, whatever that of packets."""
        while self._sent and next(iter(self._sent.values()))[0].number < number - REORDERED:
            del self._sent[next(iter(self._sent))]
        while self._decode_times and self._decode_times[0][0] < number - REORDERED:
            self._decode_times.popleft()
        return self._decode_times.popleft()[1] if self._decode_times else None

    def _picture(self, frame: Any, sent: _Sent, dts: int | None) -> Picture:
        described = self._described(frame)
        if self._changed is not None and sent.number >= self._changed[0]:
            described = self._sized(*self._changed[1])
        made = Picture(sent.pts, dts, sent.duration, sent.key_frame, described, None, captions_lost=sent.captioned)
        if described == self.surface:
            self._copy_out(frame, made)
        elif not self._begun:
            now, expected = (f"{s.width}x{s.height} {s.pixel_format.name}" for s in (described, self.surface))
            raise errors.DecodeError(f"NVDEC gives {now} in the place of {expected}", remedy=SOFTWARE)
        self._begun = True
        return made

    def _described(self, frame: Any) -> SurfaceDescriptor:
        """The surface of a frame; the one that is expected, if it is as large as NVDEC makes that."""
        member = str(frame.format).rpartition(".")[2]
        if member != self._format.member:
            raise errors.DecodeError(f"the picture changes from {self._format.member} to {member}", remedy=SPLIT)
        height, width = _size(frame)
        expected = self.surface.width
        if self._format.interleaved:
            expected += expected % 2
        return self.surface if (width, height) == (expected, self.surface.height) else self._sized(width, height)

    def _sized(self, width: int, height: int) -> SurfaceDescriptor:
        return attrs.evolve(self.surface, width=width, height=height)

    def _copy_out(self, frame: Any, made: Picture) -> None:
        """Launch the copy of a frame into memory of its own.

        Planes lie densely one after the other: the addresses that the library gives for the second and third are wrong
        for 4:4:4 of more than 8 bits.
        """
        lease = self._pool.lease(self._layout.nbytes)
        try:
            native = self._layout.picture(lease.memory)
            _, width = _size(frame)
            pitch = width * native.planes[0].dtype.itemsize
            address = int(frame.GetPtrToPlane(0))
            with use(self._stream, lease.memory):
                for plane in native.planes:
                    self._copy(self._stream, RawPlane(address, pitch), plane)
                    address += plane.rows * pitch
        except BaseException:
            lease.close()
            raise
        made.native, made.lease = native, SharedLease(lease)

    def _called(self, call: Callable[..., Any], *args: Any) -> Any:
        """Call the library, in the device's context; what it raises is a DecodeError, as it has no common base.

        No context manager of a generator: the error would hold its frames, and they the error, and the decoder with it.
        """
        module = self._module
        try:
            with self._device.current():
                return call(*args)
        except (module.PyNvVCException, module.PyNvVCExceptionUnsupported, RuntimeError) as error:
            told = _told(error)
            if "Reconfigure" in told:
                what = f"the picture changes, and NVDEC cannot follow: {told}"
                raise errors.DecodeError(what, remedy=SPLIT) from error
            raise errors.DecodeError(f"NVDEC: {told}", remedy=SOFTWARE) from error


class NvdecDecoder(VideoDecoder):
    """The frames as NVDEC decodes them; surfaces hold pictures in the GPU's memory.  See :class:`VideoDecoder`.

    ``surface`` describes them: the samples are those of the software decoder.  Memory comes from ``pool``, of
    ``device``'s memory; a frame that is repeated shares it with the one before, and it goes back when both are closed.
    Close it before the device.  Beside the frames that were read it holds the last one, and the library's own surfaces,
    which no ledger knows of.

    What NVDEC conceals of damage is not found, nor are pictures in the middle that are interlaced; closed captions are
    left out, and counted.  Where the picture becomes larger than it was, the frames that the chip keeps back are lost.

    Raises DecodeError if NVDEC refuses the stream, InputFormatUnsupported for formats that it has no surfaces for, and
    DeviceUnknown without PyNvVideoCodec; :func:`~rave_trio.media.nvdec_formats.nvdec_refusal` tells before.
    ``module`` and ``copy`` are for tests.
    """

    def __init__(
        self,
        media: MediaInfo,
        device: CudaDevice,
        pool: DevicePool,
        *,
        strict: bool = False,
        module: Any = None,
        copy: Copy = copy,
    ) -> None:
        self.surface = nvdec_surface(media)
        module = _library() if module is None else module

        def engine(media: MediaInfo, stream: VideoStream) -> NvdecEngine:
            return NvdecEngine(media, stream, device, pool, module, copy)

        super().__init__(media, engine, strict=strict)


@attrs.define
class _Sent:
    """What a packet said that its picture does not say; ``number`` counts packets."""

    number: int
    pts: int | None = None
    duration: int | None = None
    key_frame: bool = False
    discarded: bool = False
    """Whether it is decoded only for others' sake, as an edit list has it."""
    captioned: bool = False


def _library() -> Any:
    try:
        import PyNvVideoCodec
    except Exception as error:
        raise errors.DeviceUnknown(f"PyNvVideoCodec cannot be loaded: {error}", remedy=EXTRA) from error
    return PyNvVideoCodec


def _size(frame: Any) -> tuple[int, int]:
    """Rows and samples a row of a frame's luma."""
    height, width = frame.cuda()[0].__cuda_array_interface__["shape"][:2]
    return int(height), int(width)


def _told(error: BaseException) -> str:
    """What the library says, without its source's line."""
    named = re.search(r"Error Type : (.+)", str(error))
    if named:
        return named[1].strip()
    return " ".join(str(error).partition("\nat ")[0].split()) or type(error).__name__
