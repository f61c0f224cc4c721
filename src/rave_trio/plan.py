"""Intent x media x device -> plan: all that is decided before anything runs, or one refusal that says what to change.

The plan is a frozen value, and the same intent, media and device give the same plan.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from rave_trio import errors
from rave_trio.choice import Choice, choose
from rave_trio.color.dither import MOST_BITS
from rave_trio.contract import RunContract
from rave_trio.costs import Costs, costs_of
from rave_trio.devices import CpuDevice
from rave_trio.devices.nvidia import Gpu
from rave_trio.encoding import background_of, encoder_settings
from rave_trio.fit import Fit, Geometries, Work, best_fit, fit_notes, whole_frames
from rave_trio.frames import SurfaceDescriptor
from rave_trio.gpu.path import (
    Encoding,
    check_gpu_encoder,
    choose_decoder,
    choose_encoder,
    gpu_obstacle,
    gpu_precision,
    unsuited,
)
from rave_trio.gpu.transfers import PlannedCopy, planned_copies
from rave_trio.graph import StageGraph
from rave_trio.inference.compact.find import find_compact
from rave_trio.inference.model import ModelMetadata
from rave_trio.inference.openvino_runtime import choose_precision
from rave_trio.intent import contract_of, graph_of
from rave_trio.media.carriage import Carriage, plan_carriage
from rave_trio.media.containers import Container
from rave_trio.media.deinterlace import supported as can_be_deinterlaced
from rave_trio.media.encoders import (
    ENCODERS,
    EncoderSettings,
    check_encoder,
)
from rave_trio.media.probe import MediaInfo, probe
from rave_trio.observe.places import check_places
from rave_trio.options import UpscaleOptions
from rave_trio.output import check_output
from rave_trio.plan_notes import color_notes, deadline_notes, hdr_notes, label_notes, media_notes
from rave_trio.promises import check_contract, check_device, refused
from rave_trio.steps import Enhancing, StagePlan, Step, steps_of

if TYPE_CHECKING:
    from rave_trio.tuning import Tuning


@attrs.frozen
class EnginePlan:
    """What will run, as :func:`make_plan` decides it and a report has it.  A frozen value, for any thread.

    Sizes in pixels, memory in bytes, rates in Hz.
    """

    options: UpscaleOptions
    """What was asked for."""
    media: MediaInfo
    """The input, as probed."""
    container: Container
    """What the output is written into."""
    carriage: tuple[Carriage, ...]
    """What becomes of each stream, in the input's order."""
    background: tuple[float, float, float] | None
    """R, G and B in [0, 1] of what transparent pictures are laid on; None where the input has no alpha."""
    host: CpuDevice
    """The CPU, with the cores and the memory that this process may use."""
    gpu: Gpu | None
    """What computes, where that is not the host."""
    backend: str
    """``openvino``, ``compact``, ``onnxruntime``, ``tensorrt`` or ``tensorrt-rtx``."""
    graph: StageGraph
    """What is done with every frame."""
    stages: tuple[StagePlan, ...]
    """What is done with tensors, in order."""
    precision: str
    """``fp32``, ``bf16``, ``fp16`` or ``fp8``."""
    decoder: str
    """``libav`` or ``nvdec``."""
    surface: SurfaceDescriptor
    """What the decoder gives out."""
    fit: Fit
    """Streams, batches, tiles and queues, and the memory that they take."""
    encoder: EncoderSettings
    """The encoder, its options, and what surfaces it takes."""
    contract: RunContract
    """What the run has to keep."""
    notes: tuple[str, ...]
    """What a person should know, a line each."""
    tuning: Tuning | None = None
    """What batch and streams were chosen by; None where they were asked for, or are not a matter of measuring."""

    @property
    def models(self) -> tuple[ModelMetadata, ...]:
        """All models, in the order of their work."""
        return tuple(stage.model for stage in self.stages if stage.model is not None)

    @property
    def scale(self) -> int | None:
        """How many times larger the result is than the input, None where that is no integer."""
        source, target = self.media.video.surface, self.encoder.surface
        scale = target.width // source.width
        enlarged = source.width * scale, source.height * scale
        return scale if scale and enlarged == (target.width, target.height) else None

    @property
    def geometries(self) -> Geometries:
        """How frames are cut for each model."""
        return self.fit.geometries

    @property
    def streams(self) -> int:
        """Batches that each model works on at once; on the CPU frames or tiles."""
        return self.fit.streams

    @property
    def batch(self) -> int:
        """Frames or tiles that each stream computes at a time."""
        return self.fit.batch

    @property
    def device(self) -> CpuDevice | Gpu:
        """What computes."""
        return self.gpu or self.host

    @property
    def threads(self) -> int:
        """Of the host, for what runs there."""
        return self.host.cores

    def work(self, steps: tuple[Step, ...]) -> Work:
        """What the plan's arrangement was found for; ``steps`` are those that the plan came with."""
        choice = Choice(self.host, self.gpu, self.backend)
        return _work(self.options, choice, steps, self.surface, self.encoder.surface, self.precision)

    @property
    def dither(self) -> bool:
        """Whether samples are rounded by an ordered threshold, as asked for and where it can be seen."""
        return bool(self.graph.encode.dither) and self.encoder.surface.pixel_format.bit_depth <= MOST_BITS

    @property
    def depth(self) -> int:
        """Frames under way in the backend."""
        return self.fit.depth

    @property
    def copies(self) -> tuple[PlannedCopy, ...]:
        """Those between host and GPU that belong to every frame; none where all of it is on one of them."""
        if self.gpu is None:
            return ()
        by_nvenc = ENCODERS[self.encoder.encoder].software is not None
        source, target = self.surface, self.encoder.surface
        return planned_copies(source if self.decoder == "libav" else None, None if by_nvenc else target)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        surface = self.encoder.surface
        return {
            "input": self.media.as_dict(),
            "output": {
                "path": str(self.options.output),
                "container": self.container.muxer,
                "width": surface.width,
                "height": surface.height,
                "pixel_format": surface.pixel_format.name,
                "dither": self.dither,
                "encoder": self.encoder.encoder,
                "encoder_options": dict(self.encoder.options),
            },
            "carriage": [carriage.as_dict() for carriage in self.carriage],
            "graph": self.graph.as_dict(),
            "profile": self.options.profile,
            "contract": self.contract.as_dict(),
            "stages": self._described_stages(),
            "device": attrs.asdict(self.device),
            "host": attrs.asdict(self.host),
            "backend": self.backend,
            "decoder": self.decoder,
            "surface": self.surface.pixel_format.name,
            "precision": self.precision,
            "streams": self.streams,
            "batch": self.batch,
            "tuning": None if self.tuning is None else self.tuning.as_dict(),
            "channels": attrs.asdict(self.fit.pipeline),
            "memory_bytes": self.fit.memory,
            "memory_limit": self.memory_limit,
            "flops_per_frame": self.fit.flops,
            "expected_copies": [attrs.asdict(copy) for copy in self.copies],
            "notes": list(self.notes),
        }

    @property
    def memory_limit(self) -> int | None:
        """What memory is bounded to, by whoever asked for it or by the contract."""
        return _memory_limit(self.options, self.contract)

    @property
    def audited(self) -> bool:
        """Whether the run is watched, because that was asked for or because the contract lets it decide."""
        return self.options.audit or bool(self.contract.fail_on_audit_warn)

    def _described_stages(self) -> list[dict[str, Any]]:
        geometries = iter(self.geometries)
        return [
            stage.as_dict() | ({"tiles": attrs.asdict(next(geometries))} if stage.model else {})
            for stage in self.stages
        ]


def make_plan(options: UpscaleOptions) -> tuple[EnginePlan, tuple[Step, ...]]:
    """Decide everything, and hand over the models that were read on the way, each in its step.

    Blocking, any thread.  Takes well under a second where the CPU computes; on a GPU of which nothing is remembered it
    measures for some seconds what batch and streams are fastest.  Writes nothing.

    Raises the one RaveError that explains why the run cannot be.

    >>> from rave_trio import UpscaleOptions, make_plan
    >>> plan, steps = make_plan(UpscaleOptions("in.mkv", "out.mkv", scale=4, device="cpu"))
    >>> plan.backend, plan.scale, plan.encoder.encoder
    ('openvino', 4, 'libx264')
    """
    container = check_output(options)
    check_places(options)
    graph, contract = graph_of(options), contract_of(options)
    decode = graph.decode
    media = probe(options.input, video_stream=decode.video_stream, frame_rate=decode.frame_rate)
    source = media.video.surface
    background = background_of(decode.background, media)
    picture = source.pixel_format.name, source.width, source.height
    if graph.deinterlace == "bwdif" and not can_be_deinterlaced(*picture):
        raise errors.InputFormatUnsupported(
            f"{media.path} is {picture[1]}x{picture[2]} {picture[0]}, which cannot be deinterlaced",
            remedy="use --deinterlace off",
        )
    steps = steps_of(graph, source)
    settings = functools.partial(encoder_settings, graph.encode, options.output, media, container, steps[-1].target)
    encoder = settings()
    models = [step.model.metadata for step in steps if isinstance(step, Enhancing)]
    paths = [model.path for model in models]
    choice = _choose(
        options,
        contract,
        lambda: gpu_obstacle(media, encoder),
        lambda backend, gpu: unsuited(backend, paths, graph.precision, options, gpu),
    )
    encoding = Encoding(encoder)
    if graph.encode.codec is None and graph.encode.pixel_format is None:
        encoding = choose_encoder(choice.gpu, encoder, settings)
    encoder = encoding.settings
    check_gpu_encoder(choice.gpu, encoder)
    _check_parallel(options, choice, steps)
    if choice.gpu is None or ENCODERS[encoder.encoder].software is None:
        check_encoder(encoder)
    precision, why = precision_of(choice, graph.precision, paths)
    decoding = choose_decoder(choice.gpu, media, graph)
    carriage = plan_carriage(media, container, encoder, drop_unsupported=options.drop_unsupported)

    notes = [
        *media_notes(media, graph, options.output),
        *(c.note for c in carriage if c.note),
        *label_notes(media, carriage, container),
    ]
    notes += [
        *color_notes(source, encoder.surface, dither=bool(graph.encode.dither)),
        *hdr_notes(media, encoder, models),
    ]
    notes += [*choice.notes, *why, *decoding.notes, *encoding.notes]
    work = _work(options, choice, steps, decoding.surface, encoder.surface, precision)
    limit = _memory_limit(options, contract)
    fit = _fit(work, options, contract)
    notes += fit_notes(fit, work, limit)
    check_contract(contract, gpu=choice.gpu, tied=limit is not None or fit.geometries == whole_frames(work))
    plan = EnginePlan(
        options=options,
        media=media,
        container=container,
        carriage=carriage,
        background=background,
        host=choice.host,
        gpu=choice.gpu,
        backend=choice.backend,
        graph=graph,
        contract=contract,
        stages=tuple(step.planned for step in steps),
        precision=precision,
        decoder=decoding.decoder,
        surface=decoding.surface,
        fit=fit,
        encoder=encoder,
        notes=tuple(notes),
    )
    if _is_tuned(plan):
        from rave_trio.tuning import tuned  # which imports what carries plans out

        plan = tuned(plan, steps)
    return attrs.evolve(plan, notes=(*plan.notes, *deadline_notes(plan.fit.pipeline))), steps


def _is_tuned(plan: EnginePlan) -> bool:
    """Whether batch and streams are chosen by measuring: for one model on a GPU, unless the output has to be the same
    in every run, which what is measured is not.
    """
    asked = None not in (plan.options.batch, plan.options.streams)
    return plan.gpu is not None and not asked and len(plan.models) == 1 and not plan.contract.deterministic_output


def _choose(
    options: UpscaleOptions,
    contract: RunContract,
    obstacle: Callable[[], str | None],
    unsuited: Callable[[str, Gpu], str | None],
) -> Choice:
    """What computes; where nobody asked for a device, what the contract does."""
    wanted = contract.requested_device
    if options.device != "auto" or wanted is None:
        return check_device(contract, choose(options.device, options.backend, obstacle, unsuited))
    try:
        return check_device(contract, choose(wanted, options.backend, obstacle, unsuited))
    except errors.PrecisionUnsupported:
        raise
    except errors.DeviceError as error:
        raise refused("requested_device", str(error), remedy=error.remedy) from error


def _fit(work: Work, options: UpscaleOptions, contract: RunContract) -> Fit:
    """The arrangement.  Raises ContractRefused where the contract's limit is what is too small."""
    limit = _memory_limit(options, contract)
    try:
        return best_fit(work, limit)
    except errors.OutOfMemory as error:
        if limit != contract.memory_limit or limit == options.vram_limit:
            raise
        raise refused("max_memory", str(error)) from error


def _memory_limit(options: UpscaleOptions, contract: RunContract) -> int | None:
    limits = [limit for limit in (options.vram_limit, contract.memory_limit) if limit is not None]
    return min(limits, default=None)


def _work(
    options: UpscaleOptions,
    choice: Choice,
    steps: tuple[Step, ...],
    source: SurfaceDescriptor,
    target: SurfaceDescriptor,
    precision: str,
) -> Work:
    on_surfaces = choice.backend == "compact" and _takes_whole_frames(steps)
    return Work(
        steps=steps,
        source=source,
        target=target,
        precision=precision,
        costs=costs_of(choice.host, choice.gpu, precision),
        networks=networks_of(choice, precision, steps, on_surfaces=on_surfaces),
        streams=options.streams,
        batch=options.batch,
        stall_timeout=options.stall_timeout,
        batch_deadline=options.batch_deadline_ms / 1000,
        on_surfaces=on_surfaces,
    )


def _takes_whole_frames(steps: tuple[Step, ...]) -> bool:
    """Whether one model is all that is done with a frame, and that not in tiles."""
    if len(steps) > 1 or not isinstance(steps[0], Enhancing):
        return False
    geometry, source = steps[0].geometry(steps[0].tile), steps[0].source
    return (geometry.tile_height, geometry.tile_width) == (source.height, source.width)


def precision_of(choice: Choice, asked: str, models: Sequence[Path]) -> tuple[str, tuple[str, ...]]:
    """The precision of all models, and notes why.  Raises PrecisionUnsupported."""
    if choice.gpu is not None:
        return gpu_precision(asked, choice.backend, models, choice.gpu)
    try:
        return choose_precision(asked), ()
    except errors.PrecisionUnsupported as error:
        raise errors.PrecisionUnsupported("; ".join([str(error), *choice.notes]), remedy=error.remedy) from error


def networks_of(
    choice: Choice, precision: str, steps: tuple[Step, ...], *, on_surfaces: bool = False
) -> tuple[Costs, ...]:
    """What each model costs where it runs; our own kernels, where they are the backend, need less.

    With ``on_surfaces`` these read and write surfaces.
    """
    ours = choice.backend == "compact"
    models = (step.model.metadata.path for step in steps if isinstance(step, Enhancing))
    nets = (find_compact(path) if ours else None for path in models)
    return tuple(costs_of(choice.host, choice.gpu, precision, net, on_surfaces=on_surfaces) for net in nets)


def _check_parallel(options: UpscaleOptions, choice: Choice, steps: tuple[Step, ...]) -> None:
    """Raises UsageError for streams or batches that cannot be where the job runs."""
    streams, batch, cores = options.streams or 1, options.batch or 1, choice.host.cores
    if choice.gpu is None and batch > 1:
        raise errors.UsageError(
            "the CPU computes pictures one by one on each stream", remedy="use --batch 1, and --streams for several"
        )
    if options.batch_deadline_ms and (choice.gpu is None or options.batch == 1):
        where = "with --batch 1" if choice.gpu is not None else "on the CPU"
        raise errors.UsageError(
            f"{where} pictures are computed one by one, and none waits for others",
            remedy="leave out --batch-deadline-ms",
        )
    if options.batch_deadline_ms / 1000 >= (options.stall_timeout or math.inf):
        raise errors.UsageError(
            f"a batch may not be waited for as long as a call may hang, {options.stall_timeout:g} s",
            remedy="use a smaller --batch-deadline-ms, or a larger --stall-timeout",
        )
    if choice.gpu is None and streams > cores:
        raise errors.UsageError(f"{cores} cores cannot keep {streams} streams busy", remedy=f"use --streams {cores}")
    for step in steps:
        if batch > 1 and isinstance(step, Enhancing) and not step.model.takes_batches:
            raise errors.UsageError(
                f"model {step.model.metadata.name} may not compute several pictures as it does each alone",
                remedy="use --batch 1, and --streams for several",
            )
