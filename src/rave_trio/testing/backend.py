"""A model of nothing but size, run by a simulated device the way a GPU runs one."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import deque
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.devices.interface import LaunchError
from rave_trio.devices.pool import DevicePool
from rave_trio.devices.simulated import SimulatedDevice, SimulatedEvent
from rave_trio.errors import InferenceError
from rave_trio.frames import Frame, Tensor


@attrs.define(eq=False)
class _Job:
    """A frame on the device, where its result goes, and when that is there."""

    frame: Frame
    output: Tensor
    done: SimulatedEvent


class SimulatedBackend:
    """Repeats every pixel ``scale`` times each way, on ``streams`` streams of ``device`` that overtake one another.

    Frames come back in the order in which they were given.  The tensors that come in and go out are in memory of
    ``pool``, which is that of ``device``.
    """

    def __init__(
        self, device: SimulatedDevice, pool: DevicePool, scale: int = 2, depth: int = 3, streams: int = 2
    ) -> None:
        self.depth = depth
        self._pool = pool
        self._scale = scale
        self._streams = itertools.cycle([device.stream() for _ in range(streams)])
        self._jobs: deque[_Job] = deque()

    def submit(self, frame: Frame) -> None:
        """Start on a frame, which is the backend's from then on.  Waits for memory if there is a limit."""
        source = frame.tensor
        shape = (source.shape[0], source.shape[1] * self._scale, source.shape[2] * self._scale)
        lease = self._pool.lease(4 * math.prod(shape))
        output = Tensor(lease.array(shape, np.float32), lease)
        stream = next(self._streams)
        try:
            assert isinstance(frame.picture, Tensor)
            stream.launch(_enlarge, source, output.array, self._scale, frame.picture.lease, lease)
            self._jobs.append(_Job(frame, output, stream.record()))
        except BaseException:
            output.close()
            raise

    def collect(self) -> Frame:
        """Wait for the oldest frame.  Raises InferenceError, and closes the frame, if the device failed on it."""
        job = self._jobs.popleft()
        try:
            job.done.wait()
        except LaunchError as error:
            job.output.close()
            job.frame.close()
            raise InferenceError(f"the model failed on frame {job.frame.index}: {error}") from error
        return job.frame.become(job.output)

    def close(self) -> None:
        """Wait for what the device works on and drop it.  Idempotent."""
        while self._jobs:
            job = self._jobs.popleft()
            with contextlib.suppress(LaunchError):
                job.done.wait()
            job.output.close()
            job.frame.close()


def _enlarge(source: npt.NDArray[np.float32], target: npt.NDArray[np.float32], scale: int, *_held: Any) -> None:
    channels, height, width = source.shape
    pixels = target.reshape(channels, height, scale, width, scale)
    pixels[:] = source[:, :, np.newaxis, :, np.newaxis]
