"""The check that nothing is left sees what is left."""

from __future__ import annotations

import subprocess
import threading

import pytest

from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.memory import HostPool, Ledger
from rave_trio.testing import assert_nothing_left, holdings, leaks, left_since


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setattr(leaks, "ENDING", 0.0)


def test_nothing_is_left_of_nothing():
    assert left_since(holdings()) == []
    assert_nothing_left(holdings())


def test_a_thread_is_left_until_it_ends(monkeypatch):
    before, go_on = holdings(), threading.Event()
    thread = threading.Thread(target=go_on.wait, name="straggler")
    thread.start()
    with pytest.raises(AssertionError, match="left behind: thread 'straggler'"):
        assert_nothing_left(before)
    go_on.set()
    thread.join()
    monkeypatch.undo()
    assert_nothing_left(before)


def test_a_file_is_left_until_it_is_closed(tmp_path):
    before = holdings()
    with (tmp_path / "a.txt").open("w"), pytest.raises(AssertionError, match=r"descriptor \d+ of .*a\.txt"):
        assert_nothing_left(before)
    assert_nothing_left(before)


def test_a_process_is_left_until_it_has_ended():
    before = holdings()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        with pytest.raises(AssertionError, match=f"process {child.pid}"):
            assert_nothing_left(before)
        child.stdin.close()
    assert_nothing_left(before)


def test_leases_bytes_and_device_memory_are_left():
    ledger = Ledger()
    pool = HostPool(ledger)
    lease = pool.lease(1)
    with pytest.raises(AssertionError, match=r"1 leases, bytes of \{'pool': 4096\} in the ledger"):
        assert_nothing_left(ledgers=[ledger], pools=[pool])
    lease.close()
    assert_nothing_left(pools=[pool])
    pool.close()
    assert_nothing_left(ledgers=[ledger], pools=[pool])

    device = SimulatedDevice(10)
    memory = device.allocate(3)
    with pytest.raises(AssertionError, match="3 bytes of the device"):
        assert_nothing_left(devices=[device])
    memory.close()
    device.close()
    assert_nothing_left(devices=[device])
