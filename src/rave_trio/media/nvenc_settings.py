"""What NVENC is told, and what a chip's NVENC does not do; nothing here touches a library or a GPU."""

from __future__ import annotations

from typing import Any

from rave_trio.devices.nvidia import VideoEngines
from rave_trio.frames import PixelFormat, SurfaceDescriptor
from rave_trio.media.encoders import ENCODERS, EncoderSettings

FORMATS = {
    "nv12": "NV12",
    "p010le": "P010",
    "nv16": "NV16",
    "p210le": "P210",
    "yuv444p": "YUV444",
    "yuv444p10msble": "YUV444_10BIT",
}
"""libav's names of what goes in, and PyNvVideoCodec's."""

PRESETS = {
    "ultrafast": "P1",
    "superfast": "P1",
    "veryfast": "P2",
    "faster": "P3",
    "fast": "P3",
    "medium": "P4",
    "slow": "P5",
    "slower": "P6",
    "veryslow": "P7",
    "placebo": "P7",
}

KEY_FRAME_INTERVAL = 250
"""Frames, at most: what x264 and x265 take."""

B_FRAMES = 3
"""In a row, at most: what x264 takes."""

INTRA_QP, B_QP = -3, 3
"""Steps by which key frames and B-frames differ from other frames: NVENC's own default is 25, 28, 31."""

QP_STEPS = {"h264": (1, 51), "hevc": (1, 51), "av1": (4, 255)}
"""Quantiser indices for one step of ``crf``, and the highest: AV1 has 256 for the 64 that its encoders take."""

CHROMA = {(1, 1): "4:2:0", (1, 0): "4:2:2", (0, 0): "4:4:4"}


def nvenc_options(settings: EncoderSettings, b_frames: int) -> dict[str, Any]:
    """The options of ``CreateEncoder`` for an encoder of ours (``h264_nvenc``...), without those that name the GPU.

    ``crf`` becomes a constant quantiser: NVENC's other measure of quality, ``cq``, is bounded by a bit rate that the
    driver chooses.  Lookahead and multipass steer a bit rate, and stay off.  ``b_frames`` is how many in a row the chip
    makes; AV1 goes without.  The rate is rounded, since PyNvVideoCodec reads two decimals: with a constant quantiser
    nothing hangs on it, and the stream's own is written afterwards.
    """
    given, codec = dict(settings.options), ENCODERS[settings.encoder].codec
    steps, highest = QP_STEPS[codec]
    qp = int(given["crf"])

    def quantiser(difference: int) -> int:
        return min(max((qp + difference) * steps, 0), highest) if qp else 0

    b_frames = 0 if codec == "av1" else min(b_frames, B_FRAMES)
    options: dict[str, Any] = {
        "codec": codec,
        "preset": PRESETS[given["preset"]],
        "tuning_info": "high_quality",
        "rc": "constqp",
        "constqp": f"{quantiser(0)},{quantiser(B_QP)},{quantiser(INTRA_QP)}",  # P, B, I
        "gop": KEY_FRAME_INTERVAL,
        "bf": b_frames,
        "fps": max(1, round(settings.rate)),
    }
    if codec == "av1":
        options["use_ivf_container"] = 0  # or every packet would come with a file format around it
    return options


def nvenc_refusal(codec: str, surface: SurfaceDescriptor, engines: VideoEngines) -> str | None:
    """Why a chip's NVENC does not make ``codec`` (libav's name) of such surfaces, in one line; None if it does.

    What the library does not say of a chip, such as the smallest size, only opening the encoder tells.
    """
    pixel_format = surface.pixel_format
    found = next((encoder for encoder in engines.encoders if encoder.codec == codec), None)
    if found is None:
        notes = [note for note in engines.notes if not note.startswith("NVDEC")]
        why = f": {'; '.join(notes)}" if notes else ""
        return f"this GPU does not encode {codec}{why}"
    if pixel_format.name not in FORMATS:
        return f"NVENC does not take {pixel_format.name}, only {', '.join(FORMATS)}"
    if pixel_format.bit_depth not in found.bit_depths:
        return f"this GPU does not encode {codec} in {pixel_format.bit_depth} bits"
    chroma = chroma_of(pixel_format)
    if chroma not in found.chroma or (codec == "av1" and chroma != "4:2:0"):
        return f"this GPU does not encode {codec} in {chroma}"
    size = f"{surface.width}x{surface.height}"
    if surface.width > found.max_width or surface.height > found.max_height:
        return f"this GPU encodes {codec} up to {found.max_width}x{found.max_height}, not {size}"
    if surface.width & pixel_format.chroma_shift_x or surface.height & pixel_format.chroma_shift_y:
        return f"NVENC cannot encode the odd size {size} in {chroma}"
    return None


def chroma_of(pixel_format: PixelFormat) -> str:
    """The subsampling in the usual three numbers."""
    return CHROMA[pixel_format.chroma_shift_x, pixel_format.chroma_shift_y]
