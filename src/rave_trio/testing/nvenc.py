"""A stand-in for PyNvVideoCodec's encoder on a simulated device, with its signatures and its rules.

What it makes is made by libx264, libx265 and libsvtav1, so that it can be muxed, published and decoded.  As the real
library does, it copies a picture on the stream that it was given, and may return before that copy was made: the memory
must stay as it is until the stream gets there.  What NVENC itself does it cannot show.

Where the real library raises, the stand-in raises likewise.  Where it would take an option that it does not know in
silence, or read memory that is not there, the stand-in raises :class:`~rave_trio.testing.tensorrt.RuleBroken`.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import attrs
import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags

from rave_trio.devices.interface import Event
from rave_trio.devices.simulated import SimulatedMemory
from rave_trio.media.nvenc_library import NvencLibrary
from rave_trio.testing.tensorrt import RuleBroken, StandInDevice, StandInStream

DELAY = 4
"""Pictures that the library holds back at least before it gives out a packet."""

KEY_PICTURE, OTHER_PICTURE = 3, 0
"""NV_ENC_PIC_TYPE_IDR, and P."""

OPTIONS = {
    "codec", "preset", "tuning_info", "rc", "constqp", "gop", "bf", "fps", "gpu_id", "use_ivf_container", "cudastream",
}  # fmt: skip


@attrs.frozen
class _Format:
    """A format of the library: the shapes of its planes as parts of the picture, and what is encoded of it."""

    typestr: str
    planes: tuple[tuple[int, int, int], ...]
    """By how much height and width are divided, and how many samples there are at each place."""
    encoded: str
    ten_bit: bool = False
    chroma: str = "420"


FORMATS = {
    "NV12": _Format("|u1", ((1, 1, 1), (2, 2, 2)), "yuv420p"),
    "P010": _Format("|u2", ((1, 1, 1), (2, 2, 2)), "yuv420p10le", ten_bit=True),
    "NV16": _Format("|u1", ((1, 1, 1), (1, 1, 1)), "yuv422p", chroma="422"),
    "P210": _Format("|u2", ((1, 1, 1), (1, 1, 1)), "yuv422p10le", ten_bit=True, chroma="422"),
    "YUV444": _Format("|u1", ((1, 1, 1),) * 3, "yuv444p", chroma="444"),
    "YUV444_10BIT": _Format("|u2", ((1, 1, 1),) * 3, "yuv444p10le", ten_bit=True, chroma="444"),
}

ENCODERS: dict[str, tuple[str, Callable[[int, int, int], dict[str, str]]]] = {
    "h264": ("libx264", lambda qp, gop, bf: {"x264-params": f"qp={qp}:keyint={gop}:bframes={bf}:b-adapt=0:scenecut=0"}),
    "hevc": ("libx265", lambda qp, gop, bf: {"x265-params": f"log-level=none:qp={qp}:keyint={gop}:bframes={bf}"}),
    "av1": ("libsvtav1", lambda qp, gop, bf: {"crf": str(qp // 4), "svtav1-params": f"keyint={gop}", "preset": "12"}),
}
"""The encoder that does the work, and what it is told."""


class NvVCError(Exception):
    """Goes for PyNvVCException."""


class NvVCUnsupportedError(Exception):
    """Goes for PyNvVCExceptionUnsupported, which is not derived from the other."""


class PictureParameters:
    """Goes for NV_ENC_PIC_PARAMS."""

    def __init__(self) -> None:
        self.inputTimeStamp = 0
        self.encodePicFlags = 0


class NvencDevice(StandInDevice):
    """A simulated device that encodes."""

    ordinal = 0

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Nothing to be made current."""
        yield


class NvencStandIn:
    """Goes for the module ``PyNvVideoCodec``: :attr:`library` is what our modules take.

    ``unsupported`` are what the chip lacks, of ``10bit``, ``422`` and ``444``; ``sessions`` how many may be open at
    once.  ``failing`` and ``created_with`` are for tests: what the next calls raise, by the method's name, and what
    encoders were created with.
    """

    PyNvVCException = NvVCError
    PyNvVCExceptionUnsupported = NvVCUnsupportedError
    NV_ENC_PIC_PARAMS = PictureParameters

    def __init__(self, device: NvencDevice, *, unsupported: frozenset[str] = frozenset(), sessions: int = 8) -> None:
        self.device = device
        self.unsupported = unsupported
        self.sessions = sessions
        self.open = 0
        self.failing: dict[str, Exception] = {}
        self.created_with: list[dict[str, Any]] = []

    @property
    def library(self) -> NvencLibrary:
        return NvencLibrary(self, lambda stream: int(stream.handle))

    def CreateEncoder(  # noqa: N802
        self, width: int, height: int, fmt: str, usecpuinputbuffer: bool, **options: Any
    ) -> StandInEncoder:
        """Raises what the real one raises: for a format that is not there, a codec that does not take it, sessions."""
        self.fail("CreateEncoder")
        if unknown := options.keys() - OPTIONS:
            raise RuleBroken(f"the library would pass over the options {sorted(unknown)}")
        if usecpuinputbuffer:
            raise RuleBroken("the pictures are in the GPU's memory")
        found = FORMATS.get(fmt)
        if found is None:
            raise NvVCUnsupportedError(f"Unknown format: {fmt}")
        if found.chroma in self.unsupported or (found.ten_bit and "10bit" in self.unsupported):
            raise NvVCUnsupportedError(f"Format {fmt} is not supported by current encoder.")
        if options["codec"] == "av1" and found.chroma != "420":
            raise NvVCError("YUV444 format isn't supported by AV1 encoder")
        if self.open >= self.sessions:
            raise NvVCError("CreateEncoder : m_nvenc.nvEncOpenEncodeSessionEx(&params, &hEncoder) returned error 10")
        self.created_with.append(options)
        return StandInEncoder(self, width, height, found, options)

    def fail(self, method: str) -> None:
        """Raise what was planted for this call."""
        error = self.failing.pop(method, None)
        if error is not None:
            raise error


class StandInEncoder:
    """Goes for PyNvEncoder.  It is closed by being forgotten, and has no other way."""

    def __init__(self, module: NvencStandIn, width: int, height: int, fmt: _Format, options: dict[str, Any]) -> None:
        self._module = module
        self._size = width, height
        self._format = fmt
        self._options = {name: str(value) for name, value in options.items()}
        self._stream: StandInStream = module.device.stream_of(int(options["cudastream"]))
        self._copies: deque[tuple[Event, list[npt.NDArray[Any]], int]] = deque()
        self._context = self._opened()
        module.open += 1

    def __del__(self) -> None:
        self._module.open -= 1

    def GetSequenceParams(self) -> bytes:  # noqa: N802
        self._module.fail("GetSequenceParams")
        trial = self._opened(global_header=True)
        return bytes(trial.extradata or b"")

    def Encode(self, frame: Any, picParams: PictureParameters) -> list[dict[str, Any]]:  # noqa: N802, N803
        """Start to copy a picture and give out what is ready."""
        self._module.fail("Encode")
        planes = frame.cuda()
        held, copies, last = [], [], 0
        for number, divisors in enumerate(self._format.planes):
            pointer, shape, dtype = self._checked(planes[number].__cuda_array_interface__, divisors)
            if pointer <= last:
                raise NvVCError("Unsupported surface allocation. u plane must follow yplane.")
            last = pointer
            size = int(np.prod(shape)) * dtype.itemsize
            held.append((self._module.device.memory_of(pointer, size), pointer, size))
            copies.append(np.zeros(shape, dtype))

        def copy(*memories: SimulatedMemory) -> None:
            for (memory, address, count), target in zip(held, copies, strict=True):
                raw = memory.array((memory.nbytes,), np.uint8)[address - memory.pointer :][:count]
                target.reshape(-1).view(np.uint8)[:] = raw

        self._stream.launch(copy, *(memory for memory, _, _ in held))
        self._copies.append((self._stream.record(), copies, int(picParams.inputTimeStamp)))
        return self._given(DELAY)

    def EndEncode(self) -> list[dict[str, Any]]:  # noqa: N802
        self._module.fail("EndEncode")
        return self._given(0) + self._packets(None)

    def _given(self, delay: int) -> list[dict[str, Any]]:
        packets = []
        while len(self._copies) > delay:
            copied, planes, index = self._copies.popleft()
            copied.wait()
            packets += self._packets(self._picture(planes, index))
        return packets

    def _packets(self, picture: av.VideoFrame | None) -> list[dict[str, Any]]:
        return [
            {
                "data": bytes(packet),
                "timestamp": packet.pts,
                "picture_type": KEY_PICTURE if packet.is_keyframe else OTHER_PICTURE,
            }
            for packet in self._context.encode(picture)
        ]

    def _checked(
        self, interface: dict[str, Any], divisors: tuple[int, int, int]
    ) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
        width, height = self._size
        expected = (height // divisors[0], width // divisors[1], divisors[2])
        if interface["typestr"] != self._format.typestr:
            raise RuntimeError(f"Could not encode CUDA array! Invalid typestr: {interface['typestr']}")
        if tuple(interface["shape"]) != expected:
            raise RuntimeError(f"Invalid shape: {interface['shape']}, expected: {expected}")
        item = int(self._format.typestr[2:])
        strides = (expected[1] * expected[2] * item, expected[2] * item, item)
        if interface["strides"] is not None and tuple(interface["strides"]) != strides:
            raise RuntimeError(f"Invalid strides: {interface['strides']}, expected: {strides}")
        return int(interface["data"][0]), expected, np.dtype(f"<u{item}")

    def _picture(self, planes: list[npt.NDArray[Any]], index: int) -> av.VideoFrame:
        picture = av.VideoFrame(*self._size, self._format.encoded)
        if len(planes) == 2:
            pairs = planes[1].reshape(len(planes[1]), -1, 2)
            planes = [planes[0], pairs[..., 0], pairs[..., 1]]
        for target, plane in zip(picture.planes, planes, strict=True):
            words = plane.reshape(len(plane), -1)
            if self._format.ten_bit:
                words = words >> 6
            pitch = target.line_size
            np.ndarray(words.shape, words.dtype, memoryview(target), 0, (pitch, words.itemsize))[:] = words
        picture.pts, picture.time_base = index, Fraction(1, 25)
        return picture

    def _opened(self, *, global_header: bool = False) -> Any:
        options = self._options
        name, parameters = ENCODERS[options["codec"]]
        context: Any = av.VideoCodecContext.create(name, "w")
        context.width, context.height = self._size
        context.pix_fmt = self._format.encoded
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.options = parameters(int(options["constqp"].split(",")[0]), int(options["gop"]), int(options["bf"]))
        if global_header:
            context.flags |= Flags.global_header
        context.open()
        return context
