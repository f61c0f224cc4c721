"""Intent x media x device -> plan: all that is decided before anything runs, or one refusal that says what to change.

The plan is a frozen value, and the same intent, media and device give the same plan.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import attrs

from rave_trio import errors
from rave_trio.choice import Choice, choose
from rave_trio.color import HD_LINES, range_of
from rave_trio.color.dither import MOST_BITS
from rave_trio.costs import Costs, costs_of
from rave_trio.devices import CpuDevice
from rave_trio.devices.nvidia import Gpu
from rave_trio.fit import Fit, Work, best_fit, fit_notes
from rave_trio.frames import UNSPECIFIED, ChromaLocation, ColorRange, ColorSpec, PixelFormat, SurfaceDescriptor
from rave_trio.gpu.path import (
    Encoding,
    check_gpu_encoder,
    choose_decoder,
    choose_encoder,
    gpu_obstacle,
    gpu_precision,
)
from rave_trio.gpu.transfers import PlannedCopy, planned_copies
from rave_trio.inference.catalogue import catalogue, find_model, model_for_scale
from rave_trio.inference.model import Geometry, ModelMetadata
from rave_trio.inference.openvino_model import Model
from rave_trio.inference.openvino_runtime import choose_precision
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
    model: ModelMetadata
    precision: str
    decoder: str
    """``libav`` or ``nvdec``."""
    surface: SurfaceDescriptor
    """What the decoder gives out."""
    fit: Fit
    encoder: EncoderSettings
    notes: tuple[str, ...]
    tuning: Tuning | None = None
    """What batch and streams were chosen by; None where they were asked for, or are not a matter of measuring."""

    @property
    def geometry(self) -> Geometry:
        """How frames are cut for the model."""
        return self.fit.geometry

    @property
    def streams(self) -> int:
        """Batches that the model works on at once; on the CPU frames or tiles."""
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

    def work(self, model: Model) -> Work:
        """What the plan's arrangement was found for; ``model`` is the one that the plan came with."""
        costs = costs_of(self.host, self.gpu, self.precision)
        return _work(self.options, costs, model, self.surface, self.encoder.surface, self.precision)

    @property
    def dither(self) -> bool:
        """Whether samples are rounded by an ordered threshold, as asked for and where it can be seen."""
        return self.options.dither and self.encoder.surface.pixel_format.bit_depth <= MOST_BITS

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
            "deinterlace": self.options.deinterlace,
            "model": {
                "name": self.model.name,
                "scale": self.model.scale,
                "sha256": self.model.sha256,
                "input_channels": self.model.input_channels,
                "output_channels": self.model.output_channels,
            },
            "device": attrs.asdict(self.device),
            "host": attrs.asdict(self.host),
            "backend": self.backend,
            "decoder": self.decoder,
            "surface": self.surface.pixel_format.name,
            "precision": self.precision,
            "tiles": attrs.asdict(self.geometry),
            "streams": self.streams,
            "batch": self.batch,
            "tuning": None if self.tuning is None else self.tuning.as_dict(),
            "channels": attrs.asdict(self.fit.pipeline),
            "memory_bytes": self.fit.memory,
            "memory_limit": self.options.vram_limit,
            "flops_per_frame": self.fit.flops,
            "expected_copies": [attrs.asdict(copy) for copy in self.copies],
            "notes": list(self.notes),
        }


def make_plan(options: UpscaleOptions) -> tuple[EnginePlan, Model]:
    """Decide everything, and hand over the model that was read on the way.  Blocking, takes well under a second.

    Raises the one RaveError that explains why the run cannot be.
    """
    container = check_output(options)
    check_places(options)
    media = probe(options.input, video_stream=options.video_stream, frame_rate=options.frame_rate)
    source = media.video.surface
    background = _background(options, media)
    picture = source.pixel_format.name, source.width, source.height
    if options.deinterlace == "bwdif" and not can_be_deinterlaced(*picture):
        raise errors.InputFormatUnsupported(
            f"{media.path} is {picture[1]}x{picture[2]} {picture[0]}, which cannot be deinterlaced",
            remedy="use --deinterlace off",
        )
    model = _find_model(options)
    encoder = _encoder_settings(options, media, container, model.metadata.scale)
    choice = choose(options.device, options.backend, lambda: gpu_obstacle(media, encoder))
    encoding = Encoding(encoder)
    if options.codec is None and options.pixel_format is None:
        make = functools.partial(_encoder_settings, options, media, container, model.metadata.scale)
        encoding = choose_encoder(choice.gpu, encoder, make)
    encoder = encoding.settings
    check_gpu_encoder(choice.gpu, encoder)
    _check_parallel(options, choice, model)
    if choice.gpu is None or ENCODERS[encoder.encoder].software is None:
        check_encoder(encoder)
    precision = choose_precision(options.precision) if choice.gpu is None else gpu_precision(options.precision)
    decoding = choose_decoder(choice.gpu, media, options)
    carriage = plan_carriage(media, container, encoder, drop_unsupported=options.drop_unsupported)

    notes = [
        *_media_notes(media, options),
        *(c.note for c in carriage if c.note),
        *_label_notes(media, carriage, container),
    ]
    notes += [
        *_color_notes(source, encoder.surface, dither=options.dither),
        *_hdr_notes(media, encoder, model.metadata),
    ]
    notes += [*choice.notes, *decoding.notes, *encoding.notes]
    costs = costs_of(choice.host, choice.gpu, precision)
    work = _work(options, costs, model, decoding.surface, encoder.surface, precision)
    fit = best_fit(work, options.vram_limit)
    notes += fit_notes(fit, work, options.vram_limit)
    plan = EnginePlan(
        options=options,
        media=media,
        container=container,
        carriage=carriage,
        background=background,
        host=choice.host,
        gpu=choice.gpu,
        backend=choice.backend,
        model=model.metadata,
        precision=precision,
        decoder=decoding.decoder,
        surface=decoding.surface,
        fit=fit,
        encoder=encoder,
        notes=tuple(notes),
    )
    if plan.gpu is not None and None in (options.batch, options.streams):
        from rave_trio.tuning import tuned  # which imports what carries plans out

        plan = tuned(plan, model)
    return plan, model


def _work(
    options: UpscaleOptions,
    costs: Costs,
    model: Model,
    source: SurfaceDescriptor,
    target: SurfaceDescriptor,
    precision: str,
) -> Work:
    return Work(
        model=model,
        source=source,
        target=target,
        precision=precision,
        costs=costs,
        tile=options.tile,
        streams=options.streams,
        batch=options.batch,
        stall_timeout=options.stall_timeout,
    )


def _check_parallel(options: UpscaleOptions, choice: Choice, model: Model) -> None:
    """Raises UsageError for streams or batches that cannot be where the job runs."""
    streams, batch, cores = options.streams or 1, options.batch or 1, choice.host.cores
    if choice.gpu is None and batch > 1:
        raise errors.UsageError(
            "the CPU computes pictures one by one on each stream", remedy="use --batch 1, and --streams for several"
        )
    if choice.gpu is None and streams > cores:
        raise errors.UsageError(f"{cores} cores cannot keep {streams} streams busy", remedy=f"use --streams {cores}")
    if batch > 1 and not model.takes_batches:
        raise errors.UsageError(
            f"model {model.metadata.name} may not compute several pictures as it does each alone",
            remedy="use --batch 1, and --streams for several",
        )


def _find_model(options: UpscaleOptions) -> Model:
    if options.model is None:
        entry = model_for_scale(options.scale or 2)
        return Model(entry.name, entry.path)
    model = Model(*find_model(options.model))
    if options.scale is not None and options.scale != model.metadata.scale:
        raise errors.ModelScaleMismatch(
            f"model {model.metadata.name} enlarges {model.metadata.scale} times, not {options.scale} times"
        )
    return model


def _encoder_settings(
    options: UpscaleOptions, media: MediaInfo, container: Container, scale: int, encoder: str | None = None
) -> EncoderSettings:
    source = media.video.surface
    name = (
        encoder
        or options.codec
        or default_encoder(container, high_dynamic_range=source.color.transfer in HDR_TRANSFERS)
    )
    if name not in ENCODERS:
        raise errors.UsageError(f"there is no encoder {name!r}", remedy=f"use --codec {'|'.join(ENCODERS)}")
    if (name == IMAGE_ENCODER) != (container is IMAGES):
        raise errors.UsageError(
            f"{options.output} cannot be made with --codec {name}",
            remedy=f"leave out --codec, or write to {'a video file' if container is IMAGES else 'out/%05d.png'}",
        )
    spec = ENCODERS[name]
    if options.pixel_format is not None:
        pixel_format = named_format(name, options.pixel_format)
    else:
        pixel_format = choose_format(name, source.pixel_format)
    height = source.height * scale
    color = output_color(source, pixel_format, height)
    if color.chroma_location not in spec.sitings:
        color = attrs.evolve(color, chroma_location=ChromaLocation.UNSPECIFIED)
    return EncoderSettings(
        encoder=name,
        options=encoder_options(spec, options.crf, options.preset),
        surface=attrs.evolve(source, width=source.width * scale, height=height, pixel_format=pixel_format, color=color),
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


def _background(options: UpscaleOptions, media: MediaInfo) -> tuple[float, float, float] | None:
    """R, G and B in [0, 1] of what transparent pictures are laid on; None where the input has no alpha."""
    color = None if options.background is None else _parse_color(options.background)
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


def _media_notes(media: MediaInfo, options: UpscaleOptions) -> list[str]:
    notes = []
    if media.cut_short:
        notes.append("the input is cut short; what can be read of it will be in the partial file")
    notes += [f"{what} is not carried over" for what in media.video.uncarried]
    images = images_of(options.output)
    if images is not None and images.numbers():
        notes.append(f"pictures that {options.output} has under other numbers stay as they are")
    if media.video.interlaced and options.deinterlace == "auto":
        notes.append("the video is flagged interlaced: frames so flagged are deinterlaced, one frame out for one in")
    elif media.video.interlaced and options.deinterlace == "off":
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


def _hdr_notes(media: MediaInfo, encoder: EncoderSettings, model: ModelMetadata) -> list[str]:
    notes = []
    transfer = HDR_TRANSFERS.get(media.video.surface.color.transfer)
    if transfer:
        trained = f"{model.name} was" if model.name in catalogue() else "most models were"
        notes.append(f"the video is HDR ({transfer}) and {trained} trained on SDR: look at the result")
    if media.video.hdr is not None and not is_held_by(encoder.encoder, media.video.hdr):
        notes.append(f"{encoder.encoder} cannot hold the mastering display and light level metadata")
    return notes
