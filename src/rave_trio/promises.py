"""A run against its contract: what the plan refuses, and what is seen while frames flow."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator

import attrs

from rave_trio import errors
from rave_trio.choice import Choice
from rave_trio.contract import RunContract
from rave_trio.devices.nvidia import Gpu
from rave_trio.frames import Frame, Surface
from rave_trio.memory import LedgerStats
from rave_trio.pipeline import Backend, Converter, Decoder, Encoder


def refused(clause: str, why: str, *, remedy: str | None = None) -> errors.ContractRefused:
    """The error that says which clause cannot be kept."""
    return errors.ContractRefused(f"the contract's {clause} cannot be kept: {why}", remedy=remedy)


def check_device(contract: RunContract, choice: Choice) -> Choice:
    """The choice itself.  Raises ContractRefused for one that is not what the contract asks for."""
    wanted = contract.requested_device
    ordinal = None if choice.gpu is None else choice.gpu.cuda_ordinal
    names = ("cpu",) if choice.gpu is None else ("cuda", f"cuda:{ordinal}")
    if wanted is not None and wanted not in names:
        raise refused("requested_device", f"it is {wanted}, and {names[-1]} computes", remedy=f"use --device {wanted}")
    return choice


def check_contract(contract: RunContract, *, gpu: Gpu | None, tied: bool) -> None:
    """``tied`` says that nothing in the plan comes of how much memory happens to be free.  Raises ContractRefused."""
    if contract.deterministic_output and gpu is not None and not tied:
        raise refused(
            "deterministic_output",
            "the tiles come of how much memory is free on the GPU just now",
            remedy="set --tile or --vram-limit",
        )


@attrs.frozen
class Witnessed:
    """What was seen of a run: ``hashes`` of its first frames, and milliseconds."""

    hashes: tuple[str, ...]
    inference_p95_ms: float
    inference_ms: float
    """The longest."""
    frame_p95_ms: float
    frame_ms: float

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return attrs.asdict(self)


class Witness:
    """Stands around the stages of one run and notes what a contract asks.  Each wrapper is called by one stage."""

    def __init__(self, contract: RunContract, hash_of: Callable[[Surface], str]) -> None:
        """``hash_of`` is given output surfaces before they are encoded, and may wait for them."""
        self.hash_of = hash_of
        self.hashed = contract.hashed_frames
        self.hashes: list[str] = []
        self.decoded: dict[int, float] = {}
        self.submitted: dict[int, float] = {}
        self.inference: list[float] = []
        self.frames: list[float] = []

    def seen(self) -> Witnessed:
        """All of it so far."""
        return Witnessed(tuple(self.hashes), *_extent(self.inference), *_extent(self.frames))


def _extent(seconds: list[float]) -> tuple[float, float]:
    """The 95th percentile, by the nearest rank, and the longest, in milliseconds."""
    if not seconds:
        return 0.0, 0.0
    ranked = sorted(seconds)
    return 1000 * ranked[math.ceil(0.95 * len(ranked)) - 1], 1000 * ranked[-1]


@attrs.frozen
class SeenDecoder:
    """A decoder whose frames are noted as they come."""

    witness: Witness
    inner: Decoder

    def read(self) -> Frame | None:
        """The decoder's next frame."""
        frame = self.inner.read()
        if frame is not None:
            self.witness.decoded[frame.index] = time.perf_counter()
        return frame


@attrs.frozen
class SeenBackend:
    """A backend whose frames are timed."""

    witness: Witness
    inner: Backend

    @property
    def depth(self) -> int:
        """The backend's."""
        return self.inner.depth

    def submit(self, frame: Frame) -> None:
        """Start on a frame."""
        index, began = frame.index, time.perf_counter()
        self.inner.submit(frame)
        self.witness.submitted[index] = began

    def collect(self) -> Frame:
        """The oldest frame."""
        frame = self.inner.collect()
        self.witness.inference.append(time.perf_counter() - self.witness.submitted.pop(frame.index))
        return frame

    def close(self) -> None:
        """Drop everything under way."""
        self.inner.close()


@attrs.frozen
class SeenConverter:
    """What makes output surfaces, of which the first are hashed."""

    witness: Witness
    inner: Converter

    def convert(self, frame: Frame) -> Frame:
        """The same frame, converted."""
        converted = self.inner.convert(frame)
        if converted.index < self.witness.hashed:
            self.witness.hashes.append(self.witness.hash_of(converted.surface))
        return converted


@attrs.frozen
class SeenEncoder:
    """An encoder whose frames are noted when it has taken them in."""

    witness: Witness
    inner: Encoder

    def write(self, frame: Frame) -> None:
        """Take one frame in."""
        self.inner.write(frame)
        self.witness.frames.append(time.perf_counter() - self.witness.decoded.pop(frame.index))

    def finish(self) -> object:
        """Flush and make the result whole."""
        return self.inner.finish()


def broken(
    contract: RunContract, seen: Witnessed | None, ledger: LedgerStats, retreats: int
) -> errors.ContractBroken | None:
    """The error for the first clause that a run did not keep, if there is one."""
    for clause, why in _breaches(contract, seen, ledger, retreats):
        return errors.ContractBroken(f"the contract's {clause} was broken: {why}")
    return None


def _breaches(
    contract: RunContract, seen: Witnessed | None, ledger: LedgerStats, retreats: int
) -> Iterator[tuple[str, str]]:
    limit = contract.memory_limit
    if limit is not None and ledger.peak > limit:
        yield "max_memory", f"{ledger.peak} bytes were held, of {limit} at most"
    if contract.deterministic_output and retreats:
        yield "deterministic_output", "memory ran out, and other tiles were used"
    if seen is None:
        return
    for at, (expected, found) in enumerate(itertools.zip_longest(contract.expected_hashes or (), seen.hashes)):
        if expected is not None and expected != found:
            yield f"expected_hashes[{at}]", f"frame {at} is {found or 'not there'}, not {expected}"
    for name in ("inference_p95_ms", "inference_ms", "frame_p95_ms", "frame_ms"):
        most, value = getattr(contract, f"max_{name}"), getattr(seen, name)
        if most is not None and value > most:
            who = "one frame in twenty" if "p95" in name else "a frame"
            yield f"max_{name}", f"{who} took {value:.1f} ms or more, of {most:g} ms at most"
