"""Networks of the Compact family with random weights, and a simulated device where kernels in numpy compute them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from backend_rigs import host_view
from compact_rigs import Direct, NumpyKernels, host_upload

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import use
from rave_trio.devices.pool import device_pool
from rave_trio.devices.simulated import SimulatedDevice
from rave_trio.inference.compact.net import CompactNet
from rave_trio.inference.compact.network import CompactNetwork
from rave_trio.inference.compact.resampling import Resize
from rave_trio.memory import Ledger

HALF = Resize(Fraction(1, 2), "cubic", "half_pixel")


class World:
    """A simulated device with a picture on it."""

    def __init__(self, capacity: int = 1 << 26, limit: int | None = None, kernels: type = NumpyKernels) -> None:
        self.kernels = kernels
        self.device = SimulatedDevice(capacity, latency=1.0, seed=5)
        self.ledger = Ledger(limit)
        self.pool = device_pool(self.device, self.ledger)
        self.stream = self.device.stream()
        self.player = Direct()

    def network(self, net: CompactNet, height: int, width: int, strip: int | None = None) -> CompactNetwork:
        return CompactNetwork(
            net,
            self.kernels(net.architecture, None, self.stream),
            height=height,
            width=width,
            strip=strip or height,
            stream=self.stream,
            scratch=self.pool,
            player=self.player,
            upload=host_upload,
        )

    def run(self, net: CompactNet, picture: np.ndarray, strip: int | None = None) -> np.ndarray:
        _, height, width = picture.shape
        scale = net.scale
        network = self.network(net, height, width, strip)
        source, target = self.array(picture.shape), self.array((3, height * scale, width * scale))
        host_view(source)[:] = picture
        host_view(target)[:] = np.nan
        memory = network._lease.memory
        buffers = network._buffers[0] - memory.pointer
        memory.array((memory.nbytes,), np.uint8)[buffers:] = 0xFF  # not a number, as fp16 and as e4m3
        with use(self.stream, source.memory, target.memory):
            network.launch(self.stream, source, target, failed=pytest.fail)
        self.stream.synchronize()
        result = host_view(target).copy()
        network.close()
        for array in (source, target):
            array.memory.close()
        return result

    def array(self, shape) -> DeviceArray:
        return DeviceArray(self.device.allocate(int(np.prod(shape)) * 2), shape, np.float16)

    def close(self) -> None:
        assert self.pool.stats().leased == 0
        self.pool.close()
        assert self.ledger.stats().current == 0
        assert self.device.used == 0
        self.device.close()
