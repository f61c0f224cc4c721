"""What is known of a media file once it has been read: facts, times and hashes, but neither pictures nor sound."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import attrs

from rave_trio.frames import ChromaLocation, PixelFormat

NO_TIME = -(2**63)
"""Stands in :class:`Times` for a time that the file does not state."""


@attrs.frozen
class Blob:
    """Bytes, by their number and hash."""

    size: int
    digest: str

    def __str__(self) -> str:
        return f"{self.size} bytes ({self.digest[:8]})"


@attrs.frozen
class Times:
    """Times of one stream in ticks of ``time_base`` seconds; ``NO_TIME`` where there is none."""

    ticks: array[int]
    time_base: Fraction

    def __len__(self) -> int:
        return len(self.ticks)

    def __getitem__(self, index: int) -> Fraction | None:
        """The time in seconds."""
        return None if self.ticks[index] == NO_TIME else self.ticks[index] * self.time_base

    @property
    def unordered(self) -> int:
        """How many are not above the one before."""
        return sum(after <= before for before, after in zip(self.ticks, memoryview(self.ticks)[1:], strict=False))


@attrs.frozen
class Labels:
    """What a stream says about itself; tags without those that the other fields hold, keys in lower case."""

    language: str | None
    title: str | None
    disposition: frozenset[str]
    tags: Mapping[str, str]


@attrs.frozen
class Packets:
    """A run of packets: their bytes, and their presentation times."""

    content: Blob
    times: Times


@attrs.frozen
class Texts:
    """The events of a text subtitle: 64 bits of each text's hash, styles removed, and when it is shown."""

    hashes: array[int]
    starts: Times
    ends: Times


@attrs.frozen
class Track:
    """One stream that is carried over as it is.

    ``packets`` are all that count, ``priming`` the first ones of these, which end before time 0; ``settled`` are those
    after the priming.  ``ends`` are kept for subtitles.  ``disordered`` counts decode times that lie before the
    previous one.
    """

    index: int
    kind: str
    codec: str
    labels: Labels
    extradata: Blob | None
    packets: Packets
    settled: Packets
    priming: int
    ends: Times | None
    texts: Texts | None
    disordered: int

    def __str__(self) -> str:
        return f"{self.kind} #{self.index}"


@attrs.frozen
class Picture:
    """The frames of the video stream that is worked on.

    ``rotation`` is in degrees and, with ``flipped``, says all of a display matrix but where the picture is put;
    ``mastering`` is the primaries' and the white point's x and y and the least and greatest luminance, None for what is
    not stated; ``light`` is MaxCLL and MaxFALL.  ``interlaced`` and ``mended`` count frames, the latter those that the
    decoder found damaged.  ``changed_at`` is the first frame of another size or format.
    """

    index: int
    codec: str
    labels: Labels
    width: int
    height: int
    pixel_format: PixelFormat
    matrix: int
    primaries: int
    transfer: int
    range: int
    chroma_location: ChromaLocation
    sample_aspect_ratio: Fraction
    rotation: float
    flipped: bool
    mastering: tuple[Fraction | None, ...] | None
    light: tuple[int, int] | None
    captions: Blob
    interlaced: int
    mended: int
    times: Times
    last_duration: Fraction | None
    rate: Fraction | None
    changed_at: int | None


@attrs.frozen
class Attachment:
    name: str
    mimetype: str
    content: Blob


@attrs.frozen
class Chapter:
    """Times in seconds, each within ``tick`` of the truth."""

    title: str | None
    start: Fraction
    end: Fraction
    tick: Fraction


@attrs.frozen
class Contents:
    """All that a media file carries.

    ``tags`` are the container's, keys in lower case.  ``damage`` says what kept part of the file from being read,
    ``notes`` what else is odd about it.
    """

    path: Path
    format: str
    tags: Mapping[str, str]
    chapters: tuple[Chapter, ...]
    picture: Picture
    tracks: tuple[Track, ...]
    covers: tuple[Blob, ...]
    attachments: tuple[Attachment, ...]
    timecodes: frozenset[str]
    timecode_tracks: int
    damage: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def is_matroska(self) -> bool:
        """Whether times were rounded to the container's own scale."""
        return "matroska" in self.format

    @property
    def is_sequence(self) -> bool:
        """Whether this is a sequence of pictures, which has no times of its own."""
        return self.format.startswith("image2")

    @property
    def is_mov(self) -> bool:
        return "mov" in self.format.split(",")

    @property
    def picture_position(self) -> int:
        """The place of the picture's stream among the video streams that are no cover art."""
        return sum(track.kind == "video" and track.index < self.picture.index for track in self.tracks)
