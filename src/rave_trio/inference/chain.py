"""Several backends in a row as one: what comes out of one goes into the next."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence

from rave_trio.frames import Frame
from rave_trio.inference.retreat import Backend


class ChainedBackend:
    """Frames through ``stages`` one after the other, in order; several frames may be under way in each.

    A frame that fails on its way takes its place in the order all the same: :meth:`collect` raises its error in its
    turn, and no other frame is touched.  One caller at a time, from any thread; the stages are this object's.
    """

    def __init__(self, stages: Sequence[Backend]) -> None:
        self._stages = tuple(stages)
        self._under_way: tuple[deque[Exception | None], ...] = tuple(deque() for _ in stages)
        """For each stage the frames that are in it, oldest first, or what they failed with before they came there."""

    @property
    def depth(self) -> int:
        """Frames that may be under way at once: all that the stages may have."""
        return sum(stage.depth for stage in self._stages)

    def submit(self, frame: Frame) -> None:
        """Start on one frame, once the first stage has room.  If it raises, the frame stays the caller's."""
        self._make_room(0)
        self._stages[0].submit(frame)
        self._under_way[0].append(None)

    def collect(self) -> Frame:
        """The oldest frame under way, out of the last stage.  Raises what it failed with; it is closed then."""
        last = len(self._stages) - 1
        oldest = max(number for number, frames in enumerate(self._under_way) if frames)
        for number in range(oldest, last):
            self._move(number)
        failure = self._under_way[last].popleft()
        if failure is not None:
            raise failure
        return self._stages[last].collect()

    def close(self) -> None:
        """Drop every frame under way and close all stages, the last first; the first error is raised.  Idempotent."""
        with contextlib.ExitStack() as closing:
            for stage, frames in zip(self._stages, self._under_way, strict=True):
                frames.clear()
                closing.callback(stage.close)

    def _make_room(self, number: int) -> None:
        """Have stage ``number`` hold fewer frames than its depth."""
        if number == len(self._stages) - 1 or len(self._under_way[number]) < self._stages[number].depth:
            return
        self._make_room(number + 1)
        self._move(number)

    def _move(self, number: int) -> None:
        """The oldest frame of a stage into the next."""
        failure = self._under_way[number].popleft()
        if failure is None:
            failure = self._handed_on(number)
        self._under_way[number + 1].append(failure)

    def _handed_on(self, number: int) -> Exception | None:
        try:
            frame = self._stages[number].collect()
        except Exception as error:
            return error
        try:
            self._stages[number + 1].submit(frame)
        except Exception as error:
            frame.close()
            return error
        except BaseException:
            frame.close()
            raise
        return None
