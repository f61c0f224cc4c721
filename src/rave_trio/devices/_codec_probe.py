"""Run as a program: what NVDEC and NVENC of the one GPU that CUDA shows can do, as lines of JSON.

PyNvVideoCodec ends the process where CUDA fails it, so each answer is written as soon as it is known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from rave_trio.devices.child import answering

DECODED = {
    "mpeg1video": ("MPEG1", (("420", 8),)),
    "mpeg2video": ("MPEG2", (("420", 8),)),
    "mpeg4": ("MPEG4", (("420", 8),)),
    "vc1": ("VC1", (("420", 8),)),
    "mjpeg": ("JPEG", (("420", 8),)),
    "h264": ("H264", (("420", 8), ("420", 10), ("422", 8), ("422", 10))),
    "hevc": ("HEVC", tuple((chroma, depth) for chroma in ("420", "422", "444") for depth in (8, 10, 12))),
    "vp8": ("VP8", (("420", 8),)),
    "vp9": ("VP9", (("420", 8), ("420", 10), ("420", 12))),
    "av1": ("AV1", (("420", 8), ("420", 10), ("Monochrome", 8), ("Monochrome", 10))),
}
"""libav's name, the library's name, and what to ask for; what a GPU cannot do of the first it cannot of the others."""

ENCODED = ("h264", "hevc", "av1")

CHROMA = {"420": "4:2:0", "422": "4:2:2", "444": "4:4:4", "Monochrome": "4:0:0"}


def main() -> None:
    answers = answering()

    def tell(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    try:
        import PyNvVideoCodec as codec  # noqa: N813
    except Exception as error:
        tell(error=_line(error))
    else:
        decoders(codec, tell)
        encoders(codec, tell)
    tell(end=True)
    os._exit(0)  # the library may not survive its own end


def decoders(codec: Any, tell: Callable[..., None]) -> None:
    for name, (member, formats) in DECODED.items():
        for at, (chroma, depth) in enumerate(formats):
            try:
                caps = codec.GetDecoderCaps(
                    gpuid=0,
                    codec=getattr(codec.cudaVideoCodec, member),
                    chromaformat=getattr(codec.cudaVideoChromaFormat, chroma),
                    bitdepth=depth,
                )
            except Exception as error:
                tell(refused={"engine": "NVDEC", "codec": name, "message": _line(error)})
                caps = {}
            width, height = _number(caps, "width_max"), _number(caps, "height_max")
            if width and height:
                found = {
                    "codec": name,
                    "chroma": CHROMA[chroma],
                    "bit_depth": depth,
                    "max_width": width,
                    "max_height": height,
                    "min_width": _number(caps, "width_min"),
                    "min_height": _number(caps, "height_min"),
                    "engines": _number(caps, "num_decoder_engines"),
                }
                tell(decoder=found)
            elif at == 0:
                break


def encoders(codec: Any, tell: Callable[..., None]) -> None:
    for name in ENCODED:
        try:
            caps = codec.GetEncoderCaps(gpuid=0, codec=name)
        except Exception as error:
            tell(refused={"engine": "NVENC", "codec": name, "message": _line(error)})
            continue
        width, height = _number(caps, "width_max"), _number(caps, "height_max")
        if width and height:
            wider = [chroma for chroma in ("422", "444") if _number(caps, f"support_yuv{chroma}_encode")]
            found = {
                "codec": name,
                "chroma": [CHROMA[chroma] for chroma in ("420", *wider)],
                "bit_depths": [8, 10] if _number(caps, "support_10bit_encode") else [8],
                "max_width": width,
                "max_height": height,
                "max_b_frames": _number(caps, "num_max_bframes"),
                "engines": _number(caps, "num_encoder_engines"),
            }
            tell(encoder=found)


def _number(caps: Any, key: str) -> int | None:
    """A capability, or None where the library does not say."""
    value = caps.get(key) if isinstance(caps, dict) else None
    return int(value) if isinstance(value, int | float) else None


def _line(error: Exception) -> str:
    """Without where in its source the library says it failed."""
    lines = (" ".join(line.split()).rstrip(" :") for line in str(error).splitlines())
    return "; ".join(line for line in lines if line and not line.startswith("at "))[:200] or type(error).__name__


if __name__ == "__main__":
    main()
