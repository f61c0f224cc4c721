"""How the output is encoded: encoder, options, format and colours; and what transparent pictures are laid on."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from rave_trio import errors
from rave_trio.color import HD_LINES, range_of
from rave_trio.frames import ChromaLocation, ColorRange, ColorSpec, PixelFormat, SurfaceDescriptor
from rave_trio.graph import EncodeStage
from rave_trio.media.containers import IMAGES, Container
from rave_trio.media.encoders import (
    ENCODERS,
    IMAGE_ENCODER,
    EncoderSettings,
    choose_format,
    default_encoder,
    encoder_options,
    named_format,
)
from rave_trio.media.probe import MediaInfo

RGB, BT709, BT601 = 0, 1, 6
"""Code points of H.273 for matrix coefficients."""

BACKGROUNDS = {"black": "#000000", "grey": "#808080", "white": "#ffffff"}


HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""Code points of H.273 for transfer characteristics."""


def encoder_settings(
    stage: EncodeStage,
    output: Path,
    media: MediaInfo,
    container: Container,
    target: SurfaceDescriptor,
    encoder: str | None = None,
) -> EncoderSettings:
    """For pictures of the size and pixel aspect ratio of ``target``."""
    source = media.video.surface
    name = (
        encoder or stage.codec or default_encoder(container, high_dynamic_range=source.color.transfer in HDR_TRANSFERS)
    )
    if name not in ENCODERS:
        raise errors.UsageError(f"there is no encoder {name!r}", remedy=f"use --codec {'|'.join(ENCODERS)}")
    if (name == IMAGE_ENCODER) != (container is IMAGES):
        raise errors.UsageError(
            f"{output} cannot be made with --codec {name}",
            remedy=f"leave out --codec, or write to {'a video file' if container is IMAGES else 'out/%05d.png'}",
        )
    spec = ENCODERS[name]
    if stage.pixel_format is not None:
        pixel_format = named_format(name, stage.pixel_format)
    else:
        pixel_format = choose_format(name, source.pixel_format)
    color = output_color(source, pixel_format, target.height)
    if color.chroma_location not in spec.sitings:
        color = attrs.evolve(color, chroma_location=ChromaLocation.UNSPECIFIED)
    return EncoderSettings(
        encoder=name,
        options=encoder_options(spec, stage.crf, stage.preset, stage.effort),
        surface=attrs.evolve(target, pixel_format=pixel_format, color=color),
        rate=media.video.rate,
        time_base=media.video.time_base,
        hdr=media.video.hdr,
    )


def output_color(source: SurfaceDescriptor, pixel_format: PixelFormat, height: int) -> ColorSpec:
    """The output's colour tags: the input's, but for what no longer fits.

    RGB that becomes YUV and the other way round, and grey that becomes YUV, get the matrix and range that players
    assume, and say so.  Siting goes with the subsampling.
    """
    color, layout = source.color, source.pixel_format
    subsampling = (layout.chroma_shift_x, layout.chroma_shift_y)
    if (pixel_format.chroma_shift_x, pixel_format.chroma_shift_y) != subsampling or subsampling == (0, 0):
        color = attrs.evolve(color, chroma_location=ChromaLocation.UNSPECIFIED)
    if pixel_format.is_rgb and not layout.is_rgb:
        color = attrs.evolve(color, matrix=RGB, range=ColorRange.FULL)
    elif layout.is_rgb and not pixel_format.is_rgb:
        color = attrs.evolve(color, matrix=BT601 if height < HD_LINES else BT709, range=ColorRange.LIMITED)
    elif layout.is_grey and not pixel_format.is_grey:
        color = attrs.evolve(color, range=range_of(color, layout))
    if pixel_format.name.startswith("yuvj"):  # libav's formats of full range
        color = attrs.evolve(color, range=ColorRange.FULL)
    return color


def background_of(background: str | None, media: MediaInfo) -> tuple[float, float, float] | None:
    """R, G and B in [0, 1] of what transparent pictures are laid on; None where the input has no alpha."""
    color = None if background is None else _parse_color(background)
    if not media.video.surface.pixel_format.has_alpha:
        return None
    if color is None:
        raise errors.InputFormatUnsupported(
            f"{media.path} has an alpha channel ({media.video.surface.pixel_format.name})",
            remedy="lay it on a colour with --background black, or white, or #rrggbb",
        )
    return color


def _parse_color(text: str) -> tuple[float, float, float]:
    code = BACKGROUNDS.get(text.lower(), text)
    if not re.fullmatch("#[0-9a-fA-F]{6}", code):
        raise errors.UsageError(
            f"there is no colour {text!r}", remedy=f"use --background {'|'.join(BACKGROUNDS)} or #rrggbb"
        )
    red, green, blue = bytes.fromhex(code[1:])
    return red / 255, green / 255, blue / 255
