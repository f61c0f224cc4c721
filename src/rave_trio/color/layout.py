"""Where the samples of each libav pixel format lie, so that all of them can be read and written in place."""

from __future__ import annotations

import enum
import re
from functools import cache
from typing import Any

import attrs
import numpy as np
from av.video.format import VideoFormat

from rave_trio import errors


class Packing(enum.Enum):
    """How the samples of a row are stored."""

    WORDS = enum.auto()
    """Each in a word of its own, or in some bits of one."""
    PALETTE = enum.auto()
    """Bytes that count into the second plane's 256 colours."""
    BITS = enum.auto()
    """Eight pixels a byte, the leftmost in the highest bit."""
    INVERTED_BITS = enum.auto()
    """The same, where 0 is white."""


@attrs.frozen
class Component:
    """One component of every pixel: words of ``dtype`` in one plane, ``step`` bytes apart, the first at ``offset``."""

    plane: int
    dtype: np.dtype[Any]
    bits: int
    step: int
    offset: int = 0
    shift: int = 0
    """How many bits of the word lie below the sample's."""
    shared: bool = False
    """Whether other components are in the same word."""

    @property
    def is_float(self) -> bool:
        return self.dtype.kind == "f"


@attrs.frozen
class Layout:
    """The components of a format: R, G, B, or Y, Cb, Cr, or Y alone; and alpha."""

    name: str
    colours: tuple[Component, ...]
    alpha: Component | None = None
    packing: Packing = Packing.WORDS
    padded: bool = False
    """Whether there are bits or words that belong to no component."""

    @property
    def is_writable(self) -> bool:
        """Whether pictures can be written in this format too: not with a palette, bit by bit or in 32-bit integers."""
        return self.packing == Packing.WORDS and all(c.is_float or c.bits <= 16 for c in self.colours)


ORDERS = {
    "Y UV": "nv12 nv16 nv20 nv24 p010 p012 p016 p210 p212 p216 p410 p412 p416",
    "Y VU": "nv21 nv42",
    "YUYV": "yuyv422 y210 y212 y216",
    "UYVY": "uyvy422",
    "YVYU": "yvyu422",
    "VYU": "vyu444",
    "AYUV": "ayuv ayuv64",
    "VUYA": "vuya",
    "VUYX": "vuyx",
    "UYVA": "uyva",
    "UYVX": "xv36 xv48",
    "YA": "ya8 ya16 yaf16 yaf32",
    "RGB": "rgb24 rgb48 rgb96 rgbf16 rgbf32",
    "BGR": "bgr24 bgr48",
    "RGBA": "rgba rgba64 rgba128 rgbaf16 rgbaf32",
    "BGRA": "bgra bgra64",
    "ARGB": "argb",
    "ABGR": "abgr",
    "RGBX": "rgb0",
    "BGRX": "bgr0",
    "XRGB": "0rgb",
    "XBGR": "0bgr",
}
"""Formats whose planes repeat a pattern of whole words, one letter a word; names without the byte order."""

FIELDS = {
    "rgb565": "R5G6B5",
    "bgr565": "B5G6R5",
    "rgb555": "X1R5G5B5",
    "bgr555": "X1B5G5R5",
    "rgb444": "X4R4G4B4",
    "bgr444": "X4B4G4R4",
    "rgb8": "R3G3B2",
    "bgr8": "B2G3R3",
    "rgb4_byte": "X4R1G2B1",
    "bgr4_byte": "X4B1G2R1",
    "x2rgb10": "X2R10G10B10",
    "x2bgr10": "X2B10G10R10",
    "xv30": "X2V10Y10U10",
    "v30x": "V10Y10U10X2",
}
"""Formats with a pixel a word: its fields from the highest bit down, with their widths."""

HIGH_BITS = re.compile(r"p[024]1\d|y21\d|xv36|.*msb")
"""Formats whose samples fill their words from the highest bit down."""

FLOAT = re.compile(r".*f(16|32)")

BYTES, WORDS = np.dtype(np.uint8), np.dtype(np.uint32)


@cache
def layout_of(name: str) -> Layout:
    """The layout of the libav pixel format ``name``.

    Raises InputFormatUnsupported for what is not pictures in R, G, B or Y, Cb, Cr (Bayer, XYZ), lives on a device, or
    packs its samples in a way that only tests and museums know.
    """
    layout = _find(name)
    if layout is None:
        raise errors.InputFormatUnsupported(f"the pixel format {name} is not supported")
    return layout


def _find(name: str) -> Layout | None:
    try:
        native = VideoFormat(name, 64, 64)
    except ValueError:
        return None
    bare = re.sub("(le|be)$", "", name)
    if name == "pal8":
        red, green, blue, alpha = (Component(1, WORDS, 8, step=4, shift=shift) for shift in (16, 8, 0, 24))
        return Layout(name, (red, green, blue), alpha, Packing.PALETTE)
    if name in ("monow", "monob"):
        packing = Packing.INVERTED_BITS if name == "monow" else Packing.BITS
        return Layout(name, (Component(0, BYTES, 1, step=1),), packing=packing)
    order = ">" if native.is_big_endian else "<"
    bits = [component.bits for component in native.components]
    if bare in FIELDS:
        return _by_fields(name, FIELDS[bare], order)
    for pattern, names in ORDERS.items():
        if bare in names.split():
            return _by_order(name, pattern, bits[0], order)
    planes = [component.plane for component in native.components]
    if bits and len(set(planes)) == len(bits) and not native.is_bit_stream and not bare.startswith("bayer"):
        dtype = _dtype(bare, bits[0], order)
        parts = [
            Component(plane, dtype, depth, dtype.itemsize, shift=_shift(bare, dtype, depth))
            for plane, depth in zip(planes, bits, strict=True)
        ]
        has_alpha = len(parts) in (2, 4)
        return Layout(name, tuple(parts[:-1] if has_alpha else parts), parts[-1] if has_alpha else None)
    return None


def _by_order(name: str, pattern: str, bits: int, order: str) -> Layout:
    bare = re.sub("(le|be)$", "", name)
    dtype = _dtype(bare, bits, order)
    found = {}
    for plane, letters in enumerate(pattern.split()):
        for letter in set(letters) - {"X"}:
            found[letter] = Component(
                plane,
                dtype,
                bits,
                step=dtype.itemsize * len(letters) // letters.count(letter),
                offset=dtype.itemsize * letters.index(letter),
                shift=_shift(bare, dtype, bits),
            )
    return _collect(name, found, padded="X" in pattern)


def _by_fields(name: str, fields: str, order: str) -> Layout:
    widths = [(letter, int(width)) for letter, width in re.findall(r"([A-Z])(\d+)", fields)]
    shift = sum(width for _, width in widths)
    dtype = np.dtype(f"{order}u{shift // 8}")
    found = {}
    for letter, width in widths:
        shift -= width
        if letter != "X":
            found[letter] = Component(0, dtype, width, dtype.itemsize, shift=shift, shared=True)
    return _collect(name, found, padded=True)


def _collect(name: str, found: dict[str, Component], padded: bool) -> Layout:
    letters = "RGB" if "R" in found else "YUV" if "U" in found else "Y"
    return Layout(name, tuple(found[letter] for letter in letters), found.get("A"), padded=padded)


def _dtype(bare: str, bits: int, order: str) -> np.dtype[Any]:
    kind = "f" if FLOAT.fullmatch(bare) else "u"
    size = 1 if bits <= 8 else 2 if bits <= 16 else 4
    return np.dtype(f"{order}{kind}{size}")


def _shift(bare: str, dtype: np.dtype[Any], bits: int) -> int:
    return 8 * dtype.itemsize - bits if HIGH_BITS.fullmatch(bare) else 0
