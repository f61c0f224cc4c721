"""The pipeline around a backend that computes in batches on several streams, and what goes wrong in them."""

from __future__ import annotations

import gc
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import trio
from backend_rigs import host_copy, host_view

from rave_trio import errors
from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.pool import device_pool
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.fit import batch_frames
from rave_trio.frames import Tensor
from rave_trio.inference.device_backend import DeviceBackend
from rave_trio.inference.device_batches import depth_for, together
from rave_trio.inference.model import Geometry, ModelMetadata
from rave_trio.inference.retreat import RetreatingBackend
from rave_trio.inference.side_by_side import SideBySide
from rave_trio.memory import Ledger
from rave_trio.pipeline import PipelineConfig, UpscalePipeline
from rave_trio.testing import (
    CountingEncoder,
    Fault,
    FaultPlan,
    SyntheticDecoder,
    SyntheticToSurface,
    assert_nothing_left,
    holdings,
)
from rave_trio.testing.synthetic import COLOURS

FRAMES, WIDTH, HEIGHT, SCALE = 21, 64, 32, 2
PATIENCE = 10.0
MODEL = ModelMetadata("nearest", Path("nearest.onnx"), "", SCALE, "in", "out", 3, 3, None, None)
WHOLE = Geometry(HEIGHT, WIDTH, overlap=0, tiles=1)
TILED = Geometry(16, 24, overlap=2, tiles=12)


class Nearest:
    """A network that repeats pixels; of all backends' launches, those that are ``failing`` fail."""

    dtype = np.dtype(np.float32)
    alignment = 4

    def __init__(self, launches, failing, error) -> None:
        self._launches, self._failing, self._error = launches, failing, error

    def launch(self, stream, source, target, failed, *held):
        assert source.shape[0] == target.shape[0]
        if next(self._launches) in self._failing:
            failed(self._error)
        else:
            stream.launch(_repeat, source, target, source.memory, target.memory, *held)

    def describe(self, error):
        return isinstance(error, MemoryError), str(error)

    def close(self):
        pass


def _repeat(source, target, *_held):
    host_view(target)[:] = host_view(source).repeat(SCALE, axis=2).repeat(SCALE, axis=3)


class ToDevice:
    """Synthetic surfaces to tensors on the device."""

    def __init__(self, pool) -> None:
        self._pool = pool

    def convert(self, frame):
        shape = (3, HEIGHT, WIDTH)
        lease = self._pool.lease(4 * math.prod(shape))
        array = DeviceArray(lease.memory, shape, np.float32)
        np.divide(frame.surface.native, np.float32(255), out=host_view(array))
        return frame.become(Tensor(array, lease))


class FromDevice:
    """Tensors on the device to synthetic surfaces."""

    def __init__(self, pool) -> None:
        self._convert = SyntheticToSurface(WIDTH * SCALE, HEIGHT * SCALE, pool)

    def convert(self, frame):
        array, lease = frame.tensor, frame.picture.lease
        frame.picture = Tensor(host_view(array), lease)
        return self._convert.convert(frame)


class Simulation:
    """One run on a simulated device, whose streams run behind and overtake one another."""

    def __init__(self, geometry, batch, streams, deadline) -> None:
        self.device = SimulatedDevice(1 << 26, latency=1e-3, seed=batch)
        self.ledger = Ledger()
        self.pool = device_pool(self.device, self.ledger)
        self.encoder = CountingEncoder(WIDTH * SCALE, HEIGHT * SCALE)
        self.faults = FaultPlan(())
        self.geometry, self.batch, self.streams = geometry, batch, streams
        self.deadline = deadline
        self.retreating = None

    def backend(self, batch, streams, failing=(), error=None):
        launches = itertools.count()
        made = [
            DeviceBackend(
                MODEL,
                self.geometry,
                Nearest(launches, failing, error or RuntimeError("planted")),
                stream=self.device.stream(),
                pool=self.pool,
                copy=host_copy,
                batch=batch,
            )
            for _ in range(streams)
        ]
        return SideBySide(made)

    async def run(self, failing=(), error=None):
        def make(step):
            return (
                self.backend(self.batch, self.streams, failing, error),
                self.backend(1, 1),
                None,
            )[step]

        self.retreating = RetreatingBackend(make)
        waiting = max(2, together(self.geometry, self.batch, self.streams))
        config = PipelineConfig(
            preprocessed_capacity=waiting,
            upscaled_capacity=waiting,
            batch_deadline=self.deadline,
            batch_frames=batch_frames((self.geometry,), self.streams, self.batch),
        )
        with trio.fail_after(PATIENCE):
            return await UpscalePipeline(config).run(
                SyntheticDecoder(FRAMES, WIDTH, HEIGHT, self.pool),
                ToDevice(self.pool),
                self.faults.around_backend(self.retreating),
                FromDevice(self.pool),
                self.encoder,
            )


@pytest.fixture(params=[(4, 1), (2, 2), (5, 2)], ids=lambda way: "{} x {}".format(*way))
def way(request):
    return request.param


@pytest.fixture(params=[0.0, 2 * PATIENCE], ids=["at once", "full batches"])
def deadline(request):
    """Seconds; a run that waits for one of them does not end in time."""
    return request.param


@pytest.fixture(params=[WHOLE, TILED], ids=["whole", "tiles"])
def simulation(request, way, deadline):
    """A run of which nothing may be left, however it ends."""
    gc.collect()
    before = holdings()
    gc.disable()
    try:
        made = Simulation(request.param, *way, deadline)
        yield made
        assert_nothing_left(pools=[made.pool])
        made.pool.close()
        assert_nothing_left(ledgers=[made.ledger], devices=[made.device])
        made.device.close()
        assert_nothing_left(before)
    finally:
        gc.enable()


async def test_every_frame_comes_out_once_and_shows_what_went_in(simulation):
    await simulation.run()
    assert simulation.encoder.indices == list(range(FRAMES))
    assert simulation.encoder.wrong == []
    assert FRAMES < COLOURS
    assert simulation.retreating.depth == depth_for(simulation.geometry, simulation.batch, simulation.streams)


@pytest.mark.parametrize("launch", [0, 1, 3])
async def test_a_batch_that_fails_ends_the_run_with_the_first_of_its_frames(simulation, launch):
    with pytest.raises(errors.InferenceError, match="planted") as caught:
        await simulation.run(failing={launch})
    assert caught.value.stage == "inference"
    assert simulation.encoder.indices == list(range(len(simulation.encoder.indices)))
    assert len(simulation.encoder.indices) <= caught.value.frame
    assert simulation.encoder.wrong == []


@pytest.mark.parametrize("launch", [0, 1, 3])
async def test_a_batch_without_memory_is_done_again_one_by_one(simulation, launch):
    await simulation.run(failing={launch}, error=MemoryError("no room"))
    assert simulation.retreating.retreats == 1
    assert simulation.encoder.indices == list(range(FRAMES))
    assert simulation.encoder.wrong == []


@pytest.mark.parametrize("call", ["submit", "collect"])
@pytest.mark.parametrize("frame", [0, 7, FRAMES - 1])
async def test_a_fault_at_any_call_leaves_nothing(simulation, call, frame):
    simulation.faults = FaultPlan((Fault("inference", frame, "exception", call=call),))
    with pytest.raises(errors.StageCrashed) as caught:
        await simulation.run()
    assert (caught.value.stage, caught.value.frame) == ("inference", frame)
