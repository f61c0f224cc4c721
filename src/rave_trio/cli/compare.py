"""``rave-trio compare``: whether everything came along."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_trio.cli.flags import Common, Output
from rave_trio.cli.render import table

if TYPE_CHECKING:
    from rave_trio.media.compare import Comparison

DEFAULT_COMMON = Common()

DIFFERENT = 1


def compare(
    source: Path,
    result: Path,
    /,
    *,
    video_stream: int | None = None,
    common: Common = DEFAULT_COMMON,
) -> Output:
    """Check that all that one video carries is in another, with only the picture's size changed.

    Compares the frames' number, times and colours, and the other streams, subtitles, fonts, covers, chapters and tags;
    not what the picture shows.  Decodes both videos.  The exit status is 0 if they are the same, 1 if they differ, and
    otherwise that of the error, as everywhere.

    Parameters
    ----------
    source
        The video that was upscaled.
    result
        What came of it.
    video_stream
        The stream that was upscaled, by its number in rave-trio probe; default the best one.
    """
    from rave_trio.media import compare as comparing

    common.start_logging()
    found = comparing.compare(source, result, video_stream=video_stream)
    return Output(found.as_dict(), _text(found), status=0 if found.same else DIFFERENT)


def _text(found: Comparison) -> str:
    scale = "" if found.scale is None else f", x{found.scale}"
    verdict = "same" if found.same else "different"
    lines = [f"{verdict}: {found.frames} frames{scale}, largest time error {found.largest_time_error:.6g} s"]
    if found.differences:
        lines.append(table([(d.what, f"{_shown(d.source)} -> {_shown(d.result)}") for d in found.differences]))
    lines += [f"note: {line}" for line in found.information]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
