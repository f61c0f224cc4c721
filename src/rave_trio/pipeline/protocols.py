"""What the pipeline asks of its stages.  All methods block and are short; none knows about tasks or channels.

The pipeline calls each object from one worker thread at a time, not always the same one.
"""

from __future__ import annotations

from typing import Protocol

from rave_trio.frames import Frame


class Decoder(Protocol):
    """Where frames come from."""

    def read(self) -> Frame | None:
        """The next frame in presentation order, numbered from 0, now the caller's; None after the last."""


class Converter(Protocol):
    """Changes what a frame holds: surface to tensor or tensor to surface."""

    def convert(self, frame: Frame) -> Frame:
        """The same frame, converted.  If it raises, the frame stays the caller's."""


class Unchanged:
    """The converter where there is nothing to convert, since the backend reads or makes surfaces itself.

    In front of the backend frames go past it without a thread: the pipeline calls no method of it.
    """

    def convert(self, frame: Frame) -> Frame:
        """The frame as it is."""
        return frame


class Backend(Protocol):
    """Runs the model.  Frames come back in the order in which they were given."""

    @property
    def depth(self) -> int:
        """How many frames may be under way between :meth:`submit` and :meth:`collect`; at least 1."""

    def submit(self, frame: Frame) -> None:
        """Start on a frame, which is the backend's from the moment this returns."""

    def collect(self) -> Frame:
        """Wait for the oldest frame under way and hand it back with its larger picture."""

    def close(self) -> None:
        """Drop everything under way.  Idempotent."""


class Encoder(Protocol):
    """Where frames go."""

    def write(self, frame: Frame) -> None:
        """Take one frame in; the frame stays the caller's to close."""

    def finish(self) -> object:
        """Flush and make the result whole."""
