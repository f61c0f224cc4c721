"""Memory channels that carry ownership: a frame sent is given away, a frame that cannot arrive is closed."""

from __future__ import annotations

import trio

from rave_trio.frames import Frame
from rave_trio.pipeline.metrics import Observer


class FrameChannel:
    """A bounded channel between two stages, with one sending and one receiving task."""

    def __init__(self, name: str, capacity: int, observer: Observer | None = None) -> None:
        self.name = name
        self.capacity = capacity
        self.sent = 0
        self.received = 0
        self.peak = 0
        self._observer = observer
        self._send: trio.MemorySendChannel[Frame]
        self._receive: trio.MemoryReceiveChannel[Frame]
        self._send, self._receive = trio.open_memory_channel(capacity)

    @property
    def depth(self) -> int:
        """Frames waiting now."""
        return self._send.statistics().current_buffer_used

    async def send(self, frame: Frame) -> None:
        """Give ``frame`` away, waiting while the channel is full.  Closes it if it cannot be delivered."""
        try:
            await self._send.send(frame)
        except BaseException:
            frame.close()
            raise
        self.sent += 1
        self._note_peak()

    async def receive(self) -> Frame | None:
        """The next frame, now the caller's; None when the sender has finished and nothing is left."""
        self._note_peak()
        try:
            frame = await self._receive.receive()
        except trio.EndOfChannel:
            return None
        self.received += 1
        if self._observer is not None:
            self._observer.depth(self.name, self.depth)
        return frame

    def finish_sending(self) -> None:
        """No more frames will come.  Idempotent."""
        self._send.close()

    def finish_receiving(self) -> None:
        """No more frames will be taken; those that wait are closed.  Idempotent."""
        while True:
            try:
                self._receive.receive_nowait().close()
            except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
                break
        self._receive.close()

    def _note_peak(self) -> None:
        depth = self.depth
        self.peak = max(self.peak, depth)
        if self._observer is not None:
            self._observer.depth(self.name, depth)
