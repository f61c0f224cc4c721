"""Several backends side by side, each with a stream of its own: frames in turn, results in order."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence

from rave_trio.frames import Frame
from rave_trio.inference.retreat import Backend


class SideBySide:
    """Backends of one kind as one.  One caller at a time, from any thread."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        """The backends are this object's from now on."""
        self._backends = tuple(backends)
        self._turn = 0
        self._order: deque[Backend] = deque()

    @property
    def depth(self) -> int:
        """Frames that may be under way at once: all of them have one in common that is on its way."""
        return sum(backend.depth - 1 for backend in self._backends) + 1

    def submit(self, frame: Frame) -> None:
        """Start on one frame with the backend whose turn it is; if that raises, it stays its turn."""
        backend = self._backends[self._turn]
        backend.submit(frame)
        self._order.append(backend)
        self._turn = (self._turn + 1) % len(self._backends)

    def collect(self) -> Frame:
        """The oldest frame under way, with its result.  Raises what its backend raises."""
        return self._order.popleft().collect()

    def close(self) -> None:
        """Close all of them.  Idempotent."""
        self._order.clear()
        with contextlib.ExitStack() as closing:
            for backend in self._backends:
                closing.callback(backend.close)
