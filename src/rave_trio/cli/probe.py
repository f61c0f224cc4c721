"""``rave-trio probe``: what is inside a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rave_trio.cli.flags import Common, Output
from rave_trio.cli.render import table

if TYPE_CHECKING:
    from rave_trio.media.probe import VideoInfo

DEFAULT_COMMON = Common()

MATRICES = {0: "RGB", 1: "BT.709", 2: "untagged", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M", 8: "YCgCo", 9: "BT.2020"}
PRIMARIES = {1: "BT.709", 2: "untagged", 5: "BT.601 (625 lines)", 6: "BT.601 (525 lines)", 9: "BT.2020", 12: "P3"}
TRANSFERS = {1: "BT.709", 2: "untagged", 6: "BT.601", 8: "linear", 13: "sRGB", 14: "BT.2020", 16: "PQ", 18: "HLG"}
"""Code points of ITU-T H.273 that are met."""


def probe(file: Path, /, *, common: Common = DEFAULT_COMMON) -> Output:
    """Show a media file's streams, and which one would be upscaled.

    Parameters
    ----------
    file
        The file to look into.
    """
    from rave_trio.media.probe import probe as look

    common.start_logging()
    media = look(file)
    surface, video = media.video.surface, media.video
    duration = "unknown" if media.duration is None else f"{media.duration:.2f} s"
    rows = [
        (
            "file",
            f"{media.path} ({media.format}, {media.size / 1e6:.1f} MB, {duration}, {len(media.chapters)} chapters)",
        ),
        (
            "video",
            f"#{video.index} {video.codec} {surface.width}x{surface.height} {surface.pixel_format.name} at "
            f"{float(video.rate):.3f} fps, about {video.frames or 'unknown'} frames",
        ),
        ("colour", _colour(video)),
    ]
    if peculiar := _peculiar(video):
        rows.append(("note", ", ".join(peculiar)))
    rows += [
        (f"#{s.index}", " ".join(filter(None, (s.kind, s.codec, s.detail, s.language, s.title and f'"{s.title}"'))))
        for s in media.streams
    ]
    return Output({"media": media.as_dict()}, table(rows))


def _colour(video: VideoInfo) -> str:
    """The tags in words."""
    color, layout = video.surface.color, video.surface.pixel_format
    tagged = [
        (MATRICES, "matrix", color.matrix),
        (PRIMARIES, "primaries", color.primaries),
        (TRANSFERS, "transfer", color.transfer),
    ]
    words = [f"{what} {names.get(code, f'code {code}')}" for names, what, code in tagged]
    words.append(f"range {color.range.name.lower()}" if color.range else "range untagged")
    if layout.chroma_shift_x and color.chroma_location:
        words.append(f"chroma {color.chroma_location.name.lower().replace('_', ' ')}")
    return ", ".join(words)


def _peculiar(video: VideoInfo) -> list[str]:
    """What a player or an upscaler has to heed."""
    found = []
    if video.interlaced:
        found.append("flagged interlaced")
    if video.display_matrix is not None:
        found.append("shown turned or mirrored")
    if video.surface.sample_aspect_ratio not in (None, 1):
        found.append(f"sample aspect ratio {video.surface.sample_aspect_ratio}")
    if video.hdr is not None and video.hdr.mastering is not None:
        peak = video.hdr.mastering.max_luminance
        found.append("mastering display" + (f" of {float(peak):g} cd/m2" if peak else ""))
    if video.hdr is not None and video.hdr.light is not None:
        found.append(f"light level {video.hdr.light.max_content}, on average {video.hdr.light.max_average} cd/m2")
    return found + list(video.uncarried)
