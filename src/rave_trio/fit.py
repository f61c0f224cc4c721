"""How much may be under way at once: the streams, tiles and queues whose memory fits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs

from rave_trio import errors
from rave_trio.costs import Costs
from rave_trio.frames import SurfaceDescriptor
from rave_trio.inference.device_batches import together
from rave_trio.inference.model import Geometry
from rave_trio.pipeline import PipelineConfig
from rave_trio.resizing import RESIZER_DEPTH
from rave_trio.steps import Enhancing, Resizing, Step

SMALLEST_TILE = 128

SMALLEST_STRIP = 32
"""Rows; what a layer computes beyond them would be more than the strip itself."""

SHORTEST_CHANNELS = PipelineConfig(decoded_capacity=1, preprocessed_capacity=1, upscaled_capacity=1)

STALL_TIMEOUT = 60.0
"""Seconds that any call may take."""


@attrs.frozen
class Work:
    """What is to be done for every frame, and with what."""

    steps: tuple[Step, ...]
    source: SurfaceDescriptor
    target: SurfaceDescriptor
    precision: str
    costs: Costs
    networks: tuple[Costs, ...]
    """The same for each model: what runs it may differ in what it needs."""
    streams: int | None
    """As many as were asked for."""
    batch: int | None
    """Pictures at a time on each stream, if that was asked for."""
    stall_timeout: float | None
    """The limit that was asked for, in seconds."""
    batch_deadline: float = 0.0
    """Seconds for which a batch may be waited for."""
    on_surfaces: bool = False
    """Whether the one model takes surfaces and gives surfaces, with no tensors between the stages."""

    @property
    def enhancing(self) -> tuple[Enhancing, ...]:
        """The steps that are models."""
        return tuple(step for step in self.steps if isinstance(step, Enhancing))


Geometries = tuple[Geometry, ...]
"""Of the models of a run, in their order."""


@attrs.frozen
class Fit:
    """An arrangement and what it takes.  Memory in bytes."""

    geometries: Geometries
    streams: int
    """Batches that are computed at once."""
    batch: int
    """Pictures that each stream computes at a time: whole frames or tiles."""
    depth: int
    """Frames under way in the backend."""
    pipeline: PipelineConfig
    network: int
    """The weights and all streams' activations of all models, as estimated from their graphs."""
    tensors: int
    """All tensors that can exist at once, and what tiles are cut into."""
    decoder_surfaces: int
    """The decoder's pictures that can exist at once, in its own hands and in those of what comes after."""
    encoder_surfaces: int
    """The same before and in the encoder, whose lookahead is a guess."""
    decoder_own: int
    """What the decoder holds besides, as estimated."""
    flops: int
    """For one frame."""

    @property
    def memory(self) -> int:
        """All that may be held at once."""
        return self.network + self.tensors + self.decoder_surfaces + self.encoder_surfaces + self.decoder_own


def best_fit(work: Work, limit: int | None) -> Fit:
    """The first arrangement whose memory fits into ``limit``, or else into the budget.

    Streams are given up before tiles are made smaller, and tiles before the channels are.  Raises OutOfMemory if the
    limit is too small for any; without one, the smallest arrangement is tried.
    """
    budget = work.costs.budget if limit is None else limit
    smallest = None
    for fit in _arrangements(work, shrink_channels=limit is not None):
        if fit.memory <= budget:
            return fit
        smallest = fit if smallest is None or fit.memory < smallest.memory else smallest
    assert smallest is not None
    if limit is not None:
        several = {"--batch": smallest.batch, "--streams": smallest.streams}
        less = ["--tile", *(flag for flag, count in several.items() if count > 1)]
        raise errors.OutOfMemory(
            f"this needs at least {_mebibytes(smallest.memory)}, more than the limit of {_limit(budget)}",
            remedy=f"use --vram-limit {_mebibytes(smallest.memory)}, or a smaller {' or '.join(less)}",
        )
    return smallest


def fit_with(
    work: Work, fit: Fit, limit: int | None, *, streams: int, batch: int, channels: PipelineConfig | None = None
) -> Fit | None:
    """``fit`` with other streams and batches; None if their memory does not fit into ``limit`` or the budget.

    ``channels`` are those to have in place of what is usual for so many at once.
    """
    other = _arrange(work, fit.geometries, streams, batch, channels)
    return other if other.memory <= (work.costs.budget if limit is None else limit) else None


def retreats(work: Work, fit: Fit) -> Iterator[tuple[Geometries, int, int]]:
    """Tiles, streams and batch for when memory runs out after all: the plan's, then one at a time, then smaller tiles.

    Also where more was asked for: a run that goes on slowly is better than one that ends.
    """
    yield fit.geometries, fit.streams, fit.batch
    if fit.streams * fit.batch > 1:
        yield fit.geometries, 1, 1
    for smaller in _smaller(work, fit.geometries):
        yield smaller, 1, 1


def fit_notes(fit: Fit, work: Work, limit: int | None) -> list[str]:
    """What the user should know of it."""
    notes = []
    for step, geometry in zip(work.enhancing, fit.geometries, strict=True):
        if not geometry.seamless:
            reach = "an unknown distance" if geometry.reach is None else f"up to {geometry.reach} pixels"
            name = step.model.metadata.name
            notes.append(f"{name} looks {reach} far, its tiles overlap by {geometry.overlap}: faint seams are possible")
    if limit is None and fit.memory > work.costs.budget:
        notes.append(f"about {fit.memory / 1e9:.1f} GB may be needed, more than {work.costs.where}")
    return notes


def whole_frames(work: Work) -> Geometries:
    """The tiles that were asked for, or none."""
    return tuple(step.geometry(step.tile) for step in work.enhancing)


def _arrangements(work: Work, *, shrink_channels: bool) -> Iterator[Fit]:
    """All that is worth trying, the best first."""
    streams, batch = work.costs.streams() if work.streams is None else (work.streams,), work.batch or 1
    whole = smallest = whole_frames(work)
    for geometries in itertools.chain([whole], _smaller(work, whole, but_asked=True)):
        smallest = geometries
        for count in streams:
            yield _arrange(work, geometries, count, batch)
    if shrink_channels:
        yield _arrange(work, smallest, streams[-1], batch, SHORTEST_CHANNELS)


def _smaller(work: Work, geometries: Geometries, *, but_asked: bool = False) -> Iterator[Geometries]:
    """Strips and tiles that take ever less memory; ``but_asked`` leaves the tiles that were asked for."""
    while True:
        smaller = tuple(
            _smaller_strip(geometry)
            if costs.in_strips
            else geometry
            if but_asked and step.tile
            else _smaller_tile(step, geometry)
            for step, geometry, costs in zip(work.enhancing, geometries, work.networks, strict=True)
        )
        if smaller == geometries:
            return
        geometries = smaller
        yield geometries


def _smaller_strip(geometry: Geometry) -> Geometry:
    """Half as high, or the same where that cannot be."""
    rows = -(-geometry.strip_rows // 2)
    return attrs.evolve(geometry, strip=rows) if rows >= SMALLEST_STRIP else geometry


def _smaller_tile(step: Enhancing, geometry: Geometry) -> Geometry:
    """Half as large, or the same where that cannot be."""
    smaller = max(geometry.tile_height, geometry.tile_width) // 2
    if step.model.metadata.height is not None or smaller < SMALLEST_TILE:
        return geometry
    try:
        return step.geometry(smaller)
    except errors.ModelUnsupported:
        return geometry


def _arrange(
    work: Work, geometries: Geometries, streams: int, batch: int, channels: PipelineConfig | None = None
) -> Fit:
    costs, models = work.costs, list(zip(work.enhancing, geometries, strict=True))
    loads = [step.model.load(geometry, work.precision) for step, geometry in models]
    flops = sum(load.flops * geometry.tiles for load, geometry in zip(loads, geometries, strict=True))
    under_way = _under_way(work, geometries, streams, batch)
    depth = sum(under_way)
    if channels is None:
        waiting = (each.waiting(g, streams, batch) for each, g in zip(work.networks, geometries, strict=True))
        channels = _channels(max(waiting, default=1))
    pipeline = attrs.evolve(
        channels,
        stall_timeout=_stall_timeout(work, flops * streams * batch),
        batch_deadline=work.batch_deadline,
        batch_frames=batch_frames(geometries, streams, batch),
    )
    # What goes in is held until its frame is done; between two steps lie what one has made and what the next is given.
    entering, leaving = pipeline.preprocessed_capacity + depth + 1, depth + 1
    tensors = 0
    if not work.on_surfaces:
        tensors = entering * costs.tensor(work.source)
        for step, made, taken in zip(work.steps, under_way, [*under_way[1:], 1], strict=True):
            tensors += (made + taken + 1) * costs.tensor(step.target)
        entering = leaving = 0
    staging = sum(
        each.staging(step, geometry, streams, batch)
        for each, (step, geometry) in zip(work.networks, models, strict=True)
    )
    staging += sum(costs.resizing(step.source, step.target) for step in work.steps if isinstance(step, Resizing))
    return Fit(
        geometries,
        streams,
        batch,
        depth,
        pipeline,
        network=sum(
            costs.network(geometry, load, streams, batch)
            for costs, geometry, load in zip(work.networks, geometries, loads, strict=True)
        ),
        tensors=tensors + staging,
        decoder_surfaces=(pipeline.decoded_capacity + 2 + entering) * costs.surface(work.source),
        encoder_surfaces=(pipeline.upscaled_capacity + 2 + costs.encoder_frames() + leaving)
        * costs.surface(work.target),
        decoder_own=costs.decoder_own(work.source),
        flops=flops,
    )


def _under_way(work: Work, geometries: Geometries, streams: int, batch: int) -> list[int]:
    """Frames under way in each step."""
    networks = zip(work.networks, geometries, strict=True)
    depths = iter([costs.depth(geometry, streams, batch) for costs, geometry in networks])
    return [next(depths) if isinstance(step, Enhancing) else RESIZER_DEPTH for step in work.steps]


def batch_frames(geometries: Geometries, streams: int, batch: int) -> int:
    """Frames that fill a batch on each stream of the first model; 1 where each frame fills batches by itself."""
    if not geometries or batch <= geometries[0].tiles:
        return 1
    return together(geometries[0], batch, streams)


def _channels(waiting: int) -> PipelineConfig:
    """Channels before and after the backend in which so many frames can wait."""
    usual = PipelineConfig()
    return attrs.evolve(
        usual,
        preprocessed_capacity=max(usual.preprocessed_capacity, waiting),
        upscaled_capacity=max(usual.upscaled_capacity, waiting),
    )


def _stall_timeout(work: Work, flops: int) -> float:
    """Seconds; more where a frame may honestly take longer.  ``flops`` are of all that is computed at once."""
    if work.stall_timeout is not None:
        return work.stall_timeout
    return max(STALL_TIMEOUT, round(flops / work.costs.slowest))


def _limit(nbytes: int) -> str:
    """In whole MiB, rounded down, so that it is below what does not fit."""
    return f"{nbytes // 2**20}MiB" if nbytes >= 2**20 else f"{nbytes} bytes"


def _mebibytes(nbytes: int) -> str:
    """In whole MiB, rounded up, as the limit is given."""
    return f"{-(-nbytes // 2**20)}MiB"
