"""Waiting for memory in the Trio way: what a worker thread waits for, a cancellation ends."""

from __future__ import annotations

import contextlib
import threading

import trio
import trio.from_thread
import trio.lowlevel


class TrioWaiting:
    """Lets worker threads of the run in which it is made wait for one another (see ``rave_trio.memory.Waiting``).

    :meth:`wait` is for threads started by ``trio.to_thread``; if the task that started one is cancelled, its wait
    raises ``trio.Cancelled``.
    """

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._parked = trio.lowlevel.ParkingLot()
        self._lock = threading.Lock()
        self._count = 0

    def ticket(self) -> int:
        with self._lock:
            return self._count

    def wait(self, ticket: int) -> None:
        trio.from_thread.run(self._park, ticket)

    def notify(self) -> None:
        with self._lock:
            self._count += 1
        with contextlib.suppress(trio.RunFinishedError):  # nobody waits any more
            self._token.run_sync_soon(self._parked.unpark_all, idempotent=True)

    async def _park(self, ticket: int) -> None:
        while self.ticket() == ticket:
            await self._parked.park()
