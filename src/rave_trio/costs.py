"""What things take up where a job runs: on the host, or on a GPU.  Memory in bytes."""

from __future__ import annotations

from typing import Protocol

import attrs

from rave_trio.devices import CpuDevice
from rave_trio.devices.nvidia import Gpu
from rave_trio.frames import SurfaceDescriptor
from rave_trio.inference.compact.kernels_protocol import PLANES, Architecture
from rave_trio.inference.compact.net import CompactNet
from rave_trio.inference.compact.strips import aligned, buffer_bytes, parameter_bytes, picture_bytes
from rave_trio.inference.device_backend import DTYPES
from rave_trio.inference.model import Geometry, ModelLoad, arena_bytes
from rave_trio.memory.pool import bucket_size
from rave_trio.resizing.lanczos import taps_of
from rave_trio.steps import Enhancing

HOST_SHARE = 0.5
"""Share of the host's memory that a plan may count on."""

GPU_SHARE = 0.9
"""Share of what is free on a GPU that a plan may count on; CUDA's context and kernels take some of the rest."""

ENCODER_FRAMES = 64
"""Output frames that an encoder may hold for lookahead and reordering: x264 medium holds 40 and a few per thread."""

FEW_CORES = 8
"""Below this many cores there are as many streams as halves of them, two at least; above, one for every four."""

NVDEC_SURFACES = 24
"""Pictures that NVDEC may hold itself: 16 of reference, 4 given out, and some under way.  67 MiB were seen at 1080p."""

SLOWEST_CORE = 5e9
"""Floating-point operations a second that even an old core does in a convolution; today's do ten times as many."""

SLOWEST_GPU = 5e11
"""The same of a GPU."""


class Costs(Protocol):
    """Where a job runs, and what it takes there."""

    @property
    def budget(self) -> int:
        """What is used without asking."""

    @property
    def where(self) -> str:
        """In a sentence about memory."""

    @property
    def slowest(self) -> float:
        """Floating-point operations a second that can be counted on."""

    def streams(self) -> tuple[int, ...]:
        """How many batches may be computed at once, the best first."""

    def depth(self, geometry: Geometry, streams: int, batch: int) -> int:
        """Frames under way in the backend."""

    def waiting(self, geometry: Geometry, streams: int, batch: int) -> int:
        """Frames that should be able to wait before and after the backend, so that it finds as many as it takes."""

    def tensor(self, surface: SurfaceDescriptor) -> int:
        """A tensor of that size."""

    def surface(self, surface: SurfaceDescriptor) -> int:
        """A picture."""

    @property
    def in_strips(self) -> bool:
        """Whether the network computes strips of rows where there is little memory, rather than tiles."""

    def network(self, geometry: Geometry, load: ModelLoad, streams: int, batch: int) -> int:
        """The model ready to run, ``batch`` pictures at a time on each stream."""

    def staging(self, step: Enhancing, geometry: Geometry, streams: int, batch: int) -> int:
        """What batches and tiles are copied into and out of, where that is not in ``network``."""

    def resizing(self, source: SurfaceDescriptor, target: SurfaceDescriptor) -> int:
        """What an exact size is made in, beside what goes in and comes out."""

    def encoder_frames(self) -> int:
        """Pictures inside the encoder that count."""

    def decoder_own(self, surface: SurfaceDescriptor) -> int:
        """What the decoder holds beside the pictures that it gave out."""


@attrs.frozen
class HostCosts:
    """On the CPU, with OpenVINO: tensors are float32."""

    in_strips = False

    host: CpuDevice

    @property
    def budget(self) -> int:
        return int(self.host.memory_bytes * HOST_SHARE)

    @property
    def where(self) -> str:
        return f"half of the {self.host.memory_bytes / 1e9:.1f} GB here"

    @property
    def slowest(self) -> float:
        return self.host.cores * SLOWEST_CORE

    def streams(self) -> tuple[int, ...]:
        cores = self.host.cores
        return tuple(range(min(cores, max(2, cores // 2) if cores < FEW_CORES else cores // 4), 0, -1))

    def depth(self, geometry: Geometry, streams: int, batch: int) -> int:
        from rave_trio.inference.openvino_backend import depth_for

        return depth_for(geometry, streams)

    def waiting(self, geometry: Geometry, streams: int, batch: int) -> int:
        return 1

    def tensor(self, surface: SurfaceDescriptor) -> int:
        return bucket_size(4 * 3 * surface.width * surface.height)

    def surface(self, surface: SurfaceDescriptor) -> int:
        layout = surface.pixel_format
        luma = surface.width * surface.height * (2 if layout.bit_depth > 8 else 1)
        return luma if layout.is_grey else luma + 2 * (luma >> (layout.chroma_shift_x + layout.chroma_shift_y))

    def network(self, geometry: Geometry, load: ModelLoad, streams: int, batch: int) -> int:
        return load.weight_bytes + (streams + 1) * load.activation_bytes

    def staging(self, step: Enhancing, geometry: Geometry, streams: int, batch: int) -> int:
        return 0

    def resizing(self, source: SurfaceDescriptor, target: SurfaceDescriptor) -> int:
        return 4 * target.height * source.width

    def encoder_frames(self) -> int:
        return ENCODER_FRAMES

    def decoder_own(self, surface: SurfaceDescriptor) -> int:
        return 0


@attrs.frozen
class GpuCosts:
    """On a GPU: pictures in pitched planes.  What a software encoder holds is on the host."""

    in_strips = False

    free: int
    """Memory that nobody has."""
    itemsize: int
    """Bytes of a tensor's element."""

    @property
    def budget(self) -> int:
        return int(self.free * GPU_SHARE)

    @property
    def where(self) -> str:
        return f"most of the {self.free / 1e9:.1f} GB that are free on the GPU"

    @property
    def slowest(self) -> float:
        return SLOWEST_GPU

    def streams(self) -> tuple[int, ...]:
        return (1,)

    def depth(self, geometry: Geometry, streams: int, batch: int) -> int:
        from rave_trio.inference.device_batches import depth_for

        return depth_for(geometry, batch, streams)

    def waiting(self, geometry: Geometry, streams: int, batch: int) -> int:
        from rave_trio.inference.device_batches import together

        return together(geometry, batch, streams)

    def tensor(self, surface: SurfaceDescriptor) -> int:
        return bucket_size(self.itemsize * 3 * surface.width * surface.height)

    def surface(self, surface: SurfaceDescriptor) -> int:
        from rave_trio.color.cuda.planes import layout

        return bucket_size(layout(surface).nbytes)

    def network(self, geometry: Geometry, load: ModelLoad, streams: int, batch: int) -> int:
        return streams * arena_bytes(load, batch)

    def staging(self, step: Enhancing, geometry: Geometry, streams: int, batch: int) -> int:
        size, model = (geometry.tile_height, geometry.tile_width), step.model.metadata
        if batch == 1 and size == (step.source.height, step.source.width) and model.input_channels == 3:
            return 0  # frames are read and written where they lie
        tiles = batch * self.itemsize * 3 * geometry.tile_height * geometry.tile_width
        return streams * (bucket_size(tiles) + bucket_size(tiles * model.scale**2))

    def resizing(self, source: SurfaceDescriptor, target: SurfaceDescriptor) -> int:
        sides = (source.height, target.height), (source.width, target.width)
        weights = sum(bucket_size(4 * n) + bucket_size(4 * n * taps_of(m, n)) for m, n in sides)
        return bucket_size(4 * 3 * target.height * source.width) + weights

    def encoder_frames(self) -> int:
        return 0

    def decoder_own(self, surface: SurfaceDescriptor) -> int:
        return NVDEC_SURFACES * self.surface(surface)


@attrs.frozen
class CompactCosts(GpuCosts):
    """On a GPU with our own kernels, which need two buffers of activations, and for surfaces two tensors at most."""

    in_strips = True

    architecture: Architecture
    layers: int
    """All of them."""
    fp8: bool
    on_surfaces: bool = False
    """Whether surfaces go in and come out."""

    def network(self, geometry: Geometry, load: ModelLoad, streams: int, batch: int) -> int:
        size = geometry.tile_height, geometry.tile_width
        buffer = buffer_bytes(self.architecture, self.layers, *size, geometry.strip_rows, fp8=self.fp8)
        pictures = 0
        if self.on_surfaces:
            enlarged = (side * self.architecture.scale for side in size)
            pictures = aligned(picture_bytes(PLANES, *size)) + aligned(picture_bytes(PLANES, *enlarged))
        parameters = parameter_bytes(self.architecture, self.layers, fp8=self.fp8)
        return bucket_size(parameters + 2 * aligned(buffer) + pictures)


def costs_of(
    host: CpuDevice, gpu: Gpu | None, precision: str, net: CompactNet | None = None, *, on_surfaces: bool = False
) -> Costs:
    """Those of where a job runs: on the host, or on a GPU if there is one, where ``net`` runs on our own kernels.

    With ``on_surfaces`` these read and write surfaces.
    """
    if gpu is None:
        return HostCosts(host)
    free, itemsize = gpu.memory_free or 0, DTYPES[precision].itemsize
    if net is None:
        return GpuCosts(free, itemsize)
    return CompactCosts(free, itemsize, net.architecture, len(net.layers), precision == "fp8", on_surfaces)
