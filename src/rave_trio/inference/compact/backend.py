"""The backend ``compact``: frames through a network of the Compact family by our own kernels.

Frames are computed one by one: one fills the device.
"""

from __future__ import annotations

from typing import Any

from rave_trio.devices.interface import Event, Player, Stream, use
from rave_trio.frames import Frame, Surface, Tensor
from rave_trio.inference.compact.kernels_protocol import MakeKernels
from rave_trio.inference.compact.net import CompactNet
from rave_trio.inference.compact.network import CompactNetwork, Upload
from rave_trio.inference.compact.surfaces import Ends, Surfaces
from rave_trio.inference.device_backend import DeviceBackend, DevicePool
from rave_trio.inference.device_batches import Job
from rave_trio.inference.device_tiles import Copy
from rave_trio.inference.model import Geometry, ModelMetadata


class CompactBackend(DeviceBackend):
    """A :class:`~rave_trio.inference.device_backend.DeviceBackend` of our own kernels; tensors are fp16.

    Made with ``ends`` it takes frames with surfaces too, and gives them with surfaces: what is converted on the way is
    part of the frame's one launch, and what becomes of a frame is what the converters of :mod:`rave_trio.color.cuda`
    around tensors give, bit for bit.  A surface's ``native`` is a :class:`~rave_trio.devices.arrays.DevicePicture`.

    The network's parameters, activations and pictures are leased from ``scratch``.
    """

    def __init__(
        self,
        metadata: ModelMetadata,
        net: CompactNet,
        geometry: Geometry,
        *,
        make_kernels: MakeKernels,
        launcher: Any,
        player: Player,
        upload: Upload,
        stream: Stream,
        pool: DevicePool,
        scratch: DevicePool,
        copy: Copy,
        ends: Ends | None = None,
    ) -> None:
        """``net`` is what the model of ``metadata`` was recognised as, computed in the geometry's strips.

        ``ends`` are for a geometry of whole frames.  Compiles the kernels, some seconds the first time.  Raises
        OutOfMemory.
        """
        kernels = make_kernels(net.architecture, launcher, stream)
        surfaces = None if ends is None else Surfaces(ends, kernels, stream, launcher)
        network = CompactNetwork(
            net,
            kernels,
            height=geometry.tile_height,
            width=geometry.tile_width,
            strip=geometry.strip_rows,
            stream=stream,
            scratch=scratch,
            player=player,
            upload=upload,
            surfaces=surfaces,
        )
        super().__init__(metadata, geometry, network, stream=stream, pool=pool, copy=copy)
        self._whole, self._surfaces = network, surfaces

    def _output(self, frame: Frame) -> Surface | Tensor:
        if self._surfaces is None or isinstance(frame.picture, Tensor):
            return super()._output(frame)
        return self._surfaces.room(self._pool)

    def _start(self, job: Job) -> Event:
        if self._surfaces is None or isinstance(job.output, Tensor):
            return super()._start(job)
        source, target = self._surfaces.picture(job.frame), job.output.native
        with use(self._stream, source.memory, target.memory):
            self._whole.launch_surfaces(self._stream, source, target, job.failures.append, *job.held)
        return self._stream.record()
