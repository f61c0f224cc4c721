"""The containers on offer and what each can hold beside the picture."""

from __future__ import annotations

from pathlib import Path

import attrs

from rave_trio.media.sequence import ImageSequence


@attrs.frozen
class Container:
    """One kind of output.

    Whether a codec fits is asked of the muxer itself; what stands here the muxer would accept and then lose.
    """

    extension: str
    muxer: str
    """libav's name of it."""
    covers: str
    """How cover art is held: as a ``stream``, as an ``attachment`` (as other files are then), or ``no``."""
    any_tags: bool
    """Whether tags of any name are kept, of the file and of each stream."""
    exact_times: bool
    """Whether the input's time base is kept; Matroska rounds to milliseconds."""
    edit_lists: bool
    """Whether what lies before time 0 can be hidden."""
    dispositions: frozenset[str] = frozenset()
    """The flags of a stream that come back from it."""


MATROSKA_FLAGS = frozenset(
    {"default", "dub", "original", "comment", "forced", "hearing_impaired", "visual_impaired", "captions"}
)
MP4_FLAGS = frozenset(
    {"default", "dub", "comment", "forced", "hearing_impaired", "visual_impaired", "captions", "descriptions"}
)
WEBM_FLAGS = frozenset({"default", "forced"})

CONTAINERS = {
    container.extension: container
    for container in (
        Container(
            ".mkv",
            "matroska",
            "attachment",
            any_tags=True,
            exact_times=False,
            edit_lists=False,
            dispositions=MATROSKA_FLAGS,
        ),
        Container(".mp4", "mp4", "stream", any_tags=False, exact_times=True, edit_lists=True, dispositions=MP4_FLAGS),
        Container(
            ".mov", "mov", "no", any_tags=False, exact_times=True, edit_lists=True, dispositions=frozenset({"default"})
        ),
        Container(".webm", "webm", "no", any_tags=True, exact_times=False, edit_lists=False, dispositions=WEBM_FLAGS),
    )
}
"""By file name extension."""

IMAGES = Container(".png", "image2", "no", any_tags=False, exact_times=False, edit_lists=False)
"""Numbered pictures: nothing but the picture."""


def images_of(path: Path) -> ImageSequence | None:
    """The numbered pictures that an output's name asks for; None if it asks for one file."""
    return ImageSequence.of(path) if path.suffix.lower() == IMAGES.extension else None


def container_of(path: Path) -> Container | None:
    """The container that a file name, or the pattern of an image sequence, asks for; None if it is not on offer."""
    extension = path.suffix.lower()
    if extension == IMAGES.extension:
        return IMAGES if images_of(path) else None
    return CONTAINERS.get(extension)
