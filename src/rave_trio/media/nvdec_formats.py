"""What NVDEC decodes of a file, and in which format its pictures come.  Touches neither CUDA nor PyNvVideoCodec."""

from __future__ import annotations

import attrs

from rave_trio import errors
from rave_trio.devices.nvidia import VideoEngines
from rave_trio.frames import ColorRange, PixelFormat, SurfaceDescriptor
from rave_trio.media._libav import describe_format
from rave_trio.media.probe import MediaInfo
from rave_trio.media.timeline import TRUE_TIMES


@attrs.frozen
class NvdecCodec:
    """How one codec's packets are given to NVDEC."""

    member: str
    """Its name among PyNvVideoCodec's ``cudaVideoCodec``."""
    filter: str = "null"
    """libav's bit stream filters for every packet."""
    headers_apart: bool = False
    """Whether a container may keep headers that the parser needs beside the packets, in a form to put before one."""


CODECS = {
    "h264": NvdecCodec("H264", "h264_mp4toannexb", headers_apart=True),
    "hevc": NvdecCodec("HEVC", "hevc_mp4toannexb"),
    "vp8": NvdecCodec("VP8"),
    "vp9": NvdecCodec("VP9"),
    "av1": NvdecCodec("AV1"),
    "mpeg1video": NvdecCodec("MPEG1", headers_apart=True),
    "mpeg2video": NvdecCodec("MPEG2", headers_apart=True),
    "mpeg4": NvdecCodec("MPEG4", headers_apart=True),
}
"""By libav's names."""


@attrs.frozen
class NvdecFormat:
    """A format of NVDEC's surfaces: its name among PyNvVideoCodec's ``Pixel_Format``, and libav's."""

    member: str
    pixel_format: str
    interleaved: bool = True
    """Whether both chroma components share a plane; NVDEC makes the width of such pictures even."""


FORMATS = {
    ("4:2:0", 8): NvdecFormat("NV12", "nv12"),
    ("4:2:0", 10): NvdecFormat("P016", "p010le"),
    ("4:2:0", 12): NvdecFormat("P016", "p012le"),
    ("4:2:0", 16): NvdecFormat("P016", "p016le"),
    ("4:2:2", 8): NvdecFormat("NV16", "nv16"),
    ("4:2:2", 10): NvdecFormat("P216", "p210le"),
    ("4:2:2", 12): NvdecFormat("P216", "p212le"),
    ("4:2:2", 16): NvdecFormat("P216", "p216le"),
    ("4:4:4", 8): NvdecFormat("YUV444", "yuv444p", interleaved=False),
    ("4:4:4", 10): NvdecFormat("YUV444_16Bit", "yuv444p10msble", interleaved=False),
    ("4:4:4", 12): NvdecFormat("YUV444_16Bit", "yuv444p12msble", interleaved=False),
    ("4:4:4", 16): NvdecFormat("YUV444_16Bit", "yuv444p16le", interleaved=False),
}
"""By chroma and bit depth.  Samples of more than 8 bits fill their words from the highest bit down."""

CONCEALED = "NVDEC conceals damage without telling: only frames that are missing altogether are found"
"""What a plan that decodes with NVDEC has to say."""

SUBSAMPLING = {(0, 0): "4:4:4", (1, 0): "4:2:2", (1, 1): "4:2:0"}


def nvdec_format(media: MediaInfo) -> NvdecFormat:
    """The format in which the pictures come.  Raises InputFormatUnsupported for what NVDEC has no surfaces for."""
    native = media.video.surface.pixel_format
    found = FORMATS.get((_chroma(native) or "", native.bit_depth))
    if found is None:
        raise errors.InputFormatUnsupported(f"NVDEC has no surfaces for {native.name}", remedy="decode it in software")
    return found


def nvdec_surface(media: MediaInfo) -> SurfaceDescriptor:
    """What :class:`~rave_trio.media.nvdec.NvdecDecoder` gives out: the software decoder's samples, laid out otherwise.

    Raises InputFormatUnsupported as :func:`nvdec_format` does.
    """
    known = media.video.surface
    color = known.color
    if known.pixel_format.name.startswith("yuvj") and color.range == ColorRange.UNSPECIFIED:
        color = attrs.evolve(color, range=ColorRange.FULL)  # the other formats do not imply it
    return attrs.evolve(known, pixel_format=describe_format(nvdec_format(media).pixel_format), color=color)


def nvdec_refusal(
    media: MediaInfo, engines: VideoEngines, deinterlace: str = "off", *, strict: bool = False
) -> str | None:
    """Why this file's video is better decoded in software, in one line; None if NVDEC of a GPU with these engines does.

    ``deinterlace`` and ``strict`` are as in the options.
    """
    video = media.video
    native, codec = video.surface.pixel_format, video.codec
    if codec not in CODECS:
        return f"{codec} is not decoded by NVDEC"
    if not engines.decoders:
        return f"NVDEC cannot be used: {engines.notes[0]}" if engines.notes else "this GPU has no NVDEC"
    chroma = _chroma(native)
    if chroma is None:
        return f"NVDEC has no surfaces for {native.name}"
    found = next(
        (e for e in engines.decoders if (e.codec, e.chroma, e.bit_depth) == (codec, chroma, native.bit_depth)), None
    )
    if found is None or (chroma, native.bit_depth) not in FORMATS:
        return f"NVDEC of this GPU does not decode {codec} in {chroma} with {native.bit_depth} bits"
    width, height = video.surface.width, video.surface.height
    if width > found.max_width or height > found.max_height:
        limit = f"{found.max_width}x{found.max_height}"
        return f"NVDEC of this GPU decodes {codec} up to {limit}, and this is {width}x{height}"
    if width < (found.min_width or 0) or height < (found.min_height or 0):
        limit = f"{found.min_width}x{found.min_height}"
        return f"NVDEC of this GPU decodes {codec} from {limit} on, and this is {width}x{height}"
    if video.interlaced or deinterlace == "bwdif":
        return "interlaced pictures are decoded and deinterlaced in software"
    if strict:
        return "NVDEC conceals damage, which a strict reading is to find"
    if video.captioned:
        return "NVDEC does not give out closed captions"
    if not media.format.startswith(TRUE_TIMES):
        return f"{media.format} has no presentation times, which NVDEC does not find out"
    return None


def _chroma(native: PixelFormat) -> str | None:
    """The subsampling as NVDEC's tables have it; None for what is not plain Y, Cb, Cr."""
    if native.is_rgb or native.is_grey or native.has_alpha:
        return None
    return SUBSAMPLING.get((native.chroma_shift_x, native.chroma_shift_y))
