"""Parts that NVENC makes of surfaces in a GPU's memory, through PyNvVideoCodec."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Protocol

from rave_trio.color.cuda.planes import layout
from rave_trio.devices.arrays import DeviceArray, DevicePicture
from rave_trio.devices.interface import Stream, use
from rave_trio.errors import EncodeError
from rave_trio.frames import Frame, Surface
from rave_trio.media.elementary import ElementaryStream
from rave_trio.media.encoders import ENCODERS, EncoderSettings
from rave_trio.media.nvenc_library import NvencLibrary, nvenc_library
from rave_trio.media.nvenc_settings import FORMATS, nvenc_options
from rave_trio.media.parts import FrameTimes, Part, PartFile

DENSE = 1
"""Bytes to which rows are aligned: PyNvVideoCodec knows no pitch but a row's own length."""

KEY_PICTURE = 3
"""NV_ENC_PIC_TYPE_IDR."""


class EncodingDevice(Protocol):
    """What is needed of a GPU: :class:`rave_trio.devices.cuda.CudaDevice` has it."""

    ordinal: int
    """CUDA's count."""

    def stream(self) -> Any:
        """A new stream."""

    def current(self) -> contextlib.AbstractContextManager[None]:
        """Makes the context current in this thread."""


class CudaArray:
    """One plane by ``__cuda_array_interface__``, in the shape that PyNvVideoCodec expects."""

    def __init__(self, plane: DeviceArray, shape: tuple[int, int, int]) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "strides": None,
            "typestr": f"|u{plane.dtype.itemsize}",  # it refuses a byte order
            "data": (plane.pointer, False),
            "version": 3,
        }


class NvencInput:
    """What ``Encode`` takes: a picture whose planes lie densely one after the other."""

    def __init__(self, picture: DevicePicture, pixel_format: str) -> None:
        pairs = pixel_format in ("nv12", "p010le")  # the samples of both components; 4:2:2 is told otherwise
        self._planes = []
        for number, plane in enumerate(picture.planes):
            rows, samples = plane.shape
            shape = (rows, samples // 2, 2) if number and pairs else (rows, samples, 1)
            self._planes.append(CudaArray(plane, shape))

    def cuda(self) -> list[CudaArray]:
        """The planes, in order of their addresses."""
        return self._planes


class NvencPartEncoder:
    """Encodes surfaces in a GPU's memory into one part, as :class:`rave_trio.media.parts.PartEncoder` does others.

    A surface's ``native`` is a :class:`~rave_trio.devices.arrays.DevicePicture` in one of the formats of
    :data:`~rave_trio.media.nvenc_settings.FORMATS`, laid out densely: ``layout(descriptor, alignment=1)``.

    Streams: PyNvVideoCodec copies a surface into a buffer of its own, on the stream that it is given, and NVENC waits
    for that stream.  :meth:`write` waits for the surface's ``last_use`` before and for the copy after, and notes the
    copy in its place.  So a surface can be closed when it returns, whether it raises or not.

    Not thread-safe; one caller at a time, from any thread.  :meth:`finish` makes the part whole; :meth:`close` without
    it leaves a file that holds what the encoder had given out.  Close it before the device.
    """

    def __init__(
        self,
        path: Path,
        settings: EncoderSettings,
        device: EncodingDevice,
        *,
        b_frames: int = 0,
        library: NvencLibrary | None = None,
    ) -> None:
        """Opens an encoding session.  ``b_frames`` is how many in a row the chip makes of this codec.

        Raises EncodeError where NVENC is not there, does not take the settings, or has no session left, OutOfMemory,
        and MuxError or what names the disk where the part cannot be written.
        """
        self.path = path
        self._settings = settings
        self._codec = ENCODERS[settings.encoder].codec
        self._layout = layout(settings.surface, DENSE)
        self._device = device
        self._times = FrameTimes(settings)
        self._library = library or nvenc_library()
        self._b_frames = b_frames
        self._encoder: Any = None
        self._begun = False
        self._stream: Stream = device.stream()
        self._file = PartFile(path)
        try:
            with self._library.failures(f"{settings.encoder} cannot be opened"), device.current():
                self._encoder = self._open()
                header = bytes(self._encoder.GetSequenceParams())
            self._elementary = ElementaryStream(self._codec, settings, header)
        except BaseException:
            self.close()
            raise

    @property
    def packets(self) -> int:
        """Packets written so far; after :meth:`finish`, one for each frame."""
        return self._file.packets

    @property
    def part(self) -> Part:
        """The finished part; only after :meth:`finish`."""
        return self._times.finished

    def write(self, frame: Frame) -> None:
        """Encode one frame; its surface must have the settings' size and format.  The frame stays the caller's.

        Raises EncodeError or OutOfMemory if NVENC fails, or work on the surface has failed; ValueError for planes that
        are not dense or not the settings'.
        """
        picture = self._picture(frame.surface)
        memory = picture.memory
        parameters = self._library.module.NV_ENC_PIC_PARAMS()
        parameters.inputTimeStamp = self._times.note(frame)
        with self._library.failures(f"{self._settings.encoder} failed on frame {frame.index}"), self._device.current():
            if memory.last_use is not None:
                memory.last_use.wait()  # also if the library should ever read on another stream than ours
            try:
                with use(self._stream, memory):
                    packets = self._encoder.Encode(NvencInput(picture, self._format), parameters)
            finally:
                if memory.last_use is not None:
                    memory.last_use.wait()
        self._write(packets)

    def finish(self) -> Part:
        """Drain the encoder, close the session and the file, and hand over the part."""
        with self._library.failures(f"{self._settings.encoder} failed at the end"), self._device.current():
            packets = self._encoder.EndEncode()
        self._write(packets)
        self._close_session()
        self._file.finish()
        return self._times.finish(self.path, self._file.reorder_delay)

    def close(self) -> None:
        """Let go of the session and the file.  Idempotent, and silent: whoever closes early has an error of its own."""
        with contextlib.suppress(Exception):
            self._close_session()
        self._file.close()

    @property
    def _format(self) -> str:
        return self._settings.surface.pixel_format.name

    def _open(self) -> Any:
        surface = self._settings.surface
        if self._format not in FORMATS:
            raise EncodeError(f"{self._settings.encoder} does not take {self._format}, only {', '.join(FORMATS)}")
        create = self._library.module.CreateEncoder
        return create(
            surface.width,
            surface.height,
            FORMATS[self._format],
            False,
            gpu_id=self._device.ordinal,
            cudastream=self._library.handle(self._stream),
            **nvenc_options(self._settings, self._b_frames),
        )

    def _close_session(self) -> None:
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            with self._device.current():
                del encoder  # it has no other way to be closed

    def _picture(self, surface: Surface) -> DevicePicture:
        picture: DevicePicture = surface.native
        memory = picture.memory
        expected = [(plane.offset, (plane.rows, plane.samples), plane.pitch) for plane in self._layout.planes]
        first = picture.planes[0].offset
        found = [(plane.offset - first, plane.shape, plane.pitch) for plane in picture.planes]
        if found != expected or any(plane.memory is not memory for plane in picture.planes):
            raise ValueError(
                f"the planes (offset, shape, pitch) {found} are not dense ones of {self._settings.surface}"
            )
        return picture

    def _write(self, packets: list[dict[str, Any]]) -> None:
        for given in packets:
            index = int(given["timestamp"])
            if not 0 <= index < len(self._times.pts):
                raise EncodeError(
                    f"{self._settings.encoder} gave out a packet of a frame {index} that it was not given"
                )
            packet = self._elementary.packet(bytes(given["data"]), index, key=given["picture_type"] == KEY_PICTURE)
            if not self._begun:
                self._file.take(self._elementary.add_to(self._file.container, packet))
                self._begun = True
            self._file.write(packet)
