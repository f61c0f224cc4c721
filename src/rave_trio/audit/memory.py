"""The audit of a GPU's memory: the ledger beside what NVML says is held, with the parts of the difference named."""

from __future__ import annotations

from typing import Any

import attrs

from rave_trio.audit.findings import AuditFinding, Level, listed, mebibytes
from rave_trio.devices.nvml import memory_in_use, memory_of_this_process
from rave_trio.devices.pool import POOLS

CODE = "memory"

TOLERANCE = 0.05
"""Of what NVML says is held: as much may be left without a name."""

ESTIMATED = "estimated"
"""How the ledger's owners end whose entries are estimates of what a driver holds.

Our pools' entries are exact, and the others are limits of libraries.
"""


@attrs.frozen
class MemorySample:
    """A moment's account.  Sizes in bytes."""

    moment: str
    in_use: int
    """What NVML says that all processes hold of the GPU."""
    own: int | None
    """What it says of this process, where it knows it."""
    ledger: dict[str, int]
    """By owner."""
    at: int = 0
    """In the nanoseconds of :class:`rave_trio.devices.cupti.Recorder`."""

    @classmethod
    def take(cls, moment: str, uuid: str, ledger: dict[str, int], at: int = 0) -> MemorySample:
        """Ask NVML about the GPU with that UUID.  Raises :class:`~rave_trio.devices.nvml.NvmlUnavailable`."""
        return cls(moment, memory_in_use(uuid), memory_of_this_process(uuid), ledger, at)

    @property
    def accounted(self) -> int:
        """All that the ledger has."""
        return sum(self.ledger.values())

    def held_since(self, earlier: MemorySample) -> int:
        """By how much what is held has grown: by this process, if NVML knows it now, else by all."""
        if self.own is None:
            return self.in_use - earlier.in_use
        return self.own - (earlier.own or 0)


@attrs.frozen
class Parts:
    """What NVML says is held beyond the ledger, part by part, of which each may be below 0.  Sizes in bytes."""

    context: int
    """What making the CUDA context took."""
    libraries: int
    """What libraries have allocated, less what the ledger has of theirs: onnxruntime's arena stands at its limit."""
    rest: int
    """What no allocation that CUPTI sees explains: modules of kernels, and what NVDEC and NVENC hold in the driver,
    less what the ledger estimates of that."""

    @property
    def difference(self) -> int:
        return self.context + self.libraries + self.rest

    def told(self) -> str:
        """In words."""
        named = {
            "CUDA's context": self.context,
            "libraries' allocations less their entries": self.libraries,
            "kernels' modules and video engines beyond the estimate": self.rest,
        }
        return listed(f"{name} {mebibytes(nbytes)}" for name, nbytes in named.items())


def parts_of(before: MemorySample, context: MemorySample, steady: MemorySample, allocated: int) -> Parts:
    """Take the difference between NVML and the ledger in the steady state apart.

    ``before`` is from before the context was made, ``context`` from when it was and nothing else; ``allocated`` is all
    that was allocated on the device at ``steady``, by us and by libraries.
    """
    ours = sum(steady.ledger.get(owner, 0) for owner in POOLS)
    estimated = sum(nbytes for owner, nbytes in steady.ledger.items() if owner.endswith(ESTIMATED))
    entered = steady.accounted - ours - estimated
    return Parts(
        context=context.held_since(before),
        libraries=allocated - ours - entered,
        rest=steady.held_since(context) - allocated - estimated,
    )


def judge_memory(samples: dict[str, MemorySample], allocated: int, left: int) -> AuditFinding:
    """Hold the ledger against NVML.  ``samples`` are by moment: before, context, network, steady, end.

    ``allocated`` is what CUPTI saw allocated at ``steady``, ``left`` what was allocated in the run and not given back
    at its end.  Warns where more than :data:`TOLERANCE` has no name but ``rest``, and for what is left.
    """
    figures: dict[str, Any] = {"samples": [attrs.asdict(sample) for sample in samples.values()], "left": left}
    missing = [moment for moment in ("before", "context", "steady", "end") if moment not in samples]
    if missing:
        told = f"not judged: the clip is too short, or NVML did not answer; no sample at {listed(missing)}"
        return AuditFinding(Level.WARN, CODE, told, figures=figures)
    before, context, steady, end = (samples[moment] for moment in ("before", "context", "steady", "end"))
    parts, held = parts_of(before, context, steady, allocated), steady.held_since(before)
    figures |= {
        "held": held,
        "ledger": steady.accounted,
        "difference": held - steady.accounted,
        "parts": attrs.asdict(parts),
        "allocated": allocated,
        "kept_beside_the_context": end.held_since(context),
    }
    told = f"NVML {mebibytes(held)}, ledger {mebibytes(steady.accounted)}"
    if abs(parts.difference) > TOLERANCE * held:
        told += f"; the difference: {parts.told()}"
    if left:
        told = f"{mebibytes(left)} were not given back at the end; {told}"
    unnamed = abs(parts.rest) > TOLERANCE * held
    return AuditFinding(Level.WARN if left or unnamed else Level.PASS, CODE, told, figures=figures)
