"""When the first frame of a batch has waited long enough for others to fill it."""

from __future__ import annotations

import math

import trio.lowlevel


class Gathering:
    """Of the frames under way in a backend, those that wait there for a batch to be full.

    Made in the Trio thread, and asked by one thread at a time, of whichever.

    A backend starts a batch when it is full, or when one of its frames is collected: as many as are gathered are
    started too early only if they are all that is under way, so only then is there something to wait for.
    """

    def __init__(self, frames: int, patience: float) -> None:
        """``frames`` fill the backend's batches; the first may wait ``patience`` seconds."""
        self._frames = frames
        self._patience = patience if frames > 1 else 0.0
        self._gathered = 0
        self._clock = trio.lowlevel.current_clock()
        self.deadline = -math.inf
        """By ``trio.current_time``, for the frames that are gathered now."""

    def submitted(self) -> None:
        """The backend has taken one more frame."""
        if not self._gathered:
            self.deadline = self._clock.current_time() + self._patience
        self._gathered = (self._gathered + 1) % self._frames

    def collecting(self, under_way: int) -> None:
        """The oldest of so many frames is collected now, whatever waits with it."""
        if self._gathered >= under_way:
            self._gathered = 0

    def waits(self, under_way: int) -> bool:
        """Whether collecting one of so many frames now would start a batch before its time."""
        return self._patience > 0 and under_way <= self._gathered and self._clock.current_time() < self.deadline
