"""Accounted memory: a ledger of bytes by owner, and a pool of reusable buffers that lends against it."""

from rave_trio.memory.ledger import Entry, Ledger, LedgerStats
from rave_trio.memory.pool import HostPool, Lease, PoolStats

__all__ = ["Entry", "HostPool", "Lease", "Ledger", "LedgerStats", "PoolStats"]
