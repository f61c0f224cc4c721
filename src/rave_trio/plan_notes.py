"""What the user should know of a plan before it runs."""

from __future__ import annotations

from pathlib import Path

from rave_trio.color import HD_LINES
from rave_trio.color.dither import MOST_BITS
from rave_trio.encoding import HDR_TRANSFERS
from rave_trio.frames import UNSPECIFIED, SurfaceDescriptor
from rave_trio.graph import StageGraph
from rave_trio.inference.catalogue import catalogue
from rave_trio.inference.model import ModelMetadata
from rave_trio.media import chapters
from rave_trio.media.carriage import Carriage, Fate
from rave_trio.media.containers import IMAGES, Container, images_of
from rave_trio.media.encoders import (
    EncoderSettings,
)
from rave_trio.media.hdr import is_held_by
from rave_trio.media.probe import MediaInfo
from rave_trio.media.tags import lost_file_tags, lost_tags
from rave_trio.pipeline import PipelineConfig


def media_notes(media: MediaInfo, graph: StageGraph, output: Path) -> list[str]:
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


def label_notes(media: MediaInfo, carriage: tuple[Carriage, ...], container: Container) -> list[str]:
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


def color_notes(source: SurfaceDescriptor, target: SurfaceDescriptor, *, dither: bool) -> list[str]:
    notes = []
    if source.pixel_format.name != target.pixel_format.name:
        notes.append(f"{source.pixel_format.name} becomes {target.pixel_format.name}")
    if dither and (bits := target.pixel_format.bit_depth) > MOST_BITS:
        notes.append(f"not dithered: {target.pixel_format.name} has {bits} bits, which show no steps")
    untagged = source.color.matrix == UNSPECIFIED and not source.pixel_format.is_rgb
    if untagged and source.height < HD_LINES <= target.height:
        notes.append("the input's colours are untagged: read as BT.601, written as BT.709, as players will assume")
    return notes


def deadline_notes(pipeline: PipelineConfig) -> list[str]:
    if not pipeline.batch_deadline or pipeline.batch_frames > 1:
        return []
    return ["--batch-deadline-ms has no effect: every frame is started at once, none waits for others"]


def hdr_notes(media: MediaInfo, encoder: EncoderSettings, models: list[ModelMetadata]) -> list[str]:
    notes = []
    transfer = HDR_TRANSFERS.get(media.video.surface.color.transfer)
    if transfer and models:
        shipped = [model.name for model in models if model.name in catalogue()]
        trained = f"{shipped[0]} was" if shipped else "most models were"
        notes.append(f"the video is HDR ({transfer}) and {trained} trained on SDR: look at the result")
    if media.video.hdr is not None and not is_held_by(encoder.encoder, media.video.hdr):
        notes.append(f"{encoder.encoder} cannot hold the mastering display and light level metadata")
    return notes
