"""Static HDR metadata as the messages of a bitstream, for encoders that are not told of it themselves."""

from __future__ import annotations

import re
import struct
from fractions import Fraction

from rave_trio.media.hdr import CHROMATICITY_STEPS, LUMINANCE_STEPS, HdrMetadata, MasteringDisplay

MASTERING_DISPLAY_SEI = 137
CONTENT_LIGHT_SEI = 144
"""Payload types of H.264 (Annex D) and H.265 (Annex D), which are the same."""

SEI_UNITS = {"h264": b"\x06", "hevc": b"\x4e\x01"}
"""Headers of the NAL units that carry them: H.264's type 6, H.265's prefix SEI, 39."""

START_CODE = b"\0\0\0\1"

CONTENT_LIGHT_OBU = 1
MASTERING_DISPLAY_OBU = 2
"""metadata_type of AV1, 6.7.1."""

METADATA_OBU = b"\x2a"
"""obu_type 5 with obu_has_size_field."""


def messages(codec: str, hdr: HdrMetadata) -> bytes:
    """What goes before the first picture of every key frame: SEI messages, in NAL units with start codes, or OBUs.

    Values are rounded to the steps of the bitstream.  AV1 has no way to say that part of a display is not known, and
    gets none of it then.
    """
    if codec == "av1":
        return _light_obu(hdr) + _display_obu(hdr.mastering)
    bodies = [(MASTERING_DISPLAY_SEI, _display_sei(hdr.mastering)), (CONTENT_LIGHT_SEI, _light(hdr))]
    return b"".join(_sei(codec, kind, body) for kind, body in bodies if body)


def _light(hdr: HdrMetadata) -> bytes:
    if hdr.light is None:
        return b""
    return struct.pack(">2H", *(min(level, 2**16 - 1) for level in (hdr.light.max_content, hdr.light.max_average)))


def _display_sei(display: MasteringDisplay | None) -> bytes:
    """In whole steps; what is not known is 0, which the standard reads so."""
    if display is None:
        return b""
    red, green, blue = display.primaries or (None, None, None)
    places = [value for place in (green, blue, red, display.white_point) for value in place or (None, None)]
    return struct.pack(
        ">8H2I",
        *(_steps(value, CHROMATICITY_STEPS, 16) for value in places),
        _steps(display.max_luminance, LUMINANCE_STEPS, 32),
        _steps(display.min_luminance, LUMINANCE_STEPS, 32),
    )


def _sei(codec: str, kind: int, body: bytes) -> bytes:
    raw = SEI_UNITS[codec] + bytes([kind, len(body)]) + body + b"\x80"
    return START_CODE + re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\0\0\3", raw)  # emulation prevention


def _light_obu(hdr: HdrMetadata) -> bytes:
    body = _light(hdr)
    return _obu(CONTENT_LIGHT_OBU, body) if body else b""


def _display_obu(display: MasteringDisplay | None) -> bytes:
    if display is None or display.primaries is None or display.white_point is None or display.max_luminance is None:
        return b""
    places = [value for place in (*display.primaries, display.white_point) for value in place]
    body = struct.pack(
        ">8H2I",
        *(_steps(value, 1 << 16, 16) for value in places),
        _steps(display.max_luminance, 1 << 8, 32),
        _steps(display.min_luminance, 1 << 14, 32),
    )
    return _obu(MASTERING_DISPLAY_OBU, body)


def _obu(kind: int, body: bytes) -> bytes:
    content = bytes([kind]) + body + b"\x80"  # trailing_bits
    return METADATA_OBU + bytes([len(content)]) + content  # both fit into one byte of leb128


def _steps(value: Fraction | None, scale: int, bits: int) -> int:
    steps: int = round((value or Fraction(0)) * scale)
    return min(steps, (1 << bits) - 1)
