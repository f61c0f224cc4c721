"""What of a job can be done on a GPU, and what stands in for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from rave_trio import errors
from rave_trio.devices.nvidia import Gpu, VideoEngines
from rave_trio.frames import SurfaceDescriptor
from rave_trio.graph import StageGraph
from rave_trio.inference.compact.find import find_compact
from rave_trio.inference.compact.graph import NotCompact
from rave_trio.inference.compact.kernel_sets import FP8_CAPABILITIES, computes_fp8
from rave_trio.inference.device_backend import DTYPES
from rave_trio.media.encoders import ENCODERS, EncoderSettings
from rave_trio.media.nvdec_formats import CONCEALED, nvdec_refusal, nvdec_surface
from rave_trio.media.nvenc_settings import nvenc_refusal
from rave_trio.media.probe import MediaInfo
from rave_trio.media.upload import upload_refusal
from rave_trio.options import UpscaleOptions

FP8_BY_COMPACT = f"it is by the backend compact alone, on GPUs of compute capability {FP8_CAPABILITIES}"

FP8_NOTE = "computed in fp8, the fastest; --precision fp16 is more exact"


@attrs.frozen
class Encoding:
    """Who encodes, and how."""

    settings: EncoderSettings
    notes: tuple[str, ...] = ()


@attrs.frozen
class Decoding:
    """Who decodes, and what comes out."""

    decoder: str
    """``libav`` or ``nvdec``."""
    surface: SurfaceDescriptor
    notes: tuple[str, ...] = ()


def gpu_precision(asked: str, backend: str, models: Sequence[Path], gpu: Gpu) -> tuple[str, tuple[str, ...]]:
    """The precision to run ``backend`` in, and notes why: fp16 unless another is asked for.  Blocks as unsuited does.

    Raises PrecisionUnsupported for one that no backend on a GPU computes.
    """
    if asked == "fastest":
        refusal = _fp8_refusal(models, gpu) if backend == "compact" else FP8_BY_COMPACT
        return ("fp8", (FP8_NOTE,)) if refusal is None else ("fp16", (f"computed in fp16 rather than fp8: {refusal}",))
    precision = "fp16" if asked == "auto" else asked
    if precision not in DTYPES:
        raise errors.PrecisionUnsupported(
            f"{asked} is not computed on GPUs here", remedy="use --precision fp16 or fp32, or --device cpu"
        )
    return precision, ()


def unsuited(backend: str, models: Sequence[Path], precision: str, options: UpscaleOptions, gpu: Gpu) -> str | None:
    """Why a backend on a GPU cannot do this job, if it cannot.  Of ``compact`` reads the models; blocks for that.

    Raises PrecisionUnsupported with the reason where the job is asked to be done in fp8.
    """
    refusal = _unsuited(backend, models, precision, options, gpu)
    if refusal is not None and precision == "fp8":
        raise errors.PrecisionUnsupported(
            f"fp8 cannot be computed here: {refusal}", remedy="use --precision auto, or fastest for fp8 where it can be"
        )
    return refusal


def _unsuited(backend: str, models: Sequence[Path], precision: str, options: UpscaleOptions, gpu: Gpu) -> str | None:
    if backend != "compact":
        return FP8_BY_COMPACT if precision == "fp8" else None
    if not models:
        return "there is no model to compute"
    if precision not in ("auto", "fastest", "fp16", "fp8"):
        return f"it does not compute {precision}"
    if (options.batch or 1) > 1 or (options.streams or 1) > 1:
        return "it computes frames one by one"
    for model in models:
        try:
            find_compact(model)
        except NotCompact as error:
            which = "this model" if len(models) == 1 else model.stem
            return f"{which} is not of the family: {error}"
    return _fp8_refusal(models, gpu) if precision == "fp8" else None


def _fp8_refusal(models: Sequence[Path], gpu: Gpu) -> str | None:
    """Why our kernels cannot compute models of the family in fp8, if they cannot."""
    if gpu.compute_capability is None or not computes_fp8(gpu.compute_capability):
        return FP8_BY_COMPACT
    if not all(find_compact(model).trunk for model in models):
        return "it takes a model of one layer or more between the first one and the last"
    return None


def gpu_obstacle(media: MediaInfo, encoder: EncoderSettings) -> str | None:
    """Why the pictures of this job cannot go through a GPU, if they cannot."""
    refusals = (upload_refusal(surface.pixel_format) for surface in (media.video.surface, encoder.surface))
    return next(filter(None, refusals), None)


def choose_decoder(gpu: Gpu | None, media: MediaInfo, graph: StageGraph) -> Decoding:
    """Who decodes: the GPU's own decoder where it can, else libav on the CPU, with an upload, and a note why."""
    if gpu is None:
        return Decoding("libav", media.video.surface)
    engines = gpu.video or VideoEngines()
    refusal = engines.notes[0] if engines.notes and not engines.decoders else None
    refusal = refusal or nvdec_refusal(media, engines, graph.deinterlace, strict=bool(graph.decode.strict))
    if refusal is not None:
        return Decoding("libav", media.video.surface, (f"decoded on the CPU: {refusal}",))
    return Decoding("nvdec", nvdec_surface(media), (CONCEALED,))


def choose_encoder(gpu: Gpu | None, settings: EncoderSettings, make: Callable[[str], EncoderSettings]) -> Encoding:
    """Who encodes where nobody was asked for: the GPU's own encoder of the same codec where it can, else as settled.

    ``make`` gives the settings for another encoder.  Where the GPU cannot, a note says why.
    """
    hardware = next((name for name, spec in ENCODERS.items() if spec.software == settings.encoder), None)
    if gpu is None or hardware is None:
        return Encoding(settings)
    made = make(hardware)
    refusal = _nvenc_refusal(gpu, made)
    return Encoding(made) if refusal is None else Encoding(settings, (f"encoded on the CPU: {refusal}",))


def check_gpu_encoder(gpu: Gpu | None, settings: EncoderSettings) -> None:
    """Raises UsageError if an encoder of GPUs was asked for that this one has not, or not for such pictures."""
    software = ENCODERS[settings.encoder].software
    if software is None or gpu is None:
        return
    if refusal := _nvenc_refusal(gpu, settings):
        raise errors.UsageError(f"{settings.encoder} cannot be used: {refusal}", remedy=f"use --codec {software}")


def _nvenc_refusal(gpu: Gpu, settings: EncoderSettings) -> str | None:
    return nvenc_refusal(ENCODERS[settings.encoder].codec, settings.surface, gpu.video or VideoEngines())
