"""Pictures a second are counted in whole rounds, of a backend that is kept full, by a clock that is the test's."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any

import numpy as np
import pytest
from backend_rigs import OnnxRuntimeRig
from made_up_gpus import gpu, machine

import rave_trio
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.frames import PixelFormat, SurfaceDescriptor, Tensor
from rave_trio.inference.openvino_model import Model
from rave_trio.memory import Ledger, Waiting
from rave_trio.speed import Speedometer, rate_of
from rave_trio.steps import Enhancing

__all__ = ["machine"]

NOISE = Tensor(np.zeros((3, 2, 2), np.float32), lease=None)


class Batching:
    """Computes ``batch`` frames in ``seconds`` of its own time, as soon as so many are there; ``first`` come slower."""

    def __init__(self, batch: int, seconds: float, depth: int, first: int = 0) -> None:
        self.batch, self.seconds, self.depth, self.first = batch, seconds, depth, first
        self.now = 0.0
        self.busy_until = 0.0
        self.waiting: list[Any] = []
        self.under_way: deque[tuple[Any, float]] = deque()
        self.submitted = 0
        self.partial = 0

    def submit(self, frame: Any) -> None:
        self.submitted += 1
        self.waiting.append(frame)
        if len(self.waiting) == self.batch:
            self._launch()

    def collect(self) -> Any:
        if not self.under_way:
            self.partial += 1
            self._launch()
        frame, done = self.under_way.popleft()
        self.now = max(self.now, done)
        return frame

    def close(self) -> None: ...

    def _launch(self) -> None:
        seconds = self.seconds * (10 if self.submitted <= self.first else 1)
        self.busy_until = max(self.now, self.busy_until) + seconds
        self.under_way.extend((frame, self.busy_until) for frame in self.waiting)
        self.waiting = []


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
@pytest.mark.parametrize("seconds", [0.0, 0.1, 1.0])
def test_the_rate_is_the_backends_whatever_the_batch(batch, seconds):
    backend = Batching(batch, 0.03 * batch, 2 * batch + 1)
    found = rate_of(backend, NOISE, batch, seconds=seconds, warm_up=0.0, clock=lambda: backend.now)
    assert found == pytest.approx(1 / 0.03)
    assert backend.partial == 0


def test_what_comes_slowly_at_first_does_not_count():
    backend = Batching(1, 0.01, 3, first=3)
    found = rate_of(backend, NOISE, 1, seconds=0.1, warm_up=0.0, clock=lambda: backend.now)
    assert found == pytest.approx(100)


def test_a_device_at_rest_is_warmed_up_for_as_long_as_asked():
    backend = Batching(1, 0.01, 3, first=30)
    slow = rate_of(backend, NOISE, 1, seconds=0.1, warm_up=0.0, clock=lambda: backend.now)
    backend = Batching(1, 0.01, 3, first=30)
    warm = rate_of(backend, NOISE, 1, seconds=0.1, warm_up=5.0, clock=lambda: backend.now)
    assert slow < 50
    assert warm == pytest.approx(100)


class OfRig:
    """An assembly whose networks are a rig's."""

    def __init__(self, rig: OnnxRuntimeRig) -> None:
        self.rig = rig

    def network(self, step: Enhancing, geometry: Any, streams: int, batch: int) -> Any:
        self.rig.streams, self.rig.batch = streams, batch
        return self.rig.backend(step.model, geometry)

    def tensor(self, samples: np.ndarray) -> Tensor:
        picture = self.rig.frame(samples).picture
        assert isinstance(picture, Tensor)
        return picture


@pytest.mark.parametrize(("streams", "batch"), [(1, 1), (1, 4), (2, 1), (2, 3)])
def test_networks_are_measured_one_after_another_and_nothing_is_left(upscaler, streams, batch):
    rig = OnnxRuntimeRig()
    model = Model("net", upscaler())
    measuring = Speedometer(OfRig(rig), Enhancing(model, SurfaceDescriptor(24, 20, PixelFormat("gbrp", 8))))
    for _ in range(2):
        assert measuring.rate(model.geometry(20, 24, None), streams, batch, seconds=0.0) > 0
        assert rig.pool.stats().leased == 0
    rig.close()


def test_what_an_estimate_measures_on_a_gpu_is_smaller_than_surfaces_and_goes_without_them(
    machine, bunny, tmp_path, monkeypatch
):
    pytest.importorskip("cuda.core")
    from rave_trio.gpu import assembly, compact

    monkeypatch.setattr(assembly, "CudaDevice", lambda ordinal: SimulatedDevice(1 << 20))
    found = []
    monkeypatch.setattr(compact, "compact_network", lambda *_, ends, **__: found.append(ends))
    machine(gpu(0))
    plan, steps = rave_trio.make_plan(rave_trio.UpscaleOptions(bunny, tmp_path / "out.mkv"))
    [step], [whole] = steps, plan.geometries
    with contextlib.closing(assembly.GpuAssembly(plan, plan.gpu, steps, Ledger(), Waiting())) as made:
        for geometry in (whole, step.model.geometry(180, 180, None)):
            made.network(step, geometry, 1, 1)
    assert [ends is not None for ends in found] == [True, False]
