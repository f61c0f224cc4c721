"""How much may be under way at once: the streams, tiles and queues whose memory fits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs

from rave_trio import errors
from rave_trio.devices import CpuDevice
from rave_trio.frames import SurfaceDescriptor
from rave_trio.inference.model import Geometry
from rave_trio.inference.openvino_backend import depth_for
from rave_trio.inference.openvino_model import Model
from rave_trio.memory.pool import bucket_size
from rave_trio.pipeline import PipelineConfig

MEMORY_SHARE = 0.5
"""Share of the host's memory that a plan may count on."""

ENCODER_FRAMES = 64
"""Output frames that an encoder may hold for lookahead and reordering: x264 medium holds 40 and a few per thread."""

FEW_CORES = 8
"""Below this many cores there are as many streams as halves of them, two at least; above, one for every four."""

SMALLEST_TILE = 128

SHORTEST_CHANNELS = {"decoded_capacity": 1, "preprocessed_capacity": 1, "upscaled_capacity": 1}

STALL_TIMEOUT = 60.0
"""Seconds that any call may take."""

SLOWEST_CORE = 5e9
"""Floating-point operations a second that even an old core does in a convolution; today's do ten times as many."""


@attrs.frozen
class Work:
    """What is to be done for every frame, and with what."""

    model: Model
    source: SurfaceDescriptor
    target: SurfaceDescriptor
    precision: str
    device: CpuDevice
    tile: int | None
    """The largest side of a tile that was asked for, in input pixels."""
    stall_timeout: float | None
    """The limit that was asked for, in seconds."""

    def geometry(self, tile: int | None) -> Geometry:
        """Frames in tiles of at most ``tile`` pixels a side, or whole.  Raises ModelUnsupported where it cannot be."""
        return self.model.geometry(self.source.height, self.source.width, tile, seamless=self.tile is not None)

    @property
    def budget(self) -> int:
        """Bytes that are used without asking."""
        return int(self.device.memory_bytes * MEMORY_SHARE)


@attrs.frozen
class Fit:
    """An arrangement and what it takes.  Memory in bytes."""

    geometry: Geometry
    streams: int
    pipeline: PipelineConfig
    network: int
    """The weights and all streams' activations, as estimated from the graph."""
    tensors: int
    """All tensors that can exist at once."""
    decoder_surfaces: int
    """The decoder's pictures that can exist at once, in its own hands and in those of what comes after."""
    encoder_surfaces: int
    """The same before and in the encoder, whose lookahead is a guess."""
    flops: int
    """For one frame."""

    @property
    def memory(self) -> int:
        """All that may be held at once."""
        return self.network + self.tensors + self.decoder_surfaces + self.encoder_surfaces


def best_fit(work: Work, limit: int | None) -> Fit:
    """The first arrangement whose memory fits into ``limit``, or else into the budget.

    Streams are given up before tiles are made smaller, and tiles before the channels are.  Raises OutOfMemory if the
    limit is too small for any; without one, the smallest arrangement is tried.
    """
    budget = work.budget if limit is None else limit
    smallest = None
    for fit in _arrangements(work, shrink_channels=limit is not None):
        if fit.memory <= budget:
            return fit
        smallest = fit if smallest is None or fit.memory < smallest.memory else smallest
    assert smallest is not None
    if limit is not None:
        raise errors.OutOfMemory(
            f"this needs at least {_mebibytes(smallest.memory)}, more than the limit of {_mebibytes(budget)}",
            remedy=f"use --vram-limit {_mebibytes(smallest.memory)}, or a smaller --tile",
        )
    return smallest


def retreats(work: Work, fit: Fit) -> Iterator[tuple[Geometry, int]]:
    """Tiles and streams for when memory runs out after all: those of the plan, then one stream, then smaller tiles."""
    geometry = fit.geometry
    yield geometry, fit.streams
    if fit.streams > 1:
        yield geometry, 1
    for smaller in _smaller_tiles(work, geometry):
        yield smaller, 1


def fit_notes(fit: Fit, work: Work, limit: int | None) -> list[str]:
    """What the user should know of it."""
    notes = []
    geometry = fit.geometry
    if not geometry.seamless:
        reach = "an unknown distance" if geometry.reach is None else f"up to {geometry.reach} pixels"
        name = work.model.metadata.name
        notes.append(f"{name} looks {reach} far, its tiles overlap by {geometry.overlap}: faint seams are possible")
    if limit is None and fit.memory > work.budget:
        needed, there = fit.memory / 1e9, work.device.memory_bytes / 1e9
        notes.append(f"about {needed:.1f} GB may be needed, more than half of the {there:.1f} GB here")
    return notes


def _arrangements(work: Work, *, shrink_channels: bool) -> Iterator[Fit]:
    """All that is worth trying, the best first."""
    cores = work.device.cores
    most = min(cores, max(2, cores // 2) if cores < FEW_CORES else cores // 4)
    whole = work.geometry(work.tile)
    geometries = itertools.chain([whole], () if work.tile else _smaller_tiles(work, whole))
    for geometry in geometries:
        smallest = geometry
        for streams in range(most, 0, -1):
            yield _arrange(work, geometry, streams)
    if shrink_channels:
        yield _arrange(work, smallest, 1, **SHORTEST_CHANNELS)


def _smaller_tiles(work: Work, geometry: Geometry) -> Iterator[Geometry]:
    """Halved again and again, as far as the model can be cut."""
    while work.model.metadata.height is None:
        smaller = max(geometry.tile_height, geometry.tile_width) // 2
        if smaller < SMALLEST_TILE:
            return
        try:
            geometry = work.geometry(smaller)
        except errors.ModelUnsupported:
            return
        yield geometry


def _arrange(work: Work, geometry: Geometry, streams: int, **capacities: int) -> Fit:
    load, depth = work.model.load(geometry, work.precision), depth_for(geometry, streams)
    flops = load.flops * geometry.tiles
    pipeline = PipelineConfig(stall_timeout=_stall_timeout(work, flops, streams), **capacities)
    tensor_in, tensor_out = (bucket_size(12 * s.width * s.height) for s in (work.source, work.target))
    return Fit(
        geometry,
        streams,
        pipeline,
        network=load.weight_bytes + (streams + 1) * load.activation_bytes,
        tensors=(pipeline.preprocessed_capacity + depth + 1) * tensor_in + (depth + 2) * tensor_out,
        decoder_surfaces=(pipeline.decoded_capacity + 2) * _surface_bytes(work.source),
        encoder_surfaces=(pipeline.upscaled_capacity + 2 + ENCODER_FRAMES) * _surface_bytes(work.target),
        flops=flops,
    )


def _stall_timeout(work: Work, flops: int, streams: int) -> float:
    """Seconds; more where a frame may honestly take longer, since all streams share the cores."""
    if work.stall_timeout is not None:
        return work.stall_timeout
    return max(STALL_TIMEOUT, round(flops * streams / (work.device.cores * SLOWEST_CORE)))


def _surface_bytes(surface: SurfaceDescriptor) -> int:
    layout = surface.pixel_format
    luma = surface.width * surface.height * (2 if layout.bit_depth > 8 else 1)
    return luma if layout.is_grey else luma + 2 * (luma >> (layout.chroma_shift_x + layout.chroma_shift_y))


def _mebibytes(nbytes: int) -> str:
    """In whole MiB, rounded up, as the limit is given."""
    return f"{-(-nbytes // 2**20)}MiB"
