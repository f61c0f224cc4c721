"""What travels: descriptors, pictures and the envelope that carries them.  No I/O, no codec, no device code.

A :class:`Frame` is owned by exactly one holder at a time.  Whoever drops one closes it; closing twice is harmless.
None of these types is locked: ownership is handed over, never shared.
"""

from __future__ import annotations

import enum
from fractions import Fraction
from typing import Any, Protocol

import attrs

UNSPECIFIED = 2
"""The H.273 code point that says nothing (matrix, primaries, transfer)."""


class ColorRange(enum.IntEnum):
    """Quantisation range of the samples (H.273 VideoFullRangeFlag, or silence)."""

    UNSPECIFIED = 0
    LIMITED = 1
    FULL = 2


class ChromaLocation(enum.IntEnum):
    """Where subsampled chroma samples lie among the luma samples: H.273 Chroma420SampleLocType plus one, or silence."""

    UNSPECIFIED = 0
    LEFT = 1
    CENTER = 2
    TOP_LEFT = 3
    TOP = 4
    BOTTOM_LEFT = 5
    BOTTOM = 6


@attrs.frozen
class ColorSpec:
    """How samples become colours: code points of ITU-T H.273, as tagged; 2 means untagged."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    range: ColorRange = ColorRange.UNSPECIFIED
    chroma_location: ChromaLocation = ChromaLocation.UNSPECIFIED


@attrs.frozen
class PixelFormat:
    """A video pixel format under its libav name, with the facts that decisions need."""

    name: str
    bit_depth: int
    chroma_shift_x: int = 0
    """log2 of the horizontal chroma subsampling: 1 for 4:2:0 and 4:2:2."""
    chroma_shift_y: int = 0
    """log2 of the vertical chroma subsampling: 1 for 4:2:0."""
    is_rgb: bool = False
    is_grey: bool = False
    has_alpha: bool = False


@attrs.frozen
class SurfaceDescriptor:
    """Size, format and colour of a surface.  Plane pitches belong to the surface itself."""

    width: int
    height: int
    pixel_format: PixelFormat
    color: ColorSpec = ColorSpec()
    sample_aspect_ratio: Fraction | None = None


class Closable(Protocol):
    """Something that gives back what it holds when closed, once."""

    def close(self) -> None: ...


@attrs.define(eq=False)
class Surface:
    """One picture in a video pixel format; ``native`` is the device's own object.

    On the CPU that is a libav frame, which needs no lease; on a GPU planes in leased memory.
    """

    descriptor: SurfaceDescriptor
    native: Any = attrs.field(repr=False)
    lease: Closable | None = attrs.field(default=None, repr=False)

    def close(self) -> None:
        lease, self.lease, self.native = self.lease, None, None
        if lease is not None:
            lease.close()


@attrs.define(eq=False)
class Tensor:
    """One picture in the model's layout: ``array`` is C x H x W, planar RGB (or grey), nominally in [0, 1].

    On the CPU it is a numpy array of float32, on a GPU a device's array of float32 or float16.  It lives in leased
    memory and must not be used after :meth:`close`.
    """

    array: Any = attrs.field(repr=False)
    lease: Closable | None = attrs.field(repr=False)

    def close(self) -> None:
        lease, self.lease, self.array = self.lease, None, None
        if lease is not None:
            lease.close()


@attrs.define(eq=False)
class Frame:
    """The envelope: one picture with its place in time.

    ``index`` counts output order from 0; ``pts`` and ``duration`` are in ``time_base`` seconds and are the input's own.
    ``captions`` is what the decoder found in the picture for the encoder to put in again, the codec library's own.
    """

    index: int
    pts: int
    duration: int
    time_base: Fraction
    key_frame: bool
    picture: Surface | Tensor | None
    captions: Any = attrs.field(default=None, repr=False)

    @property
    def surface(self) -> Surface:
        """The picture, which must be a surface."""
        if not isinstance(self.picture, Surface):
            raise TypeError(f"frame {self.index} does not hold a surface")
        return self.picture

    @property
    def tensor(self) -> Any:
        """The picture's samples, which must be a tensor: the array of :class:`Tensor`."""
        if not isinstance(self.picture, Tensor) or self.picture.array is None:
            raise TypeError(f"frame {self.index} does not hold a tensor")
        return self.picture.array

    def become(self, picture: Surface | Tensor) -> Frame:
        """Replace the picture, closing the old one; the same envelope goes on."""
        old, self.picture = self.picture, picture
        if old is not None and old is not picture:
            old.close()
        return self

    def close(self) -> None:
        """Give back whatever the frame holds.  Idempotent."""
        picture, self.picture, self.captions = self.picture, None, None
        if picture is not None:
            picture.close()
