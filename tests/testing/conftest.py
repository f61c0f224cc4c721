"""The whole pipeline on a simulated device, with faults planted in it; nothing may be left of it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.from_thread
import trio.testing

from rave_trio.devices.pool import device_pool
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.memory import Ledger, Waiting
from rave_trio.memory.pool import bucket_size
from rave_trio.pipeline import Backend, Converter, Encoder, PipelineConfig, PipelineMetrics, Stop, UpscalePipeline
from rave_trio.testing import (
    CountingEncoder,
    Fault,
    FaultPlan,
    SimulatedBackend,
    SyntheticDecoder,
    SyntheticToSurface,
    SyntheticToTensor,
    assert_nothing_left,
    holdings,
    most_memory,
)

PATIENCE = 5.0
"""Seconds in which every run must end, however it does."""

FRAMES = 8
WIDTH, HEIGHT, SCALE, DEPTH = 64, 32, 2, 3
CONFIG = PipelineConfig(decoded_capacity=2, preprocessed_capacity=1, upscaled_capacity=2)

AMPLE = most_memory(WIDTH, HEIGHT, SCALE, DEPTH, CONFIG)
TIGHT = AMPLE - (CONFIG.upscaled_capacity + 1) * bucket_size(3 * WIDTH * HEIGHT * SCALE**2)
"""The least in which a run can go on whatever waits for whatever: all that comes before the encoder, and one frame."""


class CountingWaiting(Waiting):
    """Knows how many threads wait for memory."""

    def __init__(self) -> None:
        super().__init__()
        self.waiters = 0
        self._lock = threading.Lock()

    def wait(self, ticket: int) -> None:
        with self._lock:
            self.waiters += 1
        try:
            super().wait(ticket)
        finally:
            with self._lock:
                self.waiters -= 1


class Simulation:
    """One run on a simulated device.  ``limit`` is that of the ledger, in bytes."""

    def __init__(self, limit: int | None = None, seed: int = 0, capacity: int = AMPLE) -> None:
        self.device = SimulatedDevice(capacity, latency=1e-3, seed=seed)
        self.ledger = Ledger(limit)
        self.waiting = CountingWaiting()
        self.pool = device_pool(self.device, self.ledger, self.waiting)
        self.scope = trio.CancelScope()
        self.stalled = trio.Event()
        self.decoder = SyntheticDecoder(FRAMES, WIDTH, HEIGHT, self.pool)
        self.encoder = CountingEncoder(WIDTH * SCALE, HEIGHT * SCALE)
        self.plan = FaultPlan(())

    def plant(self, *faults: Fault, on_cancellation: Callable[[], object] | None = None) -> FaultPlan:
        """Let these faults happen; a cancellation is that of the whole run, unless told otherwise."""
        self.plan = FaultPlan(
            faults,
            on_cancellation=on_cancellation or (lambda: trio.from_thread.run_sync(self.scope.cancel)),
            on_stall=lambda: trio.from_thread.run_sync(self.stalled.set),
        )
        return self.plan

    async def run(self, stop: Stop | None = None) -> PipelineMetrics | None:
        """How the run ends; None if it was cancelled."""
        plan = self.plan
        with trio.fail_after(PATIENCE), self.scope:
            return await UpscalePipeline(CONFIG, self.waiting).run(
                plan.around_decoder(self.decoder),
                plan.around_converter(SyntheticToTensor(WIDTH, HEIGHT, self.pool)),
                self.backend(),
                plan.around_converter(self.to_surface(), "inference"),
                self.sink(),
                stop=stop,
            )
        return None

    def backend(self) -> Backend:
        """What computes, with its faults."""
        return self.plan.around_backend(SimulatedBackend(self.device, self.pool, SCALE, DEPTH))

    def to_surface(self) -> Converter:
        return SyntheticToSurface(WIDTH * SCALE, HEIGHT * SCALE, self.pool)

    def sink(self) -> Encoder:
        """Where frames go: the encoder, with its faults."""
        return self.plan.around_encoder(self.encoder)

    async def settled(self) -> None:
        """Wait until a call is stalled and all stages wait for it, or have ended."""
        await self.stalled.wait()
        while trio.testing.active_thread_count() > 1 + self.waiting.waiters:
            await trio.testing.wait_all_tasks_blocked(cushion=0.001)

    async def released(self) -> None:
        """Let the stalled call go on once all else has settled; for ever, as what runs beside a run."""
        await self.settled()
        self.plan.release()
        await trio.sleep_forever()

    def close(self) -> None:
        self.pool.close()
        self.device.close()


@pytest.fixture(params=[None, AMPLE, TIGHT], ids=["no limit", "ample", "tight"])
def limit(request: pytest.FixtureRequest) -> int | None:
    """What bounds the ledger: nothing, all that a run can hold, or less."""
    limit: int | None = request.param
    return limit


@pytest.fixture
def simulate() -> Iterator[type[Simulation]]:
    """Makes simulations; nothing may be left of them, and the garbage collector is of no help."""
    made: list[Simulation] = []

    class Watched(Simulation):
        def __init__(self, *args: object, **how: object) -> None:
            super().__init__(*args, **how)
            made.append(self)

    gc.disable()
    try:
        before = holdings()
        yield Watched
        for simulation in made:
            assert_nothing_left(pools=[simulation.pool])
            limit = simulation.ledger.limit
            assert limit is None or simulation.ledger.stats().peak <= limit
            assert simulation.device.peak <= simulation.ledger.stats().peak
            simulation.close()
        assert_nothing_left(
            before,
            ledgers=[s.ledger for s in made],
            pools=[s.pool for s in made],
            devices=[s.device for s in made],
        )
    finally:
        gc.enable()
