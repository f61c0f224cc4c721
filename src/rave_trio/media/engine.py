"""What turns packets into pictures, as the decoder sees it: an engine that knows nothing of time, holes or findings."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Protocol

import attrs
from av.packet import Packet

from rave_trio.frames import Closable, Surface, SurfaceDescriptor


class CannotDecode(Exception):
    """A packet gave no picture, or not all of it; the next one may.  ``str(error)`` is the cause in a few words."""


class Shareable(Closable, Protocol):
    """A loan with several holders; the memory goes back when the last one has closed its own."""

    def share(self) -> Shareable:
        """Another holder's."""


@attrs.define(eq=False)
class Picture:
    """One decoded picture.  Times are the container's, in the stream's time base.

    Whoever has one closes it; the surfaces made of it are closed on their own.
    """

    pts: int | None
    dts: int | None
    duration: int | None
    key_frame: bool
    surface: SurfaceDescriptor
    native: Any = attrs.field(repr=False)
    """What a surface's ``native`` is to be."""
    lease: Shareable | None = attrs.field(default=None, repr=False)
    damaged: bool = False
    interlaced: bool = False
    aspect: Fraction | None = None
    """The bit stream's sample aspect ratio; None if the engine does not know.  The container's may differ."""
    captions: Any = attrs.field(default=None, repr=False)
    """As in :class:`~rave_trio.frames.Frame`."""
    captions_lost: bool = False
    """Whether there are closed captions that the engine cannot get at."""

    def shown(self, descriptor: SurfaceDescriptor) -> Surface:
        """A surface of it, which may be made more than once and outlives it."""
        return Surface(descriptor, self.native, None if self.lease is None else self.lease.share())

    def close(self) -> None:
        """Give up this holder's share of the memory.  Idempotent."""
        lease, self.lease, self.native, self.captions = self.lease, None, None, None
        if lease is not None:
            lease.close()


class Engine(Protocol):
    """Decodes one stream.  Not thread-safe; blocks; any thread may call as long as only one does at a time."""

    def decode(self, packet: Packet[Any]) -> Iterator[Picture]:
        """The pictures that come with the stream's next packet, in presentation order; the last packet is empty.

        They are made one by one, and all must have been taken before the next call.  The packet is used up.  Raises
        CannotDecode, while they are taken, where something is lost, and DecodeError where nothing can follow.
        """

    def close(self) -> None:
        """Release everything but the pictures that were given out.  Idempotent."""
