"""Leased host memory that others hold by reference: the loan is over when they have let go."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from rave_trio.memory.shared import Closable


class Loans:
    """Lends leases out as arrays.  A loan is over when the last array that shows some of it is gone.

    Threads: arrays may go on any thread, and in the midst of whatever it was doing there, a pool's work included.  So
    what comes back waits until :meth:`give_back`, by the one who lends.
    """

    def __init__(self) -> None:
        self._returned: SimpleQueue[Closable] = SimpleQueue()  # whose put may interrupt itself, unlike a pool's lock
        self._closed = False

    def array(self, lease: Closable, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The leased bytes ``raw`` as another array; ``lease`` is closed when it and all views of it are gone."""
        return np.asarray(_Loan(self, lease, raw))

    def give_back(self) -> None:
        """Close the leases whose arrays are gone."""
        while True:
            try:
                self._returned.get_nowait().close()
            except Empty:
                return

    def close(self) -> None:
        """The same, and what comes back later is closed at once; the pool must be as good as closed then."""
        self._closed = True
        self.give_back()

    def _over(self, lease: Closable) -> None:
        self._returned.put(lease)
        if self._closed:
            self.give_back()


class _Loan:
    """What the arrays are based on."""

    def __init__(self, loans: Loans, lease: Closable, raw: npt.NDArray[np.uint8]) -> None:
        self.__array_interface__: dict[str, Any] = raw.__array_interface__
        self._raw = raw
        self._lease = lease
        self._loans = loans

    def __del__(self) -> None:
        self._loans._over(self._lease)
