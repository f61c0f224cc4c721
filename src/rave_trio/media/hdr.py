"""Static HDR metadata as a value: what display a picture was graded on, and how bright it gets."""

from __future__ import annotations

import struct
from fractions import Fraction

import attrs
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from rave_trio.media.picture import side_data

Chromaticity = tuple[Fraction, Fraction]
"""CIE 1931 x and y."""

MASTERING_DISPLAY = struct.Struct("=20i2i")
"""libav's AVMasteringDisplayMetadata: as rationals red, green, blue and white x and y, least and greatest luminance;
then whether the colours, and whether the luminances, are known."""

CONTENT_LIGHT = struct.Struct("=2I")
"""libav's AVContentLightMetadata: MaxCLL, MaxFALL."""

CHROMATICITY_STEPS = 50000
"""Code values for 1 in the mastering display SEI message of H.264 and H.265 (clause D.3 of H.265, units of 0.00002)."""

LUMINANCE_STEPS = 10000
"""Code values for 1 cd/m2 in the same message."""


@attrs.frozen
class MasteringDisplay:
    """The display of SMPTE ST 2086; what is not known is None.  Luminances are in cd/m2."""

    primaries: tuple[Chromaticity, Chromaticity, Chromaticity] | None = None
    """Red, green and blue."""
    white_point: Chromaticity | None = None
    min_luminance: Fraction | None = None
    max_luminance: Fraction | None = None


@attrs.frozen
class ContentLight:
    """The light levels of CTA-861.3 in cd/m2: of the brightest pixel, and of the brightest frame on average."""

    max_content: int
    max_average: int


@attrs.frozen
class HdrMetadata:
    """What a stream says about its dynamic range; at least one of the two."""

    mastering: MasteringDisplay | None = None
    light: ContentLight | None = None


def read(frame: VideoFrame) -> HdrMetadata | None:
    """The metadata that came with a decoded frame, from its bitstream or its container; None if there is none.

    H.264 has it with key frames only.  Light levels of 0 and a greatest luminance of 0 mean unknown.
    """
    display, levels = side_data(frame, Type.MASTERING_DISPLAY_METADATA), side_data(frame, Type.CONTENT_LIGHT_LEVEL)
    mastering = _mastering_display(display) if display else None
    light = _content_light(levels) if levels else None
    return HdrMetadata(mastering, light) if mastering or light else None


def encoder_params(encoder: str, hdr: HdrMetadata) -> dict[str, str]:
    """The libav options that make ``encoder`` write ``hdr``, to be joined with others of that name by a colon.

    Empty for encoders that cannot write it.  Values are rounded to the steps of the bitstream.
    """
    match encoder:
        case "libx265":
            return _options("x265-params", ("master-display", _sei_display(hdr)), ("max-cll", _light(hdr)))
        case "libx264":
            return _options("x264-params", ("mastering-display", _sei_display(hdr)), ("cll", _light(hdr)))
        case "libsvtav1":
            return _options("svtav1-params", ("mastering-display", _obu_display(hdr)), ("content-light", _light(hdr)))
    return {}


def is_held_by(encoder: str, hdr: HdrMetadata) -> bool:
    """Whether what ``encoder`` makes can hold ``hdr``, or some of it."""
    if encoder.endswith("_nvenc"):  # written into the bitstream behind it, see rave_trio.media.hdr_messages
        return encoder != "av1_nvenc" or hdr.light is not None or _obu_display(hdr) is not None
    return bool(encoder_params(encoder, hdr))


def _mastering_display(raw: bytes) -> MasteringDisplay | None:
    *numbers, colours_known, _ = MASTERING_DISPLAY.unpack_from(raw)
    values = [Fraction(n, d) if d else Fraction(0) for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
    red, green, blue, white = zip(values[:8:2], values[1:8:2], strict=True)
    least, greatest = values[8:]
    found = MasteringDisplay(
        primaries=(red, green, blue) if colours_known else None,
        white_point=white if colours_known else None,
        # libav's own flag is off for a least luminance of 0 too, which would forget the greatest.
        min_luminance=least if greatest > 0 else None,
        max_luminance=greatest if greatest > 0 else None,
    )
    return None if found == MasteringDisplay() else found


def _content_light(raw: bytes) -> ContentLight | None:
    found = ContentLight(*CONTENT_LIGHT.unpack_from(raw))
    return None if found == ContentLight(0, 0) else found


def _options(name: str, *params: tuple[str, str | None]) -> dict[str, str]:
    text = ":".join(f"{key}={value}" for key, value in params if value is not None)
    return {name: text} if text else {}


def _light(hdr: HdrMetadata) -> str | None:
    return None if hdr.light is None else f"{hdr.light.max_content},{hdr.light.max_average}"


def _sei_display(hdr: HdrMetadata) -> str | None:
    """In whole steps; what is not known is 0, which the standard reads so."""
    if hdr.mastering is None:
        return None

    def steps(value: Fraction | None, scale: int, bits: int) -> str:
        return str(min(round((value or 0) * scale), 2**bits - 1))

    def point(place: Chromaticity | None) -> str:
        return ",".join(steps(value, CHROMATICITY_STEPS, 16) for value in place or (None, None))

    def luminance(value: Fraction | None) -> str:
        return steps(value, LUMINANCE_STEPS, 32)

    red, green, blue = hdr.mastering.primaries or (None, None, None)
    return (
        f"G({point(green)})B({point(blue)})R({point(red)})WP({point(hdr.mastering.white_point)})"
        f"L({luminance(hdr.mastering.max_luminance)},{luminance(hdr.mastering.min_luminance)})"
    )


def _obu_display(hdr: HdrMetadata) -> str | None:
    """In plain numbers.  AV1 has no way to say that part of it is not known."""
    display = hdr.mastering
    if display is None or None in (display.primaries, display.white_point, display.max_luminance):
        return None
    assert display.primaries is not None
    assert display.white_point is not None
    (red, green, blue), white = display.primaries, display.white_point

    def plain(*values: Fraction | None) -> str:
        return ",".join(f"{float(value or 0):.6f}" for value in values)

    return (
        f"G({plain(*green)})B({plain(*blue)})R({plain(*red)})WP({plain(*white)})"
        f"L({plain(display.max_luminance, display.min_luminance)})"
    )
