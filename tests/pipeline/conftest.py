"""Stand-ins for codecs and models that a test can hold at a chosen call or make fail there.

Everything between them is real: the pipeline, its threads, and the pool that every picture leases its memory from.
"""

from __future__ import annotations

import gc
import math
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from fractions import Fraction

import attrs
import numpy as np
import pytest
import trio
import trio.testing

from rave_trio.frames import Frame, PixelFormat, Surface, SurfaceDescriptor, Tensor
from rave_trio.memory import HostPool, Lease, Ledger, Waiting
from rave_trio.pipeline import PipelineConfig, PipelineMetrics, Stop, UpscalePipeline, run_stoppable

PATIENCE = 10.0
"""Seconds after which a test that hangs is given up."""

DESCRIPTOR = SurfaceDescriptor(4, 2, PixelFormat("yuv420p", 8, 1, 1))
TIME_BASE = Fraction(1, 90_000)


class Gate:
    """Stops worker threads until it is opened, and tells the test when one has come."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._token = trio.lowlevel.current_trio_token()
        self._reached = trio.Event()
        self._open = threading.Event()
        self._waiting = 0

    def enter(self) -> None:
        with self._rig.lock:
            if self._open.is_set():
                return
            self._waiting += 1
            self._rig.held += 1
        self._token.run_sync_soon(self._reached.set)
        if not self._open.wait(PATIENCE):
            raise TimeoutError("nobody opened the gate")

    async def reached(self) -> None:
        await self._reached.wait()

    def open(self) -> None:
        with self._rig.lock:
            self._open.set()
            self._rig.held -= self._waiting
            self._waiting = 0


class Scripted:
    """Counts calls by name, and holds or fails those that the test has named, such as ``write 3``."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.calls: Counter[str] = Counter()
        self.gates: dict[str, Gate] = {}
        self._errors: dict[str, BaseException] = {}
        self._busy = threading.Lock()

    def hold(self, call: str) -> Gate:
        gate = self.gates[call] = Gate(self.rig)
        return gate

    def fail(self, call: str, error: BaseException) -> None:
        self._errors[call] = error

    @contextmanager
    def call(self, name: str, index: int | None = None) -> Iterator[None]:
        assert self._busy.acquire(blocking=False), f"{type(self).__name__} is used by two threads at once"
        try:
            self.calls[name] += 1
            at = name if index is None else f"{name} {index}"
            if at in self.gates:
                self.gates[at].enter()
            if at in self._errors:
                raise self._errors[at]
            yield
        finally:
            self._busy.release()


class LeasedSurface(Surface):
    """A surface whose memory is counted by the rig's pool; its native object is just a number."""

    def __init__(self, lease: Lease, native: float) -> None:
        super().__init__(DESCRIPTOR, native)
        self._lease = lease

    def close(self) -> None:
        super().close()
        self._lease.close()


class FakeDecoder(Scripted):
    """Gives out ``total`` frames of rising, uneven times, whose picture is their number."""

    total = 8

    def read(self) -> Frame | None:
        index = self.calls["read"]
        with self.call("read", index):
            return self.rig.frame(index) if index < self.total else None


class FakeToTensor(Scripted):
    def convert(self, frame: Frame) -> Frame:
        with self.call("convert", frame.index):
            return frame.become(self.rig.tensor(frame.surface.native))


class FakeToSurface(Scripted):
    def convert(self, frame: Frame) -> Frame:
        with self.call("convert", frame.index):
            return frame.become(self.rig.surface(float(frame.tensor[0, 0, 0])))


class FakeBackend(Scripted):
    """Turns a picture x into 100 + x."""

    depth = 2

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig)
        self.under_way: deque[Frame] = deque()
        self.most_under_way = 0

    def submit(self, frame: Frame) -> None:
        with self.call("submit", frame.index):
            self.under_way.append(frame)
            self.most_under_way = max(self.most_under_way, len(self.under_way))

    def collect(self) -> Frame:
        with self.call("collect", self.under_way[0].index):
            larger = self.rig.tensor(100 + float(self.under_way[0].tensor[0, 0, 0]))
            return self.under_way.popleft().become(larger)

    def close(self) -> None:
        while self.under_way:
            self.under_way.popleft().close()
        with self.call("close"):
            pass


class PacedToTensor(FakeToTensor):
    """Works only while the backend computes, and then as long as there is room for the results."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig)
        self._changed = threading.Condition()
        self._allowed = math.inf

    def convert(self, frame: Frame) -> Frame:
        with self._changed:
            assert self._changed.wait_for(lambda: frame.index < self._allowed, PATIENCE)
        made = super().convert(frame)
        with self._changed:
            self._changed.notify_all()
        return made

    def go_on_until(self, count: int) -> None:
        """Let so many frames be converted, and return once they are."""
        with self._changed:
            self._allowed = count
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self.calls["convert"] >= count, PATIENCE)


class BatchingBackend(FakeBackend):
    """Starts with a batch when it is full or one of its frames is wanted.

    A slow one takes as long as the stages before need to fill what is before it, and those work at no other time.
    """

    def __init__(self, rig: Rig, batch: int, depth: int, *, slow: bool) -> None:
        super().__init__(rig)
        self.batch, self.slow = batch, slow
        self.depth = depth
        self.waiting = 0
        self.launched: list[int] = []
        self.computed = self.batches_done = self.collected = 0

    def submit(self, frame: Frame) -> None:
        super().submit(frame)
        self.waiting += 1
        if self.waiting == self.batch:
            self._launch()

    def collect(self) -> Frame:
        if self.collected == sum(self.launched):
            self._launch()
        if self.collected == self.computed:
            self.computed += self.launched[self.batches_done]
            self.batches_done += 1
            if self.slow:
                assert isinstance(self.rig.to_tensor, PacedToTensor)
                ahead = self.calls["submit"] + self.rig.config.preprocessed_capacity + 1
                self.rig.to_tensor.go_on_until(min(ahead, self.rig.decoder.total))
        self.collected += 1
        return super().collect()

    def _launch(self) -> None:
        self.launched.append(self.waiting)
        self.waiting = 0


@attrs.frozen
class Written:
    """What the encoder saw of a frame."""

    index: int
    pts: int
    duration: int
    time_base: Fraction
    key_frame: bool
    native: float


class FakeEncoder(Scripted):
    def __init__(self, rig: Rig) -> None:
        super().__init__(rig)
        self.written: list[Written] = []
        self.finished = False

    @property
    def indices(self) -> list[int]:
        return [frame.index for frame in self.written]

    def write(self, frame: Frame) -> None:
        with self.call("write", frame.index):
            native = frame.surface.native
            assert native is not None
            self.written.append(
                Written(frame.index, frame.pts, frame.duration, frame.time_base, frame.key_frame, native)
            )

    def finish(self) -> None:
        with self.call("finish"):
            assert not self.finished
            self.finished = True


class TellingWaiting(Waiting):
    """Tells when a thread begins to wait for memory."""

    def __init__(self) -> None:
        super().__init__()
        self._began = threading.Event()

    def wait(self, ticket: int) -> None:
        self._began.set()
        super().wait(ticket)

    async def began(self) -> None:
        assert await trio.to_thread.run_sync(self._began.wait, PATIENCE)


class Run:
    """A run in the background: how it ended, once it has."""

    def __init__(self, pipeline: UpscalePipeline) -> None:
        self.pipeline = pipeline
        self.scope = trio.CancelScope()
        self.ended = False
        self.result: PipelineMetrics | None = None
        self.error: BaseException | None = None


class Rig:
    """Four fakes, the real pool that counts what they hold, and ways to run a pipeline over them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held = 0
        self.patience = PATIENCE
        self.excused = 0
        """Pictures that an abandoned call may keep."""
        self.config = PipelineConfig(stall_timeout=math.inf)
        self.ledger = Ledger()
        self.waiting = TellingWaiting()
        self.pool = HostPool(self.ledger, waiting=self.waiting)
        self.decoder = FakeDecoder(self)
        self.to_tensor = FakeToTensor(self)
        self.backend = FakeBackend(self)
        self.to_surface = FakeToSurface(self)
        self.encoder = FakeEncoder(self)

    def compute_in_batches(self, batch: int, depth: int, *, slow: bool) -> None:
        """Have a backend that computes several frames at a time."""
        self.to_tensor = PacedToTensor(self)
        self.backend = BatchingBackend(self, batch, depth, slow=slow)

    @property
    def parts(self) -> tuple[Scripted, ...]:
        return self.decoder, self.to_tensor, self.backend, self.to_surface, self.encoder

    @property
    def alive(self) -> int:
        """Pictures that are open now."""
        return self.pool.stats().leased

    def frame(self, index: int) -> Frame:
        pts = 1000 * index + index % 3
        return Frame(index, pts, 1000 + index % 2, TIME_BASE, index % 4 == 0, self.surface(float(index)))

    def surface(self, value: float) -> LeasedSurface:
        return LeasedSurface(self.pool.lease(12), value)

    def tensor(self, value: float) -> Tensor:
        lease = self.pool.lease(4 * 3 * 2 * 4)
        array = lease.array((3, 2, 4), np.float32)
        array[:] = value
        return Tensor(array, lease)

    async def run(self, *, stop: Stop | None = None, pipeline: UpscalePipeline | None = None) -> PipelineMetrics:
        pipeline = pipeline or UpscalePipeline(self.config, self.waiting)
        with trio.fail_after(self.patience):
            return await pipeline.run(
                self.decoder, self.to_tensor, self.backend, self.to_surface, self.encoder, stop=stop
            )

    @asynccontextmanager
    async def running(self, *, stop: Stop | None = None, stoppable: bool = True) -> AsyncIterator[Run]:
        """A run in the background, inside a scope of its own; ended when the block is left.

        With ``stop``, the way a job does it, unless ``stoppable`` is false: then a cancellation is a hard one.
        """
        run = Run(UpscalePipeline(self.config, self.waiting))

        async def work() -> PipelineMetrics:
            return await self.run(stop=stop, pipeline=run.pipeline)

        async def task() -> None:
            try:
                with run.scope:
                    run.result = await (run_stoppable(work, stop) if stop is not None and stoppable else work())
            except BaseException as error:
                run.error = error
            run.ended = True

        with trio.fail_after(self.patience):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(task)
                try:
                    yield run
                except BaseException:
                    self.open_all()
                    raise

    def open_all(self) -> None:
        for part in self.parts:
            for gate in part.gates.values():
                gate.open()

    async def left_behind(self, gate: Gate, run: Run) -> None:
        """The run has ended without the call that is held; let that go on, and account for what only it holds."""
        assert run.ended
        self.excused = 2 + self.backend.depth  # the stuck call's frame and result, and what is under way in a backend
        gate.open()
        while trio.testing.active_thread_count():
            await trio.testing.wait_all_tasks_blocked(cushion=0.001)

    async def settled(self) -> None:
        """Wait until nothing moves any more: all tasks wait, and all worker threads are held at gates."""
        while True:
            await trio.testing.wait_all_tasks_blocked(cushion=0.001)  # lets the worker threads have the interpreter
            with self.lock:
                if trio.testing.active_thread_count() == self.held:
                    return


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A rig that must come back with every picture closed, by hand and not by the garbage collector."""
    gc.disable()
    try:
        rig = Rig()
        yield rig
        assert rig.held == 0, "a thread is still held"
        assert rig.pool.stats().leased <= rig.excused, "a picture was left open"
        rig.pool.close()
        if not rig.excused:
            assert rig.ledger.stats().current == 0
            assert rig.backend.calls["submit"] == 0 or rig.backend.calls["close"] >= 1
    finally:
        gc.enable()
