"""The host as seen through affinity and control groups."""

from __future__ import annotations

import os

import pytest

from rave_trio.devices import cpu


def test_this_host_has_a_name_cores_and_memory():
    device = cpu.detect_cpu()
    assert device.name
    assert 1 <= device.cores <= (os.cpu_count() or 1)
    assert device.memory_bytes > 1 << 28


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", None), ("200000 100000", 2), ("50000 100000", 1), ("350000 100000", 3)]
)
def test_a_control_groups_quota_limits_the_cores(tmp_path, monkeypatch, quota, cores):
    monkeypatch.setattr(cpu, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    (tmp_path / "cpu.max").write_text(quota)
    assert cpu.detect_cpu().cores == (cores or 16)


def test_a_control_groups_limit_bounds_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("536870912\n")
    assert cpu.detect_cpu().memory_bytes == 512 << 20
    (tmp_path / "memory.max").write_text("max\n")
    assert cpu.detect_cpu().memory_bytes > 512 << 20
