"""What of a job can be done on a GPU, and what stands in for the rest."""

from __future__ import annotations

import attrs

from rave_trio import errors
from rave_trio.devices.nvidia import Gpu, VideoEngines
from rave_trio.frames import SurfaceDescriptor
from rave_trio.media.encoders import EncoderSettings
from rave_trio.media.nvdec_formats import nvdec_refusal, nvdec_surface
from rave_trio.media.probe import MediaInfo
from rave_trio.options import UpscaleOptions

GPU_ITEM_SIZES = {"fp16": 2, "fp32": 4}
"""Bytes of an element by precision."""


@attrs.frozen
class Decoding:
    """Who decodes, and what comes out."""

    decoder: str
    """``libav`` or ``nvdec``."""
    surface: SurfaceDescriptor
    notes: tuple[str, ...] = ()


def gpu_precision(asked: str) -> str:
    """The precision to run in on a GPU: fp16 unless fp32 is asked for.  Raises PrecisionUnsupported for others."""
    precision = "fp16" if asked == "auto" else asked
    if precision not in GPU_ITEM_SIZES:
        raise errors.PrecisionUnsupported(
            f"{asked} is not computed on GPUs here", remedy="use --precision fp16 or fp32, or --device cpu"
        )
    return precision


def gpu_obstacle(media: MediaInfo, encoder: EncoderSettings, options: UpscaleOptions) -> str | None:
    """Why the pictures of this job cannot go through a GPU, if they cannot."""
    from rave_trio.color.cuda.planes import device_layout_of

    for surface in (media.video.surface, encoder.surface):
        try:
            device_layout_of(surface.pixel_format.name)
        except errors.InputFormatUnsupported as error:
            return str(error)
    return None


def choose_decoder(gpu: Gpu | None, media: MediaInfo, options: UpscaleOptions) -> Decoding:
    """Who decodes: the GPU's own decoder where it can, else libav on the CPU, with an upload, and a note why."""
    if gpu is None:
        return Decoding("libav", media.video.surface)
    engines = gpu.video or VideoEngines()
    refusal = engines.notes[0] if engines.notes and not engines.decoders else None
    refusal = refusal or nvdec_refusal(media, engines, options.deinterlace)
    if refusal is not None:
        return Decoding("libav", media.video.surface, (f"decoded on the CPU: {refusal}",))
    return Decoding("nvdec", nvdec_surface(media))
