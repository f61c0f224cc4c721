"""Intent x media x device -> plan: all that is decided before anything runs, or one refusal that says what to change.

The plan is a frozen value, and the same intent, media and device give the same plan.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from rave_trio import errors
from rave_trio.choice import Choice, choose
from rave_trio.color import HD_LINES, range_of
from rave_trio.color.dither import MOST_BITS
from rave_trio.contract import RunContract
from rave_trio.costs import Costs, costs_of
from rave_trio.devices import CpuDevice
from rave_trio.devices.nvidia import Gpu
from rave_trio.fit import Fit, Geometries, Work, best_fit, fit_notes, whole_frames
from rave_trio.frames import UNSPECIFIED, ChromaLocation, ColorRange, ColorSpec, PixelFormat, SurfaceDescriptor
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
from rave_trio.graph import EncodeStage, StageGraph
from rave_trio.inference.catalogue import catalogue
from rave_trio.inference.compact.find import find_compact
from rave_trio.inference.model import ModelMetadata
from rave_trio.inference.openvino_runtime import choose_precision
from rave_trio.intent import contract_of, graph_of
from rave_trio.media import chapters
from rave_trio.media.carriage import Carriage, Fate, plan_carriage
from rave_trio.media.containers import IMAGES, Container, images_of
from rave_trio.media.deinterlace import supported as can_be_deinterlaced
from rave_trio.media.encoders import (
    ENCODERS,
    IMAGE_ENCODER,
    EncoderSettings,
    check_encoder,
    choose_format,
    default_encoder,
    encoder_options,
    named_format,
)
from rave_trio.media.hdr import is_held_by
from rave_trio.media.probe import MediaInfo, probe
from rave_trio.media.tags import lost_file_tags, lost_tags
from rave_trio.observe.places import check_places
from rave_trio.options import UpscaleOptions
from rave_trio.output import check_output
from rave_trio.promises import check_contract, check_device, refused
from rave_trio.steps import Enhancing, StagePlan, Step, steps_of

if TYPE_CHECKING:
    from rave_trio.tuning import Tuning

RGB, BT709, BT601 = 0, 1, 6
"""Code points of H.273 for matrix coefficients."""

HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""Code points of H.273 for transfer characteristics."""

BACKGROUNDS = {"black": "#000000", "grey": "#808080", "white": "#ffffff"}


@attrs.frozen
class EnginePlan:
    """What will run.  Sizes in pixels, memory in bytes, rates in Hz."""

    options: UpscaleOptions
    media: MediaInfo
    container: Container
    carriage: tuple[Carriage, ...]
    background: tuple[float, float, float] | None
    host: CpuDevice
    gpu: Gpu | None
    """What computes, where that is not the host."""
    backend: str
    graph: StageGraph
    """What is done with every frame."""
    stages: tuple[StagePlan, ...]
    """What is done with tensors, in order."""
    precision: str
    decoder: str
    """``libav`` or ``nvdec``."""
    surface: SurfaceDescriptor
    """What the decoder gives out."""
    fit: Fit
    encoder: EncoderSettings
    contract: RunContract
    notes: tuple[str, ...]
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

    Blocking, takes well under a second.

    Raises the one RaveError that explains why the run cannot be.
    """
    container = check_output(options)
    check_places(options)
    graph, contract = graph_of(options), contract_of(options)
    decode = graph.decode
    media = probe(options.input, video_stream=decode.video_stream, frame_rate=decode.frame_rate)
    source = media.video.surface
    background = _background(decode.background, media)
    picture = source.pixel_format.name, source.width, source.height
    if graph.deinterlace == "bwdif" and not can_be_deinterlaced(*picture):
        raise errors.InputFormatUnsupported(
            f"{media.path} is {picture[1]}x{picture[2]} {picture[0]}, which cannot be deinterlaced",
            remedy="use --deinterlace off",
        )
    steps = steps_of(graph, source)
    settings = functools.partial(_encoder_settings, graph.encode, options.output, media, container, steps[-1].target)
    encoder = settings()
    models = [step.model.metadata for step in steps if isinstance(step, Enhancing)]
    paths = [model.path for model in models]
    choice = _choose(
        options,
        contract,
        lambda: gpu_obstacle(media, encoder),
        lambda backend, _: unsuited(backend, paths, graph.precision, options),
    )
    encoding = Encoding(encoder)
    if graph.encode.codec is None and graph.encode.pixel_format is None:
        encoding = choose_encoder(choice.gpu, encoder, settings)
    encoder = encoding.settings
    check_gpu_encoder(choice.gpu, encoder)
    _check_parallel(options, choice, steps)
    if choice.gpu is None or ENCODERS[encoder.encoder].software is None:
        check_encoder(encoder)
    precision = choose_precision(graph.precision) if choice.gpu is None else gpu_precision(graph.precision)
    decoding = choose_decoder(choice.gpu, media, graph)
    carriage = plan_carriage(media, container, encoder, drop_unsupported=options.drop_unsupported)

    notes = [
        *_media_notes(media, graph, options.output),
        *(c.note for c in carriage if c.note),
        *_label_notes(media, carriage, container),
    ]
    notes += [
        *_color_notes(source, encoder.surface, dither=bool(graph.encode.dither)),
        *_hdr_notes(media, encoder, models),
    ]
    notes += [*choice.notes, *decoding.notes, *encoding.notes]
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
    return plan, steps


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
    return Work(
        steps=steps,
        source=source,
        target=target,
        precision=precision,
        costs=costs_of(choice.host, choice.gpu, precision),
        networks=networks_of(choice, precision, steps),
        streams=options.streams,
        batch=options.batch,
        stall_timeout=options.stall_timeout,
    )


def networks_of(choice: Choice, precision: str, steps: tuple[Step, ...]) -> tuple[Costs, ...]:
    """What each model costs where it runs; our own kernels, where they are the backend, need less."""
    ours = choice.backend == "compact"
    models = (step.model.metadata.path for step in steps if isinstance(step, Enhancing))
    nets = (find_compact(path) if ours else None for path in models)
    return tuple(costs_of(choice.host, choice.gpu, precision, net) for net in nets)


def _check_parallel(options: UpscaleOptions, choice: Choice, steps: tuple[Step, ...]) -> None:
    """Raises UsageError for streams or batches that cannot be where the job runs."""
    streams, batch, cores = options.streams or 1, options.batch or 1, choice.host.cores
    if choice.gpu is None and batch > 1:
        raise errors.UsageError(
            "the CPU computes pictures one by one on each stream", remedy="use --batch 1, and --streams for several"
        )
    if choice.gpu is None and streams > cores:
        raise errors.UsageError(f"{cores} cores cannot keep {streams} streams busy", remedy=f"use --streams {cores}")
    for step in steps:
        if batch > 1 and isinstance(step, Enhancing) and not step.model.takes_batches:
            raise errors.UsageError(
                f"model {step.model.metadata.name} may not compute several pictures as it does each alone",
                remedy="use --batch 1, and --streams for several",
            )


def _encoder_settings(
    stage: EncodeStage,
    output: Path,
    media: MediaInfo,
    container: Container,
    target: SurfaceDescriptor,
    encoder: str | None = None,
) -> EncoderSettings:
    """For pictures of the size and pixel aspect ratio of ``target``."""
    source = media.video.surface
    name = (
        encoder or stage.codec or default_encoder(container, high_dynamic_range=source.color.transfer in HDR_TRANSFERS)
    )
    if name not in ENCODERS:
        raise errors.UsageError(f"there is no encoder {name!r}", remedy=f"use --codec {'|'.join(ENCODERS)}")
    if (name == IMAGE_ENCODER) != (container is IMAGES):
        raise errors.UsageError(
            f"{output} cannot be made with --codec {name}",
            remedy=f"leave out --codec, or write to {'a video file' if container is IMAGES else 'out/%05d.png'}",
        )
    spec = ENCODERS[name]
    if stage.pixel_format is not None:
        pixel_format = named_format(name, stage.pixel_format)
    else:
        pixel_format = choose_format(name, source.pixel_format)
    color = output_color(source, pixel_format, target.height)
    if color.chroma_location not in spec.sitings:
        color = attrs.evolve(color, chroma_location=ChromaLocation.UNSPECIFIED)
    return EncoderSettings(
        encoder=name,
        options=encoder_options(spec, stage.crf, stage.preset, stage.effort),
        surface=attrs.evolve(target, pixel_format=pixel_format, color=color),
        rate=media.video.rate,
        time_base=media.video.time_base,
        hdr=media.video.hdr,
    )


def output_color(source: SurfaceDescriptor, pixel_format: PixelFormat, height: int) -> ColorSpec:
    """The output's colour tags: the input's, but for what no longer fits.

    RGB that becomes YUV and the other way round, and grey that becomes YUV, get the matrix and range that players
    assume, and say so.  Siting goes with the subsampling.
    """
    color, layout = source.color, source.pixel_format
    subsampling = (layout.chroma_shift_x, layout.chroma_shift_y)
    if (pixel_format.chroma_shift_x, pixel_format.chroma_shift_y) != subsampling or subsampling == (0, 0):
        color = attrs.evolve(color, chroma_location=ChromaLocation.UNSPECIFIED)
    if pixel_format.is_rgb and not layout.is_rgb:
        color = attrs.evolve(color, matrix=RGB, range=ColorRange.FULL)
    elif layout.is_rgb and not pixel_format.is_rgb:
        color = attrs.evolve(color, matrix=BT601 if height < HD_LINES else BT709, range=ColorRange.LIMITED)
    elif layout.is_grey and not pixel_format.is_grey:
        color = attrs.evolve(color, range=range_of(color, layout))
    if pixel_format.name.startswith("yuvj"):  # libav's formats of full range
        color = attrs.evolve(color, range=ColorRange.FULL)
    return color


def _background(background: str | None, media: MediaInfo) -> tuple[float, float, float] | None:
    """R, G and B in [0, 1] of what transparent pictures are laid on; None where the input has no alpha."""
    color = None if background is None else _parse_color(background)
    if not media.video.surface.pixel_format.has_alpha:
        return None
    if color is None:
        raise errors.InputFormatUnsupported(
            f"{media.path} has an alpha channel ({media.video.surface.pixel_format.name})",
            remedy="lay it on a colour with --background black, or white, or #rrggbb",
        )
    return color


def _parse_color(text: str) -> tuple[float, float, float]:
    code = BACKGROUNDS.get(text.lower(), text)
    if not re.fullmatch("#[0-9a-fA-F]{6}", code):
        raise errors.UsageError(
            f"there is no colour {text!r}", remedy=f"use --background {'|'.join(BACKGROUNDS)} or #rrggbb"
        )
    red, green, blue = bytes.fromhex(code[1:])
    return red / 255, green / 255, blue / 255


def _media_notes(media: MediaInfo, graph: StageGraph, output: Path) -> list[str]:
    notes = []
    if media.cut_short:
        notes.append("the input is cut short; what can be read of it will be in the partial file")
    notes += [f"{what} is not carried over" for what in media.video.uncarried]
    images = images_of(output)
    if images is not None and images.numbers():
        notes.append(f"pictures that {output} has under other numbers stay as they are")
    if media.video.interlaced and graph.deinterlace == "auto":
        notes.append("the video is flagged interlaced: frames so flagged are deinterlaced, one frame out for one in")
    elif media.video.interlaced and graph.deinterlace == "off":
        notes.append("the video is flagged interlaced and left so: networks are trained on whole frames")
    return notes


def _label_notes(media: MediaInfo, carriage: tuple[Carriage, ...], container: Container) -> list[str]:
    """What of the tags, flags and chapters gets lost."""
    if container is IMAGES:
        return ["numbered pictures hold no times, rotation, tags or chapters"]
    notes = chapters.notes(media.chapters, container)
    covered = any(c.stream.kind == "cover" and c.fate is Fate.COPIED for c in carriage)
    if lost := lost_file_tags(media.tags, container, covered=covered):
        notes.append(f"{container.extension} has no place for {' and '.join(lost)} beside cover art")
    for carried in carriage:
        stream = carried.stream
        if carried.fate in (Fate.DROPPED, Fate.ATTACHED) or stream.kind == "attachment":
            continue
        is_cover = stream.kind == "cover"
        lost = lost_tags(stream.tags, container, of_cover=is_cover)
        if not is_cover:
            lost += [f"the flag {flag}" for flag in stream.flags if flag not in container.dispositions]
        if lost:
            notes.append(
                f"{container.extension} has no place for {' and '.join(lost)} of stream #{stream.index} ({stream.kind})"
            )
    return notes


def _color_notes(source: SurfaceDescriptor, target: SurfaceDescriptor, *, dither: bool) -> list[str]:
    notes = []
    if source.pixel_format.name != target.pixel_format.name:
        notes.append(f"{source.pixel_format.name} becomes {target.pixel_format.name}")
    if dither and (bits := target.pixel_format.bit_depth) > MOST_BITS:
        notes.append(f"not dithered: {target.pixel_format.name} has {bits} bits, which show no steps")
    untagged = source.color.matrix == UNSPECIFIED and not source.pixel_format.is_rgb
    if untagged and source.height < HD_LINES <= target.height:
        notes.append("the input's colours are untagged: read as BT.601, written as BT.709, as players will assume")
    return notes


def _hdr_notes(media: MediaInfo, encoder: EncoderSettings, models: list[ModelMetadata]) -> list[str]:
    notes = []
    transfer = HDR_TRANSFERS.get(media.video.surface.color.transfer)
    if transfer and models:
        shipped = [model.name for model in models if model.name in catalogue()]
        trained = f"{shipped[0]} was" if shipped else "most models were"
        notes.append(f"the video is HDR ({transfer}) and {trained} trained on SDR: look at the result")
    if media.video.hdr is not None and not is_held_by(encoder.encoder, media.video.hdr):
        notes.append(f"{encoder.encoder} cannot hold the mastering display and light level metadata")
    return notes
