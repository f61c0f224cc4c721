"""Accounted memory: a ledger of bytes by owner, and a pool of reusable buffers that lends against it."""

from rave_trio.memory.ledger import Entry, Ledger, LedgerStats
from rave_trio.memory.loans import Loans
from rave_trio.memory.pool import HostLease, HostPool, Lease, Pool, PoolStats
from rave_trio.memory.shared import SharedLease
from rave_trio.memory.waiting import Interrupted, Waiting

__all__ = [
    "Entry",
    "HostLease",
    "HostPool",
    "Interrupted",
    "Lease",
    "Ledger",
    "LedgerStats",
    "Loans",
    "Pool",
    "PoolStats",
    "SharedLease",
    "Waiting",
]
