"""Calls that do not return: who looks for them, and what is done about them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
import trio.abc
import trio.lowlevel
from trio.lowlevel import enable_ki_protection

from rave_trio.memory import Waiting
from rave_trio.pipeline.tasks import bare

BEAT = 1.0
"""Seconds between two looks at the time; who comes so much later than wanted did not run meanwhile."""


@attrs.define(eq=False)
class Call:
    """A blocking call under way on a worker thread."""

    scope: trio.CancelScope
    """Cancelling it leaves the call behind."""
    patience: float
    """Seconds that it may take."""
    deadline: float = attrs.field(init=False)
    thread: int = -1
    """The worker thread's identity, once it has begun."""
    given_back: int = -1
    """How often memory had been given back when the call was last found waiting for some."""
    left_behind: bool = False
    """Whether nobody waits for it any more."""
    _clock: trio.abc.Clock = attrs.field(factory=trio.lowlevel.current_clock)

    @deadline.default
    def _first_deadline(self) -> float:
        return trio.current_time() + self.patience

    def extend(self) -> None:
        """Look again when as much time has gone by once more.  From any thread."""
        self.deadline = self._clock.current_time() + self.patience


class Watch:
    """Looks after the calls of one run.

    A call that is not back in time is left behind; where the process did not run meanwhile, as after Ctrl+Z, its time
    begins anew.  One that waits for memory is as slow as whoever has it: it goes on waiting, unless all calls do and
    nothing was given back for as long as a call may take; then it gets an OutOfMemory.
    """

    def __init__(self, waiting: Waiting, patience: float) -> None:
        """``patience`` is how many seconds a call may take."""
        self._waiting = waiting
        self._patience = patience
        self._calls: list[Call] = []
        self._scope = trio.CancelScope(shield=True)  # whatever else is cancelled, there may be calls still
        self._well = trio.CancelScope()
        self.ending = False
        """Whether the run is being torn down, so that no call begins with another frame.  From any thread."""

    @enable_ki_protection
    async def feel(self) -> None:
        """Beside the stages: until :meth:`done`, or until they are cancelled.

        Calls under way know of that at once, before the code that has cancelled goes on.
        """

        def cancelled(_: object) -> trio.lowlevel.Abort:
            if not self._well.cancel_called:
                self.ending = True
                self._waiting.interrupt()
            return trio.lowlevel.Abort.SUCCEEDED

        with self._well:
            await trio.lowlevel.wait_task_rescheduled(cancelled)

    def done(self) -> None:
        """All frames are through."""
        self._well.cancel()

    def begin(self, scope: trio.CancelScope) -> Call:
        """Watch a call that begins now, inside ``scope``."""
        call = Call(scope, self._patience)
        self._calls.append(call)
        return call

    def end(self, call: Call) -> None:
        """The call is back, or left behind."""
        self._calls.remove(call)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Around all calls."""
        with bare():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run)
                try:
                    yield
                finally:
                    self._scope.cancel()

    async def _run(self) -> None:
        with self._scope:
            while True:
                # A call that begins meanwhile has at least as much time as this sleeps.
                now = trio.current_time()
                until = min(now + BEAT, now + self._patience, *(call.deadline for call in self._calls))
                if await _slept_through(max(0, until - now)):
                    for call in self._calls:
                        call.extend()
                now = trio.current_time()
                for call in [call for call in self._calls if call.deadline <= now]:
                    self._look_at(call)

    def _look_at(self, call: Call) -> None:
        waiting, given_back = self._waiting.threads(), self._waiting.ticket()
        if call.thread not in waiting:
            call.left_behind = True
            call.scope.cancel()
        elif call.given_back == given_back and all(other.thread in waiting for other in self._calls):
            self._waiting.give_up(call.thread)
        else:
            call.given_back = given_back
        call.extend()


async def _slept_through(seconds: float) -> bool:
    """Sleep so long by Trio's clock; whether much more time has gone by in the world."""
    began = time.monotonic()
    await trio.sleep(seconds)
    return time.monotonic() - began > seconds + BEAT
