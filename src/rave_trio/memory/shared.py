"""One loan with several holders."""

from __future__ import annotations

import threading
from typing import Protocol


class Closable(Protocol):
    def close(self) -> None: ...


class SharedLease:
    """One holder's part in a loan, which is closed when the last holder has closed its own part.

    Threads: each holder may be in another thread; one part is used by one thread at a time.
    """

    def __init__(self, lease: Closable) -> None:
        """The first holder's; ``lease`` is no longer the caller's."""
        self._loan: _Loan | None = _Loan(lease)

    @property
    def closed(self) -> bool:
        return self._loan is None

    def share(self) -> SharedLease:
        """Another holder's.  Raises ValueError once this one is closed."""
        if self._loan is None:
            raise ValueError("the lease is closed")
        other = SharedLease.__new__(SharedLease)
        other._loan = self._loan.enter()
        return other

    def close(self) -> None:
        """Give up this part.  Idempotent."""
        loan, self._loan = self._loan, None
        if loan is not None:
            loan.leave()


class _Loan:
    def __init__(self, lease: Closable) -> None:
        self._lease = lease
        self._lock = threading.Lock()
        self._holders = 1

    def enter(self) -> _Loan:
        with self._lock:
            self._holders += 1
        return self

    def leave(self) -> None:
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self._lease.close()
