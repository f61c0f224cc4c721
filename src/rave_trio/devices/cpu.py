"""The processor and the memory this process may use."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import attrs

CGROUP = Path("/sys/fs/cgroup")


@attrs.frozen
class CpuDevice:
    """The host: ``cores`` this process may run on, ``memory_bytes`` it may hold."""

    name: str
    cores: int
    memory_bytes: int


def detect_cpu() -> CpuDevice:
    """Look at the host, honouring CPU affinity and the control group's limits where there are any."""
    return CpuDevice(_model_name(), _cores(), _memory_bytes())


def _model_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    match _read_words("cpu.max"):
        case [quota, period] if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _memory_bytes() -> int:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 << 30  # not a POSIX host; a cautious guess
    match _read_words("memory.max"):
        case [limit] if limit != "max":
            total = min(total, int(limit))
    return total


def _read_words(name: str) -> list[str]:
    try:
        return (CGROUP / name).read_text().split()
    except OSError:
        return []


def resident_bytes() -> int | None:
    """The memory of this process that is in RAM now; None where the system does not say (Linux alone does here)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
