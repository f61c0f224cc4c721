"""What the stages have in common: calls on a worker thread that go on from frame to frame, and frames in and out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import trio

from rave_trio.errors import FrameCountMismatch, Stalled, located
from rave_trio.frames import Frame
from rave_trio.memory import Interrupted
from rave_trio.pipeline.channels import FrameChannel
from rave_trio.pipeline.metrics import BUSY, WAITING_FOR_INPUT, WAITING_FOR_OUTPUT, Observer, StageMeter
from rave_trio.pipeline.protocols import Converter
from rave_trio.pipeline.stalls import Call, Watch

T = TypeVar("T")


@contextmanager
def closed_on_error(frame: Frame) -> Iterator[None]:
    """Around what takes a frame unless it fails."""
    try:
        yield
    except BaseException:
        frame.close()
        raise


class Stage:
    """One stage's task state: its meter, its limiter, and the frame it works on.

    Trio thread, but for what is said to be done in a call: on the worker thread, while the task waits for it.
    """

    def __init__(self, name: str, watch: Watch, stall_timeout: float, observer: Observer | None) -> None:
        self.name = name
        self.meter = StageMeter(name, observer)
        self.limiter = trio.CapacityLimiter(1)
        self.abandoned = False
        """Whether a call was left behind; what it uses must not be touched any more."""
        self._watch = watch
        self._stall_timeout = stall_timeout
        self._call: Call | None = None
        """The one under way."""
        self._token: trio.lowlevel.TrioToken | None = None

    @property
    def frame(self) -> int | None:
        """The frame that it works on."""
        return self.meter.frame

    @frame.setter
    def frame(self, index: int | None) -> None:
        self.meter.frame = index

    def located(self) -> AbstractContextManager[None]:
        """Give an error inside its stage and frame; one that nobody planned for becomes a StageCrashed."""
        return located(self.name, lambda: self.frame)

    async def work(self, call: Callable[[], T]) -> T:
        """Run a blocking call on a worker thread, timed.

        The call's result always arrives, even if the task is cancelled meanwhile: no frame is lost on the way back.
        Only a call that does not return in time is left behind, and ends the run.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        with self.meter.time(BUSY), trio.CancelScope(shield=True) as scope:
            self._call = watched = self._watch.begin(scope)
            self._token = trio.lowlevel.current_trio_token()

            def known() -> T:
                watched.thread = threading.get_ident()
                return call()

            try:
                return await trio.to_thread.run_sync(known, limiter=self.limiter, abandon_on_cancel=True)
            except Interrupted:  # it waited for memory when the run was cancelled
                scope.shield = False
                await trio.lowlevel.checkpoint_if_cancelled()
                raise
            finally:
                self._watch.end(watched)
        self.abandoned = True
        place = "" if self.frame is None else f" on frame {self.frame}"
        raise Stalled(f"{self.name} did not return within {self._stall_timeout:g} s{place}; its thread was left behind")

    async def work_on(self, frame: Frame, call: Callable[[Frame], T]) -> T:
        """Work on a frame of ours, which is the call's once that begins; close it if it never does."""
        begun = False

        def begin() -> T:
            nonlocal begun
            begun = True
            return call(frame)

        try:
            return await self.work(begin)
        except BaseException:
            if not begun and not self.abandoned:
                frame.close()
            raise

    def soon(self, call: Callable[..., object], *args: object) -> None:
        """In a call: have something called in the Trio thread, before the task goes on."""
        assert self._token is not None
        self._token.run_sync_soon(call, *args)

    def again(self, frame: int) -> None:
        """In a call: go on with that frame as if with another call."""
        assert self._call is not None
        self.meter.lap(self.soon)
        self._call.extend()
        self.frame = frame

    @property
    def goes_on(self) -> bool:
        """In a call: whether it may begin with another frame."""
        assert self._call is not None
        return not (self._watch.ending or self._call.left_behind)

    def offer(self, frame: Frame, channel: FrameChannel) -> bool:
        """In a call: send a frame on if there is room, and say whether there was; if not, it stays ours."""
        if not (self.goes_on and channel.offer(frame, self.soon)):
            return False
        self.meter.frames_out += 1
        return True

    def following(self, channel: FrameChannel) -> Frame | None:
        """In a call: the frame that it goes on with, now ours; None where it is to end."""
        frame = channel.take(self.soon) if self.goes_on else None
        if frame is not None:
            self.again(frame.index)
            self.meter.frames_in += 1
        return frame

    async def take(self, channel: FrameChannel) -> Frame | None:
        """The next frame, now ours; None after the last."""
        with self.meter.time(WAITING_FOR_INPUT):
            frame = await channel.receive()
            if frame is not None:
                self.meter.frames_in += 1
                self.frame = frame.index
        return frame

    async def give(self, frame: Frame, channel: FrameChannel) -> None:
        """Send a frame on, which is ours no more however that ends."""
        with self.meter.time(WAITING_FOR_OUTPUT):
            await channel.send(frame)
        self.meter.frames_out += 1

    def expect(self, frame: Frame, index: int) -> Frame:
        """Pass on the frame that a codec, converter or backend has come up with, if it is the one whose turn it is."""
        if frame.index != index:
            frame.close()
            raise FrameCountMismatch(f"{self.name} came up with frame {frame.index} in place of frame {index}")
        return frame

    def convert(self, converter: Converter, frame: Frame) -> Frame:
        """Blocks.  If it raises, the frame stays the caller's."""
        index = frame.index
        return self.expect(converter.convert(frame), index)
