"""A stress test of the pipeline and its memory, without a codec, a model or a GPU."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from rave_trio.devices.pool import device_pool
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.errors import UsageError
from rave_trio.memory import Ledger, PoolStats, Waiting
from rave_trio.pipeline import PipelineConfig, UpscalePipeline
from rave_trio.testing import (
    CountingEncoder,
    SimulatedBackend,
    SyntheticDecoder,
    SyntheticToSurface,
    SyntheticToTensor,
    holdings,
    left_since,
    most_memory,
)

SIZES = ((320, 180), (640, 360), (480, 270))
SCALE = 2
DEPTH = 3
STREAMS = 2

FRAMES = 300
WARM_UP = 16
"""Frames of each run that do not count for the hit rate."""

BURST = 100
"""Frames of a run beside its warm-up, at most; the next run is of another size."""

WANTED_HIT_RATE = 0.90
ENOUGH_REQUESTS = 400
"""For memory, four a frame; fewer say nothing about a hit rate: a run may take some frames to fill its channels."""


@attrs.frozen
class StressReport:
    """What a stress test saw.  Memory is in bytes, of the simulated device.  A frozen value, for any thread."""

    runs: int
    """Pipelines that ran, one after the other, each with frames of one size."""
    frames_decoded: int
    """Warm-up included, as in the next two."""
    frames_encoded: int
    """Those that came out."""
    frames_wrong: int
    """Frames that came out of their order, or did not show what they should."""
    requests: int
    """For memory, after each run's warm-up."""
    hits: int
    """Those of them that were met without allocating."""
    evictions: int
    """Idle buffers that were freed to make room."""
    waits: int
    """Requests that had to wait for memory."""
    limit: int
    """The most that could be allocated."""
    peak: int
    """The most that was, or that was accounted for if that is more."""
    memory_before: int
    """As ``memory_after``, before the first run."""
    memory_after: int
    """Allocated, or accounted if that is more, once the pool has let go of what is idle."""
    live_leases: int
    """Buffers that nobody gave back."""
    left: tuple[str, ...]
    """Threads, files and processes that are left."""
    seconds: float

    @property
    def fps(self) -> float:
        """Frames per second of wall time."""
        return self.frames_encoded / self.seconds if self.seconds else 0.0

    @property
    def hit_rate(self) -> float:
        """Share of the requests that were met without allocating; 1 if there were none."""
        return self.hits / self.requests if self.requests else 1.0

    @property
    def failures(self) -> tuple[str, ...]:
        """The promises that did not hold, in words."""
        checks = (
            (
                self.frames_encoded == self.frames_decoded,
                f"{self.frames_decoded} frames decoded, {self.frames_encoded} encoded",
            ),
            (self.frames_wrong == 0, f"{self.frames_wrong} frames out of order or not what they should be"),
            (
                self.hit_rate >= WANTED_HIT_RATE or self.requests < ENOUGH_REQUESTS,
                f"a hit rate of {self.hit_rate:.3f}, less than {WANTED_HIT_RATE:.2f}",
            ),
            (
                self.memory_after == self.memory_before,
                f"{self.memory_before} bytes before, {self.memory_after} after",
            ),
            (self.peak <= self.limit, f"a peak of {self.peak} bytes, over the limit of {self.limit}"),
            (self.live_leases == 0, f"{self.live_leases} live leases"),
            (not self.left, f"left behind: {', '.join(self.left)}"),
        )
        return tuple(said for holds, said in checks if not holds)

    @property
    def passed(self) -> bool:
        """Whether all promises hold."""
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        derived = {"hit_rate": self.hit_rate, "fps": self.fps}
        return {"passed": self.passed, "failures": list(self.failures), **attrs.asdict(self), **derived}


async def stress_test_synthetic(
    *,
    frames: int | None = None,
    seconds: float | None = None,
    sizes: Sequence[tuple[int, int]] = SIZES,
    limit: int | None = None,
    warm_up: int = WARM_UP,
    seed: int = 0,
) -> StressReport:
    """Run synthetic frames of several sizes through the pipeline and a simulated device, and check what is promised.

    ``frames`` are shared out over the sizes in turn, beside ``warm_up`` more in each run; or runs go on for
    ``seconds``.  ``limit`` bounds the device's memory, in bytes; None means what the largest size takes, so that one
    size has to make room for the next.  ``seed`` decides how the device's streams overtake one another.  Call it from
    Trio; the simulated device works in threads of its own.

    Raises UsageError for no frames and for a limit in which a size has no room; any other error is one of the engine.
    Cancelling finishes the frames in flight first.

    >>> import rave_trio
    >>> report = await rave_trio.stress_test_synthetic(frames=8, sizes=[(64, 32)])
    >>> report.passed, report.frames_encoded
    (True, 24)
    """
    if frames is not None and seconds is not None:
        raise UsageError("a number of frames and a number of seconds exclude each other", remedy="give one of them")
    if (frames is not None and frames < 1) or (seconds is not None and not seconds > 0) or not sizes or warm_up < 0:
        raise UsageError("a stress test needs at least one frame of one size", remedy="give more than 0 frames")
    config = PipelineConfig()
    needed = max(most_memory(width, height, SCALE, DEPTH, config) for width, height in sizes)
    limit = needed if limit is None else limit
    if limit < needed:
        raise UsageError(f"these sizes need {needed} bytes, more than the limit of {limit}", remedy="raise the limit")
    held = holdings()
    started = time.perf_counter()
    device = SimulatedDevice(limit, latency=1e-3, seed=seed)
    test = _StressTest(device, limit, config)
    try:
        memory_before = test.memory
        plan = _bursts(FRAMES if frames is None else frames) if seconds is None else itertools.repeat(BURST)
        deadline = started + (seconds or 0)
        for size, burst in zip(itertools.cycle(sizes), plan, strict=False):
            await test.run(*size, warm_up, burst)
            if seconds is not None and time.perf_counter() >= deadline:
                break
        test.pool.trim()
        memory_after = test.memory
    finally:
        test.pool.close()
        device.close()
    stats = test.pool.stats()
    return StressReport(
        runs=test.runs,
        frames_decoded=test.decoded,
        frames_encoded=test.encoded,
        frames_wrong=test.wrong,
        requests=test.requests,
        hits=test.hits,
        evictions=stats.evictions,
        waits=stats.waits,
        limit=limit,
        peak=max(device.peak, test.ledger.stats().peak),
        memory_before=memory_before,
        memory_after=memory_after,
        live_leases=stats.leased,
        left=tuple(left_since(held)),
        seconds=time.perf_counter() - started,
    )


def _bursts(frames: int) -> Iterator[int]:
    while frames > 0:
        yield min(frames, BURST)
        frames -= BURST


class _StressTest:
    """Runs on one device and one pool, and what they come to."""

    def __init__(self, device: SimulatedDevice, limit: int, config: PipelineConfig) -> None:
        self.ledger = Ledger(limit)
        self.waiting = Waiting()
        self.pool = device_pool(device, self.ledger, self.waiting)
        self.runs = self.decoded = self.encoded = self.wrong = self.hits = self.requests = 0
        self._device = device
        self._config = config

    @property
    def memory(self) -> int:
        return max(self._device.used, self.ledger.stats().current)

    async def run(self, width: int, height: int, warm_up: int, frames: int) -> None:
        pool = self.pool
        warm = pool.stats()

        def count(index: int) -> None:
            nonlocal warm
            if index + 1 == warm_up:
                warm = pool.stats()

        larger = width * SCALE, height * SCALE
        encoder = CountingEncoder(*larger, count)
        metrics = await UpscalePipeline(self._config, self.waiting).run(
            SyntheticDecoder(warm_up + frames, width, height, pool),
            SyntheticToTensor(width, height, pool),
            SimulatedBackend(self._device, pool, SCALE, DEPTH, STREAMS),
            SyntheticToSurface(*larger, pool),
            encoder,
        )
        self._add(metrics.frames_decoded, encoder, warm, pool.stats())

    def _add(self, decoded: int, encoder: CountingEncoder, warm: PoolStats, end: PoolStats) -> None:
        self.runs += 1
        self.decoded += decoded
        self.encoded += encoder.frames
        self.wrong += len(encoder.wrong) + sum(index != at for at, index in enumerate(encoder.indices))
        self.hits += end.hits - warm.hits
        self.requests += end.hits + end.misses - warm.hits - warm.misses
