"""Stopping: gently once, at once the second time, and the same for a cancelled surrounding scope.

Note: how a cancelled scope becomes a gentle stop
    The work runs inside a shielded scope, so the cancellation outside does not tear it down.  A watcher task outside
    the shield does feel it; it asks for the stop and gives the shielded scope a deadline.  The work then drains and
    flushes, and when it has returned, the cancellation that waited outside goes on its way.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
import trio.lowlevel

from rave_trio.pipeline.tasks import alongside

T = TypeVar("T")

GRACE = 60.0
"""Seconds without a finished frame after which a gentle stop becomes a hard one."""


class Stop:
    """A request to end a run before its input does.  Use from the Trio thread; one object serves one run.

    ``grace`` is how many seconds may pass without a finished frame before a gentle stop becomes a hard one.

    >>> import rave_trio
    >>> stop = rave_trio.Stop()
    >>> stop.request()
    >>> try:
    ...     await rave_trio.upscale("in.mkv", "out.mkv", stop=stop)
    ... except rave_trio.Stopped as stopped:
    ...     print(stopped.kind, stopped.exit_code)
    stopped 130
    """

    def __init__(self, grace: float = GRACE) -> None:
        self.grace = grace
        self._requests = 0
        self._cancelled = False
        """Whether a cancellation is about to become a request."""
        self._scope = trio.CancelScope(shield=True)

    @property
    def requested(self) -> bool:
        """Whether reading should end.  From any thread."""
        return self._cancelled or self._requests > 0

    def request(self) -> None:
        """Ask to stop: the first call drains what is in flight, within the grace period, the second ends at once."""
        self._requests += 1
        if self._requests == 1:
            self.progressed()
        else:
            self._scope.cancel()

    def progressed(self) -> None:
        """A frame is done: the grace period begins anew, however long a frame takes on this machine."""
        if self.requested:
            self._scope.deadline = trio.current_time() + self.grace

    def drained(self) -> None:
        """All frames in flight are done: only a second request ends what remains, flushing and publishing."""
        self.grace = self._scope.deadline = math.inf


async def run_stoppable(work: Callable[[], Awaitable[T]], stop: Stop) -> T | None:
    """Run ``work`` so that cancelling the surrounding scope requests ``stop`` first and only then, in time, cancels.

    Returns what ``work`` returns, or None if it was ended at once.  A cancellation from outside is raised after
    ``work`` has ended.  Errors of ``work`` pass through unwrapped.
    """
    ended = False

    async def shielded() -> T | None:
        nonlocal ended
        result: T | None = None
        try:
            with stop._scope:
                result = await work()
        finally:
            ended = True
        return result

    def cancelled(_: object) -> trio.lowlevel.Abort:
        # Before the code that has cancelled goes on: a thread that reads must not begin with another frame.
        stop._cancelled = not ended
        return trio.lowlevel.Abort.SUCCEEDED

    async def watch() -> None:
        try:
            await trio.lowlevel.wait_task_rescheduled(cancelled)
        finally:
            if not ended:
                stop.request()

    return await alongside(shielded, watch)
