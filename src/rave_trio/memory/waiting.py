"""Where threads wait until memory is given back."""

from __future__ import annotations

import threading

from rave_trio.errors import OutOfMemory


class Interrupted(BaseException):
    """Raised in a thread that waits for memory when there is no point in waiting any more: the run is ending."""


class Waiting:
    """Where threads wait until memory is given back, and who does.  Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._over = False
        self._threads: set[int] = set()
        self._starved: set[int] = set()

    def ticket(self) -> int:
        """A number that is to be taken before looking for memory; :meth:`wait` then misses nothing that comes after."""
        with self._changed:
            return self._count

    def wait(self, ticket: int) -> None:
        """Block until :meth:`notify` has been called since the ticket was taken.

        Raises :class:`Interrupted` once :meth:`interrupt` has been called, and OutOfMemory for a thread that was told
        to :meth:`give_up`.
        """
        me = threading.get_ident()
        with self._changed:
            self._threads.add(me)
            try:
                self._changed.wait_for(lambda: self._over or me in self._starved or self._count != ticket)
                if self._over:
                    raise Interrupted
                if me in self._starved:
                    raise OutOfMemory(
                        "all that runs waits for memory and none is given back: the limit is too small for it"
                    )
            finally:
                self._threads.discard(me)
                self._starved.discard(me)

    def threads(self) -> frozenset[int]:
        """The identities of the threads that wait now."""
        with self._changed:
            return frozenset(self._threads)

    def notify(self) -> None:
        """Wake all who wait: there may be room now."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def give_up(self, thread: int) -> None:
        """End the waiting of one thread, if it still waits."""
        with self._changed:
            if thread in self._threads:
                self._starved.add(thread)
                self._changed.notify_all()

    def interrupt(self) -> None:
        """End all waiting, now and in the future."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
