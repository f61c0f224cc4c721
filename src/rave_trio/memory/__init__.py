"""Accounted memory: a ledger of bytes by owner, and a pool of reusable buffers that lends against it."""

from rave_trio.memory.ledger import Entry, Ledger, LedgerStats
from rave_trio.memory.pool import HostLease, HostPool, Lease, Pool, PoolStats, ThreadWaiting, Waiting

__all__ = [
    "Entry",
    "HostLease",
    "HostPool",
    "Lease",
    "Ledger",
    "LedgerStats",
    "Pool",
    "PoolStats",
    "ThreadWaiting",
    "Waiting",
]
