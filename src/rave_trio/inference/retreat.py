"""Out of memory: one picture at a time, smaller tiles, and the same frames again."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from rave_trio.errors import OutOfMemory
from rave_trio.frames import Frame, Surface, Tensor

log = logging.getLogger("rave_trio.inference")


class Backend(Protocol):
    """What is inside: the pipeline's protocol of that name.  A frame that cannot be submitted stays the caller's."""

    @property
    def depth(self) -> int: ...

    def submit(self, frame: Frame) -> None: ...

    def collect(self) -> Frame: ...

    def close(self) -> None: ...


class RetreatingBackend:
    """A backend that makes way for a smaller one when memory runs out, without losing a frame.

    ``make(step)`` builds the backend of that step, 0 being the first and largest, or gives None where there is none
    smaller; any MemoryError counts.  The frames under way stay with this object until their results are there: the
    backend inside is lent their pictures.  One caller at a time, from any thread.
    """

    def __init__(self, make: Callable[[int], Backend | None]) -> None:
        self._make = make
        self._under_way: deque[Frame] = deque()
        self.retreats = 0
        """How many times a smaller backend was made."""
        try:
            first = make(0)
        except MemoryError as error:
            first = self._smaller(error)
        assert first is not None
        self._inner: Backend = first

    @property
    def depth(self) -> int:
        """Frames that may be under way at once."""
        return self._inner.depth

    def submit(self, frame: Frame) -> None:
        """Start on one frame.  Raises OutOfMemory if even the smallest backend cannot; the frame stays the caller's."""
        self._under_way.append(frame)
        try:
            try:
                self._inner.submit(_lent(frame))
            except MemoryError as error:
                self._retreat(error)
        except BaseException:
            self._under_way.pop()
            raise

    def collect(self) -> Frame:
        """The oldest frame under way, with its result.

        Raises OutOfMemory if even the smallest backend cannot, and what the backend raises: the frame is closed then.
        """
        while True:
            try:
                done = self._inner.collect()
                break
            except MemoryError as error:
                self._retreat(error)
            except BaseException:
                self._under_way.popleft().close()
                raise
        frame = self._under_way.popleft()
        result, done.picture = done.picture, None
        assert result is not None
        return frame.become(result)

    def close(self) -> None:
        """Drop every frame under way.  Idempotent."""
        self._inner.close()
        while self._under_way:
            self._under_way.popleft().close()

    def _retreat(self, error: MemoryError) -> None:
        """Make the next smaller backend in which all frames under way find room, and start on them again."""
        self._inner.close()
        while True:
            self._inner = smaller = self._smaller(error)
            try:
                for frame in self._under_way:
                    smaller.submit(_lent(frame))
            except MemoryError as again:
                smaller.close()
                error = again
                continue
            log.warning("memory ran out (%s): going on with less", error)
            return

    def _smaller(self, error: MemoryError) -> Backend:
        """The next smaller backend that can be made.  Raises OutOfMemory if there is none."""
        while True:
            try:
                smaller = self._make(self.retreats + 1)
            except MemoryError as again:
                self.retreats, error = self.retreats + 1, again
                continue
            if smaller is None:
                raise OutOfMemory(f"there is not enough memory even for the smallest tiles: {error}") from error
            self.retreats += 1
            return smaller


def _lent(frame: Frame) -> Frame:
    """The frame for somebody who may close it without consequences."""
    picture: Surface | Tensor
    if isinstance(frame.picture, Surface):
        picture = Surface(frame.picture.descriptor, frame.picture.native, lease=None)
    else:
        picture = Tensor(frame.tensor, lease=None)
    return Frame(frame.index, frame.pts, frame.duration, frame.time_base, frame.key_frame, picture)
