"""Sums over bytes that pass by."""

from __future__ import annotations

import hashlib
from typing import Any

from rave_trio.media.compare.contents import Blob


class Sum:
    """Counts and hashes bytes; ``data`` is whatever gives a buffer."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._size = 0

    @classmethod
    def of(cls, data: Any) -> Blob:
        """The sum of these bytes alone."""
        whole = cls()
        whole.add(data)
        return whole.blob()

    def add(self, data: Any) -> None:
        self._hash.update(data)
        self._size += memoryview(data).nbytes

    def blob(self) -> Blob:
        """All bytes so far."""
        return Blob(self._size, self._hash.hexdigest())
