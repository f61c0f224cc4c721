"""Channels that carry ownership: a frame sent is given away, a frame that cannot arrive is closed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import trio
import trio.lowlevel

from rave_trio.frames import Frame
from rave_trio.pipeline.metrics import Observer, Soon


class FrameChannel:
    """A bounded channel between two stages, with one sending and one receiving task.

    Trio thread, but for :meth:`offer` and :meth:`take`: with these the worker thread that a stage's call runs on goes
    on to the next frame without the way through the Trio thread, as long as there is one, or room for one.
    """

    def __init__(self, name: str, capacity: int, observer: Observer | None = None) -> None:
        self.name = name
        self.capacity = capacity
        self.sent = 0
        self.received = 0
        self.peak = 0
        self._observer = observer
        self._frames: deque[Frame] = deque()
        """Those that wait, and behind them that of a sender who waits for room."""
        self._finished_sending = self._finished_receiving = False
        self._lock = threading.Lock()
        self._awaited = False
        """Whether a task has looked for a frame, or for room, in vain, and parks."""
        self._parked = trio.lowlevel.ParkingLot()

    @property
    def depth(self) -> int:
        """Frames waiting now.  From any thread."""
        return min(len(self._frames), self.capacity)

    async def send(self, frame: Frame) -> None:
        """Give ``frame`` away, waiting while the channel is full.  Closes it if it cannot be delivered."""
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            with self._lock:
                if self._finished_sending:
                    raise trio.ClosedResourceError
                if self._finished_receiving:
                    raise trio.BrokenResourceError
                depth = self._append(frame)
        except BaseException:
            frame.close()
            raise
        self._tell(depth)
        self._parked.unpark_all()
        try:
            await self._until(lambda: len(self._frames) <= self.capacity)
        except BaseException:
            if self._withdrawn(frame):
                frame.close()
            raise
        self.sent += 1

    async def receive(self) -> Frame | None:
        """The next frame, now the caller's; None when the sender has finished and nothing is left."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._until(lambda: bool(self._frames) or self._finished_sending)
        with self._lock:
            frame = self._pop()
            depth = self.depth
        self._tell(depth)
        self._parked.unpark_all()
        return frame

    def offer(self, frame: Frame, soon: Soon) -> bool:
        """Give ``frame`` away if there is room for it, and say whether there was.  The sender's worker thread."""
        with self._lock:
            if self._finished_receiving or len(self._frames) >= self.capacity:
                return False
            depth = self._append(frame)
            self.sent += 1
            awaited, self._awaited = self._awaited, False
        self._tell_soon(depth, awaited, soon)
        return True

    def take(self, soon: Soon) -> Frame | None:
        """The next frame if one waits, now the caller's.  The receiver's worker thread."""
        with self._lock:
            frame = self._pop()
            if frame is None:
                return None
            depth = self.depth
            awaited, self._awaited = self._awaited, False
        self._tell_soon(depth, awaited, soon)
        return frame

    def finish_sending(self) -> None:
        """No more frames will come.  Idempotent."""
        self._finished_sending = True
        self._parked.unpark_all()

    def finish_receiving(self) -> None:
        """No more frames will be taken; those that wait are closed.  Idempotent."""
        with self._lock:
            self._finished_receiving = True
            left, self._frames = self._frames, deque()
        for frame in left:
            frame.close()
        self._parked.unpark_all()

    async def _until(self, ready: Callable[[], bool]) -> None:
        while True:
            with self._lock:
                if ready():
                    return
                self._awaited = True
            await self._parked.park()

    def _append(self, frame: Frame) -> int:
        self._frames.append(frame)
        self.peak = max(self.peak, self.depth)
        return self.depth

    def _pop(self) -> Frame | None:
        if not self._frames:
            return None
        self.received += 1
        return self._frames.popleft()

    def _withdrawn(self, frame: Frame) -> bool:
        """Take back what was not received; whether it was not."""
        with self._lock:
            if frame in self._frames:
                self._frames.remove(frame)
                return True
            self.sent += 1
            return False

    def _tell(self, depth: int) -> None:
        if self._observer is not None:
            self._observer.depth(self.name, depth)

    def _tell_soon(self, depth: int, awaited: bool, soon: Soon) -> None:
        if self._observer is not None:
            soon(self._tell, depth)
        if awaited:
            soon(self._parked.unpark_all)
