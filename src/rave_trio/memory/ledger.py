"""The account of every byte that the engine holds on one device, by owner."""

from __future__ import annotations

import threading
from collections import Counter

import attrs


@attrs.frozen
class LedgerStats:
    """A moment's account, in bytes.  ``limit`` is None where nothing bounds the account."""

    current: int
    peak: int
    by_owner: dict[str, int]
    limit: int | None = None


class Entry:
    """A line in the ledger: it counts from its creation until :meth:`close`, which may be called again at no cost."""

    def __init__(self, ledger: Ledger, owner: str, nbytes: int) -> None:
        """Only a ledger makes entries: see :meth:`Ledger.enter`."""
        self.owner = owner
        self.nbytes = nbytes
        self._ledger: Ledger | None = ledger

    def close(self) -> None:
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger._leave(self)


class Ledger:
    """Counts bytes by owner, up to a limit.  Thread-safe.

    Only opening and closing an :class:`Entry` changes it: there is no manual decrement.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._owners: Counter[str] = Counter()
        self._current = 0
        self._peak = 0

    def enter(self, owner: str, nbytes: int) -> Entry:
        """Account ``nbytes`` to ``owner`` for as long as the entry is open, whatever the limit: they are there."""
        entry = self._add(owner, nbytes, limit=None)
        assert entry is not None
        return entry

    def try_enter(self, owner: str, nbytes: int) -> Entry | None:
        """The same if the limit allows it, else None."""
        return self._add(owner, nbytes, self.limit)

    def stats(self) -> LedgerStats:
        with self._lock:
            owners = {owner: nbytes for owner, nbytes in self._owners.items() if nbytes}
            return LedgerStats(self._current, self._peak, owners, self.limit)

    def _add(self, owner: str, nbytes: int, limit: int | None) -> Entry | None:
        with self._lock:
            if limit is not None and self._current + nbytes > limit:
                return None
            self._owners[owner] += nbytes
            self._current += nbytes
            self._peak = max(self._peak, self._current)
            return Entry(self, owner, nbytes)

    def _leave(self, entry: Entry) -> None:
        with self._lock:
            self._owners[entry.owner] -= entry.nbytes
            self._current -= entry.nbytes
