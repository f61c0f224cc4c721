"""A clip to measure with, where nobody gives one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from rave_trio.audit.clip import drawn
from rave_trio.errors import OutputNotWritable
from rave_trio.media._libav import writing

RATE = 24
PICTURES = 8
"""That are drawn, to be shown in turn: drawing takes longer than decoding."""


def write_moving_clip(path: Path, frames: int, width: int, height: int) -> None:
    """Soft waves that move, in H.264 (yuv420p, 24 frames per second); width and height are even.  Blocking.

    Raises DiskFull or OutputNotWritable.
    """
    pictures = [
        av.VideoFrame.from_ndarray(drawn(4 * index, width, height), "rgb24").reformat(format="yuv420p")
        for index in range(min(PICTURES, frames))
    ]
    with writing(path, OutputNotWritable), av.open(path, "w", format="matroska") as container:
        stream = container.add_stream("libx264", RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            picture = pictures[index % len(pictures)]
            picture.pts, picture.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
