"""The same place of one frame before and after, as PNG: for looking at, not for measuring."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import av
from av.video.frame import VideoFrame

from rave_trio.media._libav import fraction
from rave_trio.media.probe import MediaInfo, open_input

SIDE = 128
"""Of the place, in pixels of the input."""

CLOSE = Fraction(1, 500)
"""Seconds by which the times of the same frame may differ: Matroska rounds to a thousandth."""

FORWARD = 60
"""Frames; a second or two of decoding, even of large ones."""


@attrs.frozen
class Crops:
    """PNG files; ``after`` is ``scale`` times as large as ``before``.  ``seconds`` is the frame's time."""

    before: bytes
    after: bytes
    width: int
    """Of ``before``, in pixels."""
    height: int
    scale: int
    seconds: float


def take_crops(media: MediaInfo, result: Path, seconds: float, scale: int) -> Crops | None:
    """From a frame of ``result`` at ``seconds``, or somewhat before; None if either file has no frame to show.

    The place is the one of the most contrast.  Blocking: decodes at most FORWARD frames of the result, and the input
    from the key frame before that one.
    """
    found = _frame(result, 0, media.frame_rate, Fraction(seconds), exactly=False)
    if found is None:
        return None
    time, enlarged = found
    source = _frame(media.path, media.video.index, media.frame_rate, time, exactly=True)
    if source is None or enlarged.width != scale * source[1].width:
        return None
    before, after = source[1].to_ndarray(format="rgb24"), enlarged.to_ndarray(format="rgb24")
    height, width = min(SIDE, before.shape[0]), min(SIDE, before.shape[1])
    places = [
        (y, x)
        for y in range(0, before.shape[0] - height + 1, height // 2 or 1)
        for x in range(0, before.shape[1] - width + 1, width // 2 or 1)
    ]
    y, x = max(places, key=lambda at: float(before[at[0] : at[0] + height, at[1] : at[1] + width].std()))
    return Crops(
        _png(before[y : y + height, x : x + width]),
        _png(after[scale * y : scale * (y + height), scale * x : scale * (x + width)]),
        width,
        height,
        scale,
        float(time),
    )


def _frame(
    path: Path, index: int, rate: Fraction | None, time: Fraction, *, exactly: bool
) -> tuple[Fraction, VideoFrame] | None:
    """The frame shown at ``time`` after the stream's start, and when it is shown.

    Unless ``exactly`` that one is wanted, it may be one before: FORWARD frames behind the key frame.
    """
    with open_input(path, rate) as container:
        stream = container.streams[index] if exactly else container.streams.video[0]
        time_base = fraction(stream.time_base) or Fraction(1)
        start = stream.start_time or 0
        container.seek(start + int(time / time_base), stream=stream)
        for count, frame in enumerate(container.decode(stream), 1):
            assert isinstance(frame, VideoFrame)
            if frame.pts is None:
                continue
            shown = (frame.pts - start) * time_base
            if shown >= time - CLOSE or (count >= FORWARD and not exactly):
                return shown, frame
    return None


def _png(samples: Any) -> bytes:
    """H x W x 3 uint8 as a PNG file."""
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width, encoder.pix_fmt = samples.shape[0], samples.shape[1], "rgb24"
    encoder.time_base = Fraction(1, 25)
    frame = VideoFrame.from_ndarray(samples.copy(), "rgb24")
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
