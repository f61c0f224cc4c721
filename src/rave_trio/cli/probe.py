"""``rave-trio probe``: what is inside a file."""

from __future__ import annotations

from pathlib import Path

from rave_trio.cli.flags import Common, Output
from rave_trio.cli.render import table

DEFAULT_COMMON = Common()


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
        ("file", f"{media.path} ({media.format}, {media.size / 1e6:.1f} MB, {duration}, {media.chapters} chapters)"),
        (
            "video",
            f"#{video.index} {video.codec} {surface.width}x{surface.height} {surface.pixel_format.name} at "
            f"{float(video.rate):.3f} fps, about {video.frames or 'unknown'} frames",
        ),
    ]
    rows += [
        (f"#{s.index}", " ".join(filter(None, (s.kind, s.codec, s.detail, s.language, s.title and f'"{s.title}"'))))
        for s in media.streams
    ]
    return Output({"media": media.as_dict()}, table(rows))
