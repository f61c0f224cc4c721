"""Faults while pictures are on their way from a device to the encoder: the same ends, and nothing left either."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from simulated_copies import to_host

from rave_trio import errors
from rave_trio.devices.arrays import DeviceArray, DevicePicture
from rave_trio.devices.pool import pinned_pool
from rave_trio.media.download import DownloadingEncoder
from rave_trio.memory import Ledger
from rave_trio.pipeline import alongside
from rave_trio.testing import every_fault

FRAMES = 8
ALL = list(every_fault((0, 3, 7), ("decode", "preprocess", "inference", "encode")))
RAISED = {
    "exception": errors.StageCrashed,
    "out_of_memory": errors.OutOfMemory,
    "encoder_refusal": errors.EncodeError,
    "disk_full": errors.DiskFull,
}
INTERRUPTS = {"keyboard_interrupt": KeyboardInterrupt, "system_exit": SystemExit}


class OnTheDevice:
    """A converter whose surfaces are told as planes in their memory."""

    def __init__(self, convert):
        self._convert = convert

    def convert(self, frame):
        converted = self._convert.convert(frame)
        surface = converted.surface
        count, height, width = surface.native.shape
        planes = (
            DeviceArray(surface.lease.memory, (height, width), np.uint8, offset=number * height * width)
            for number in range(count)
        )
        surface.native = DevicePicture(tuple(planes))
        return converted


class AsArrays:
    """Gives an encoder libav's frames as arrays."""

    def __init__(self, encoder):
        self._encoder = encoder

    def write(self, frame):
        native = frame.surface.native
        planes = [
            np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width]
            for plane in native.planes
        ]
        self._encoder.write(attrs.evolve(frame, picture=attrs.evolve(frame.picture, native=np.stack(planes))))

    def finish(self):
        return self._encoder.finish()

    def close(self):
        pass


@pytest.fixture
def simulation(simulate, limit):
    class Downloading(simulate):
        def to_surface(self):
            return OnTheDevice(super().to_surface())

        def sink(self):
            return self.downloading

        async def run(self, stop=None):
            self.page_locked = pinned_pool(self.device, Ledger(), "downloads")
            within = self.plan.around_encoder(AsArrays(self.encoder))
            self.downloading = DownloadingEncoder(within, self.device, self.page_locked, copy=to_host)
            try:
                return await super().run(stop)
            finally:
                self.downloading.close()
                assert self.page_locked.stats().leased == 0
                self.page_locked.close()

    simulation = Downloading(limit)
    yield simulation
    assert simulation.device.pinned == 0


def of(*kinds):
    return [fault for fault in ALL if fault.kind in kinds]


@pytest.mark.parametrize("fault", of(*RAISED), ids=str)
async def test_an_error_is_told_with_the_stage_and_frame_where_it_was(simulation, fault):
    simulation.plant(fault)
    with pytest.raises(RAISED[fault.kind], match="planted") as caught:
        await simulation.run()
    assert (caught.value.stage, caught.value.frame) == (fault.stage, fault.frame)
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("fault", of(*INTERRUPTS), ids=str)
async def test_an_interrupt_is_passed_on_unchanged(simulation, fault):
    simulation.plant(fault)
    with pytest.raises(INTERRUPTS[fault.kind]):
        await simulation.run()


@pytest.mark.parametrize("fault", [f for f in of("corrupt_size") if f.call == "convert"], ids=str)
async def test_a_picture_that_is_not_what_it_says_is_noticed(simulation, fault):
    simulation.plant(fault)
    with pytest.raises(errors.StageCrashed) as caught:
        await simulation.run()
    assert caught.value.frame == fault.frame


@pytest.mark.parametrize("fault", of("slow", "stall"), ids=str)
async def test_calls_that_take_their_time_change_nothing(simulation, fault):
    simulation.plant(fault)
    if fault.kind == "stall":
        await alongside(simulation.run, simulation.released)
    else:
        await simulation.run()
    assert simulation.encoder.indices == list(range(FRAMES))
    assert not simulation.encoder.wrong
    assert simulation.encoder.finished


@pytest.mark.parametrize("fault", of("cancellation"), ids=str)
async def test_a_cancelled_run_encodes_all_that_it_has_read(simulation, fault):
    simulation.plant(fault)
    await simulation.run()
    encoder = simulation.encoder
    assert encoder.finished
    assert encoder.indices == list(range(encoder.frames))
    assert encoder.frames > (fault.frame or 0)
    assert not encoder.wrong
