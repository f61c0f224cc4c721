"""The backend ``compact``: frames through a network of the Compact family by our own kernels.

Frames are computed one by one: one fills the device.
"""

from __future__ import annotations

from typing import Any

from rave_trio.devices.interface import Stream
from rave_trio.inference.compact.kernels_protocol import MakeKernels
from rave_trio.inference.compact.net import CompactNet
from rave_trio.inference.compact.network import CompactNetwork, Player, Upload
from rave_trio.inference.device_backend import DeviceBackend, DevicePool
from rave_trio.inference.device_tiles import Copy
from rave_trio.inference.model import Geometry, ModelMetadata


class CompactBackend(DeviceBackend):
    """A :class:`~rave_trio.inference.device_backend.DeviceBackend` of our own kernels; tensors are fp16.

    The network's parameters and activations are leased from ``scratch``.
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
    ) -> None:
        """``net`` is what the model of ``metadata`` was recognised as, computed in the geometry's strips.

        Compiles the kernels, some seconds the first time.  Raises OutOfMemory.
        """
        network = CompactNetwork(
            net,
            make_kernels(net.architecture, launcher, stream),
            height=geometry.tile_height,
            width=geometry.tile_width,
            strip=geometry.strip_rows,
            stream=stream,
            scratch=scratch,
            player=player,
            upload=upload,
        )
        super().__init__(metadata, geometry, network, stream=stream, pool=pool, copy=copy)
