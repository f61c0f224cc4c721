"""The self-test of NVDEC: a clip decoded on the chip and on the CPU, which must be the same to the bit."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from rave_trio.audit.clip import drawn

FRAMES, WIDTH, HEIGHT = 40, 322, 182

SOFTWARE: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "veryfast"}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=error"}),
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "av1": ("libsvtav1", {"preset": "12"}),
}
"""Who makes the clip, by codec: of those whose pictures the standard settles to the bit."""

FORMATS = {8: "yuv420p", 10: "yuv420p10le"}


def decode_and_compare(
    device: Any, codec: str, depth: int, folder: Path, copy: Any, how: dict[str, Any] | None = None
) -> str:
    """Decode a clip of ``codec`` and ``depth`` bits, 4:2:0, on the chip, and compare it with the CPU's decoding.

    ``copy`` brings planes from the device's memory to the host; ``how`` goes to the decoder, in tests.  Raises
    AssertionError for what is not as it should be.
    """
    from rave_trio.devices.pool import device_pool
    from rave_trio.media.decoder import LibavDecoder
    from rave_trio.media.nvdec import NvdecDecoder
    from rave_trio.media.probe import probe
    from rave_trio.memory import Ledger

    source = folder / "clip.mkv"
    _write(source, codec, depth)
    media, pool, stream = probe(source), device_pool(device, Ledger()), device.stream()
    shift = 16 - depth if depth > 8 else 0
    with contextlib.ExitStack() as held:
        held.callback(pool.close)
        chip = held.enter_context(contextlib.closing(NvdecDecoder(media, device, pool, **(how or {}))))
        software = held.enter_context(contextlib.closing(LibavDecoder(media)))
        for index in range(FRAMES + 1):
            found, expected = chip.read(), software.read()
            if found is None or expected is None:
                break
            same = found.pts == expected.pts and all(
                np.array_equal(one, other)
                for one, other in zip(
                    _on_the_chip(found, stream, copy, shift), _on_the_cpu(expected.surface.native), strict=True
                )
            )
            found.close()
            expected.close()
            if not same:
                raise AssertionError(f"frame {index} is not what the CPU decodes")
        if found is not None or expected is not None or index != FRAMES:
            raise AssertionError(f"{index} of {FRAMES} frames came")
    return f"{FRAMES} frames of {WIDTH}x{HEIGHT}, the same as the CPU's to the bit"


def _write(path: Path, codec: str, depth: int) -> None:
    encoder, options = SOFTWARE[codec]
    with av.open(path, "w", format="matroska") as container:
        stream: Any = container.add_stream(encoder, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, FORMATS[depth]
        for index in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(drawn(index, WIDTH, HEIGHT), "rgb24").reformat(format=FORMATS[depth])
            picture.pts, picture.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _on_the_chip(frame: Any, stream: Any, copy: Any, shift: int) -> list[npt.NDArray[Any]]:
    """Y, Cb, Cr of a picture whose chroma is interleaved and whose samples lie in the high bits."""
    from rave_trio.devices.interface import use

    picture, planes = frame.surface.native, []
    with use(stream, picture.memory):
        for plane in picture.planes:
            planes.append(np.empty(plane.shape, plane.dtype))
            copy(stream, plane, planes[-1])
    stream.synchronize()
    luma, chroma = (plane >> shift for plane in planes)
    return [luma, chroma[:, 0::2], chroma[:, 1::2]]


def _on_the_cpu(native: Any) -> list[npt.NDArray[Any]]:
    planes = []
    for plane in native.planes:
        dtype = np.dtype(np.uint8 if native.format.components[0].bits == 8 else "<u2")
        samples = np.frombuffer(plane, dtype).reshape(plane.height, -1)
        planes.append(samples[:, : plane.width])
    return planes
