"""The account of every byte that the engine holds, by owner."""

from __future__ import annotations

import threading
from collections import Counter

import attrs


@attrs.frozen
class LedgerStats:
    """A moment's account, in bytes."""

    current: int
    peak: int
    by_owner: dict[str, int]


class Entry:
    """A line in the ledger: it counts from its creation until :meth:`close`, which may be called again at no cost."""

    def __init__(self, ledger: Ledger, owner: str, nbytes: int) -> None:
        self.owner = owner
        self.nbytes = nbytes
        self._ledger: Ledger | None = ledger
        ledger._add(owner, nbytes)

    def close(self) -> None:
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger._add(self.owner, -self.nbytes)


class Ledger:
    """Counts bytes by owner.  Thread-safe.  Only :class:`Entry` objects change it: there is no manual decrement."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: Counter[str] = Counter()
        self._current = 0
        self._peak = 0

    def enter(self, owner: str, nbytes: int) -> Entry:
        """Account ``nbytes`` to ``owner`` for as long as the entry is open."""
        return Entry(self, owner, nbytes)

    def stats(self) -> LedgerStats:
        with self._lock:
            return LedgerStats(self._current, self._peak, {o: n for o, n in self._owners.items() if n})

    def _add(self, owner: str, nbytes: int) -> None:
        with self._lock:
            self._owners[owner] += nbytes
            self._current += nbytes
            self._peak = max(self._peak, self._current)
