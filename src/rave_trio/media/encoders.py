"""The encoders on offer: their options, their formats, and what each container takes."""

from __future__ import annotations

import os
from fractions import Fraction
from functools import cache

import attrs
import av
import av.error
from av.container import OutputContainer
from av.video.stream import VideoStream

from rave_trio import errors
from rave_trio.frames import UNSPECIFIED, ChromaLocation, ColorRange, PixelFormat, SurfaceDescriptor
from rave_trio.media import hdr
from rave_trio.media._libav import codecs_of, describe_format, reason
from rave_trio.media.containers import IMAGES, Container

X26X_PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
)


HIGH_EFFORT_CRF = 3
"""By how much a high effort's default CRF is lower."""


@attrs.frozen
class EncoderSpec:
    """One encoder: the codec it makes, the CRF and presets it knows, options that always apply.

    ``efforts`` are the presets for a fast and for a high effort, whatever the encoder.

    ``sitings`` are the chroma locations that its stream can state.  ``software`` is set for encoders of a GPU: the one
    that makes the same codec on the CPU; ``formats`` are then the pixel formats that it takes, by libav's names.
    """

    name: str
    codec: str
    default_crf: int | None = None
    highest_crf: int = 0
    presets: tuple[str, ...] = ()
    default_preset: str | None = None
    fixed: tuple[tuple[str, str], ...] = ()
    sitings: frozenset[ChromaLocation] = frozenset(ChromaLocation)
    software: str | None = None
    formats: tuple[str, ...] = ()
    frame_threads: bool = False
    """Whether libav encodes several pictures at once, on threads that hold them and let go of them."""
    efforts: tuple[str, str] = ("veryfast", "slow")


AV1_SITINGS = frozenset({ChromaLocation.LEFT, ChromaLocation.TOP_LEFT})
"""AV1 bitstream specification, 6.4.2: vertical and colocated; anything else is unknown."""

ENCODERS = {
    spec.name: spec
    for spec in (
        EncoderSpec("libx264", "h264", 17, 51, X26X_PRESETS, "medium"),
        EncoderSpec(
            "libx265", "hevc", 19, 51, X26X_PRESETS, "medium", (("x265-params", "log-level=error"), ("a53cc", "1"))
        ),
        EncoderSpec(
            "libsvtav1", "av1", 22, 63, tuple(str(n) for n in range(14)), "6", sitings=AV1_SITINGS, efforts=("10", "4")
        ),
        EncoderSpec("ffv1", "ffv1", fixed=(("level", "3"), ("slicecrc", "1"))),
        EncoderSpec("png", "png", sitings=frozenset(), frame_threads=True),
        EncoderSpec(
            "h264_nvenc",
            "h264",
            17,
            51,
            X26X_PRESETS,
            "medium",
            software="libx264",
            formats=("nv12", "p010le", "nv16", "p210le", "yuv444p"),
        ),
        EncoderSpec(
            "hevc_nvenc",
            "hevc",
            19,
            51,
            X26X_PRESETS,
            "medium",
            software="libx265",
            formats=("nv12", "p010le", "nv16", "p210le", "yuv444p", "yuv444p10msble"),
        ),
        EncoderSpec(
            "av1_nvenc",
            "av1",
            22,
            63,
            X26X_PRESETS,
            "medium",
            sitings=AV1_SITINGS,
            software="libsvtav1",
            formats=("nv12", "p010le"),
        ),
    )
}

IMAGE_ENCODER = "png"

CAPTIONERS = ("libx264", "libx265")
"""Encoders that write closed captions."""

SITINGS = {
    ChromaLocation.LEFT: "left",
    ChromaLocation.CENTER: "center",
    ChromaLocation.TOP_LEFT: "topleft",
    ChromaLocation.TOP: "top",
    ChromaLocation.BOTTOM_LEFT: "bottomleft",
    ChromaLocation.BOTTOM: "bottom",
}
"""libav's names."""


@attrs.frozen
class EncoderSettings:
    """Everything that decides how frames become a stream.

    The encoder counts frames at ``rate``, and writes that into the stream as the nominal rate; ``time_base`` is that of
    the frames' own times, which are published.
    """

    encoder: str
    options: tuple[tuple[str, str], ...]
    surface: SurfaceDescriptor
    rate: Fraction
    time_base: Fraction
    hdr: hdr.HdrMetadata | None = None


def default_encoder(container: Container, *, high_dynamic_range: bool = False) -> str:
    """The first encoder on offer whose codec the container can hold: libx264 where it goes.

    For PQ and HLG it is libx265: players and screens look for HDR in HEVC and AV1.
    """
    if container is IMAGES:
        return IMAGE_ENCODER
    fitting = [spec for spec in ENCODERS.values() if spec.codec in codecs_of(container.muxer)]
    return next(spec.name for spec in fitting if not high_dynamic_range or spec.codec != "h264")


def encoder_options(
    spec: EncoderSpec, crf: int | None, preset: str | None, effort: str | None = None
) -> tuple[tuple[str, str], ...]:
    """The libav options for one encoder.  Raises UsageError for a CRF or preset it does not know.

    ``effort`` (fast, normal or high) decides what the other two leave open; a lossless encoder has no use for it.
    """
    options = dict(spec.fixed)
    if spec.default_crf is None:
        if crf is not None or preset is not None:
            raise errors.UsageError(
                f"{spec.name} is lossless and takes no CRF or preset", remedy="leave out --crf and --preset"
            )
        return tuple(options.items())
    crf = spec.default_crf - (HIGH_EFFORT_CRF if effort == "high" else 0) if crf is None else crf
    if not 0 <= crf <= spec.highest_crf:
        raise errors.UsageError(f"{spec.name} does not know CRF {crf}", remedy=f"give --crf 0 to {spec.highest_crf}")
    fast, high = spec.efforts
    preset = preset or {"fast": fast, "high": high}.get(effort or "normal", spec.default_preset)
    if preset not in spec.presets:
        raise errors.UsageError(
            f"{spec.name} does not know the preset {preset!r}",
            remedy=f"give --preset {'|'.join(spec.presets)}",
        )
    return tuple({**options, "crf": str(crf), "preset": str(preset)}.items())


@cache
def encoder_formats(name: str) -> tuple[PixelFormat, ...]:
    """Pixel formats that the encoder takes, in its own order."""
    if name in ENCODERS and ENCODERS[name].formats:
        return tuple(describe_format(known) for known in ENCODERS[name].formats)
    formats = av.Codec(name, "w").video_formats or []
    return tuple(describe_format(f.name) for f in formats)


def named_format(encoder: str, name: str) -> PixelFormat:
    """The encoder's pixel format of that name.  Raises UsageError if it has none."""
    for candidate in encoder_formats(encoder):
        if candidate.name == name and not candidate.has_alpha:
            return candidate
    names = [candidate.name for candidate in encoder_formats(encoder) if not candidate.has_alpha]
    raise errors.UsageError(f"{encoder} has no pixel format {name!r}", remedy=f"use --pixel-format {'|'.join(names)}")


def choose_format(encoder: str, source: PixelFormat) -> PixelFormat:
    """The encoder's format nearest to ``source``: the same one, else the nearest that loses least.

    Depth counts before subsampling, subsampling before being of the same kind (YUV, RGB, grey).
    """

    def loss(candidate: PixelFormat) -> tuple[int, ...]:
        return (
            candidate.name != source.name,
            candidate.has_alpha,
            candidate.is_grey and not source.is_grey,
            max(0, min(source.bit_depth, 16) - candidate.bit_depth),
            max(0, candidate.chroma_shift_x - source.chroma_shift_x),
            max(0, candidate.chroma_shift_y - source.chroma_shift_y),
            candidate.is_rgb != source.is_rgb,
            candidate.is_grey != source.is_grey,
            abs(candidate.bit_depth - source.bit_depth),
            abs(candidate.chroma_shift_x - source.chroma_shift_x)
            + abs(candidate.chroma_shift_y - source.chroma_shift_y),
            candidate.name.startswith(("nv", "yuvj")),  # same samples, other layout or deprecated tag
        )

    return min(encoder_formats(encoder), key=loss)


def check_encoder(settings: EncoderSettings) -> None:
    """Open the encoder as the run will; raises OutputSizeUnsupported or EncodeError if it refuses.

    Only for encoders of the CPU: what a GPU refuses is said by :func:`rave_trio.media.nvenc_settings.nvenc_refusal`.
    """
    surface, software = settings.surface, ENCODERS[settings.encoder].software
    if software is not None:
        raise errors.EncodeError(
            f"{settings.encoder} encodes on an NVIDIA GPU, and this run is on the CPU",
            remedy=f"use --codec {software}",
        )
    try:
        _open(settings)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        size, name = f"{surface.width}x{surface.height}", surface.pixel_format.name
        odd = (surface.width & surface.pixel_format.chroma_shift_x) or (
            surface.height & surface.pixel_format.chroma_shift_y
        )
        if odd:
            raise errors.OutputSizeUnsupported(
                f"{settings.encoder} cannot encode the odd size {size} in {name}",
                remedy="use --scale 2 or 4, a --size of even sides, or --codec ffv1",
            ) from error
        if _takes_plain_size(settings):
            raise errors.OutputSizeUnsupported(
                f"{settings.encoder} cannot encode {size} {name} at {float(settings.rate):.6g} frames per second",
                remedy="use another --scale or --size, or --codec ffv1, which takes any size",
            ) from error
        raise errors.EncodeError(
            f"{settings.encoder} refuses {size} {name} with {_shown(settings.options)}: {reason(error)}"
        ) from error


def _takes_plain_size(settings: EncoderSettings) -> bool:
    """Whether only the size or the rate is what the encoder refuses: libav's own errors do not say."""
    plain = attrs.evolve(settings.surface, width=640, height=360)
    try:
        _open(attrs.evolve(settings, surface=plain, rate=Fraction(25)))
    except (av.error.FFmpegError, OSError, ValueError):
        return False
    return True


def _open(settings: EncoderSettings) -> None:
    context = av.VideoCodecContext.create(settings.encoder, "w")
    assert isinstance(context, av.VideoCodecContext)
    configure(context, settings)
    context.open()


def add_encoded_stream(container: OutputContainer, settings: EncoderSettings) -> VideoStream:
    """A stream that encodes into ``container`` as the settings say."""
    stream = container.add_stream(settings.encoder, rate=settings.rate)
    assert isinstance(stream, VideoStream)
    configure(stream.codec_context, settings)
    return stream


def on_cpu(settings: EncoderSettings) -> EncoderSettings:
    """Settings of an encoder on the CPU that makes the same codec, for trials and where the GPU's is missing."""
    spec = ENCODERS[settings.encoder]
    if spec.software is None:
        return settings
    surface = attrs.evolve(settings.surface, pixel_format=choose_format(spec.software, settings.surface.pixel_format))
    options = encoder_options(ENCODERS[spec.software], None, None)
    return attrs.evolve(settings, encoder=spec.software, options=options, surface=surface)


def configure(context: av.VideoCodecContext, settings: EncoderSettings) -> None:
    """Write the settings, colour tags included, to a codec context that is not open yet."""
    if settings.encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "0")  # it describes itself on stderr otherwise, and so repeats our errors
    surface = settings.surface
    context.width, context.height = surface.width, surface.height
    context.pix_fmt = surface.pixel_format.name
    context.time_base = 1 / settings.rate
    context.framerate = settings.rate
    if surface.sample_aspect_ratio:
        context.sample_aspect_ratio = surface.sample_aspect_ratio
    if surface.color.matrix != UNSPECIFIED:
        context.colorspace = surface.color.matrix
    if surface.color.primaries != UNSPECIFIED:
        context.color_primaries = surface.color.primaries
    if surface.color.transfer != UNSPECIFIED:
        context.color_trc = surface.color.transfer
    if surface.color.range != ColorRange.UNSPECIFIED:
        context.color_range = surface.color.range
    context.options = _libav_options(settings)
    context.thread_type = "AUTO"


def _libav_options(settings: EncoderSettings) -> dict[str, str]:
    options = dict(settings.options)
    if settings.hdr is not None:
        for name, value in hdr.encoder_params(settings.encoder, settings.hdr).items():
            options[name] = f"{options[name]}:{value}" if name in options else value
    if siting := SITINGS.get(settings.surface.color.chroma_location):
        options["chroma_sample_location"] = siting
    return options


def _shown(options: tuple[tuple[str, str], ...]) -> str:
    return " ".join(f"{key}={value}" for key, value in options) or "no options"
