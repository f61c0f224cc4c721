"""Pictures that are known exactly at any size, and clips of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from rave_trio.errors import OutputNotWritable
from rave_trio.media._libav import writing

TICKS = Fraction(1, 1000)


def drawn(index: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Height x width x 3, RGB: soft waves over the picture as a whole, at another place in every frame."""
    y, x = np.mgrid[0:height, 0:width]
    x, y = (x + 0.5) / width, (y + 0.5) / height
    red = 128 + 80 * np.sin(9 * x + index / 3)
    green = 128 + 80 * np.sin(7 * y - index / 4)
    blue = 128 + 60 * np.sin(5 * (x + y) + index / 5)
    picture: npt.NDArray[np.uint8] = np.rint(np.stack([red, green, blue], axis=2)).astype(np.uint8)
    return picture


def times(frames: int) -> list[int]:
    """Presentation times in milliseconds, at no constant rate."""
    return [40 * index + 7 * (index % 3) for index in range(frames)]


def write_clip(
    path: Path, frames: int, width: int, height: int, codec: str = "ffv1", pixel_format: str = "yuv444p"
) -> None:
    """A clip, by default in FFV1, which loses nothing.  Raises DiskFull or OutputNotWritable."""
    with writing(path, OutputNotWritable), av.open(path, "w", format="matroska") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = TICKS
        for index, at in enumerate(times(frames)):
            picture = av.VideoFrame.from_ndarray(drawn(index, width, height), "rgb24").reformat(format=pixel_format)
            picture.pts, picture.time_base = at, TICKS
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def read_clip(path: Path) -> list[tuple[Fraction, npt.NDArray[Any]]]:
    """The frames of a file: when each is shown, in seconds, and its picture as RGB.  Decodes on the CPU."""
    found = []
    with av.open(path) as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            found.append((frame.pts * frame.time_base, frame.to_ndarray(format="rgb24")))
    return found


def psnr(one: npt.NDArray[Any], other: npt.NDArray[Any], peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB."""
    error = float(np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))
