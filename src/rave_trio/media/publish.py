"""Publishing: join the finished video with everything else the input carried and put the result in its place."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import attrs
import av
from av.packet import Packet

from rave_trio import errors
from rave_trio.files import sync
from rave_trio.media import chapters
from rave_trio.media._libav import demux, fraction, writing
from rave_trio.media.carriage import Carriage, Fate, add_copy
from rave_trio.media.containers import Container, container_of
from rave_trio.media.parts import Part
from rave_trio.media.probe import MediaInfo
from rave_trio.media.subtitles import SubtitleConverter
from rave_trio.media.tags import file_tags, needs_free_names, own_tags, stream_tags
from rave_trio.media.timeline import NEW_BEGINNING

KEEP_TIMES = {"avoid_negative_ts": "disabled"}
"""Muxers would otherwise shift every stream so that priming sound before time 0 gets a positive time."""

STRICT_MUXERS = ("mp4", "mov")
"""Muxers that refuse two packets of a stream with the same decode time."""

INTERLEAVING = 10
"""Seconds by which a container's streams may be apart in the file; libav's own muxers keep to it."""

LARGEST_TIME_SCALE = 2**31 - 1

MIME_TYPES = {"mjpeg": ("jpg", "image/jpeg"), "png": ("png", "image/png"), "bmp": ("bmp", "image/bmp")}
"""Cover art's codec to its file name extension and media type."""


@attrs.frozen
class Publication:
    """What is to be published: a part's video, and from ``media`` what ``carriage`` says, with tags and chapters.

    The streams of an incomplete run are cut where its video ends.
    """

    part: Part
    media: MediaInfo
    carriage: tuple[Carriage, ...]
    complete: bool = True
    aspect: Fraction | None = None
    """The result's sample aspect ratio, which an AV1 part has forgotten."""
    shifts: tuple[Fraction, ...] = ()
    """Seconds by which the video's times were moved from each new beginning of the input's on."""

    def alone(self) -> Publication:
        """The same, but for the other streams."""
        return attrs.evolve(self, carriage=tuple(c for c in self.carriage if c.fate is Fate.UPSCALED))


def publish(
    what: Publication,
    target: Path,
    *,
    workspace: Path,
    overwrite: bool,
    tick: Callable[[], None] = lambda: None,
) -> list[str]:
    """Put the publication at ``target``, and say what of it could not be.  Blocking.

    The file is made in ``workspace`` (same file system), synced and renamed: ``target`` either stays as it was or is
    whole.  ``tick`` is called for every packet and may raise.
    """
    made = workspace / f"published{target.suffix}"
    container = container_of(target)
    assert container is not None
    with what.media.open() as source, av.open(what.part.path) as video, writing(target, errors.MuxError):
        options = _muxer_options(what, source, container)
        with av.open(made, "w", format=container.muxer, options=options) as out:
            layout = _Layout(what, source, video, out, container)
            out.start_encoding()  # only now are the time bases known that the muxer has chosen
            packets = heapq.merge(
                _video_packets(what.part, video, layout.video),
                _source_packets(what, source, layout.routes),
                key=_decode_time,
            )
            for packet in packets:
                tick()
                out.mux_one(packet)
        notes = [*_check_streams(made, layout), *_too_close(what.part, container)]
        sync(made)
        if not overwrite and target.exists():
            raise errors.OutputExists(f"{target} has come into being meanwhile")
        made.replace(target)
        sync(target.parent)
    return notes + [note for route in layout.routes.values() for note in route.notes()]


def _muxer_options(what: Publication, source: Any, container: Container) -> dict[str, str]:
    """Settings under which the muxer keeps every stream's times and every tag of the file.

    MP4 and MOV note where a stream starts in the movie's time scale: the least common multiple of the streams' makes
    all of the starts exact.
    """
    if container.muxer not in ("mp4", "mov"):
        return KEEP_TIMES
    scale = what.part.time_base.denominator
    for carriage in what.carriage:
        if carriage.fate in (Fate.COPIED, Fate.CONVERTED) and carriage.stream.time_base is not None:
            common = math.lcm(scale, carriage.stream.time_base.denominator)
            scale = common if common <= LARGEST_TIME_SCALE else scale
    options = {**KEEP_TIMES, "movie_timescale": str(scale)}
    # A cover has a place among the known names only.
    covered = any(c.stream.kind == "cover" and c.fate is Fate.COPIED for c in what.carriage)
    if needs_free_names(file_tags(source.metadata), container) and not covered:
        options["movflags"] = "use_metadata_tags"
    return options


class _Route(Protocol):
    """Where one of the input's streams goes."""

    def take(self, packet: Packet[Any]) -> Iterable[Packet[Any]]:
        """What is to be written for one packet of the input."""

    def advance(self, time: Fraction) -> Iterable[Packet[Any]]:
        """What can be written now that the input was read up to ``time``, in seconds."""

    def finish(self) -> Iterable[Packet[Any]]:
        """What is left at the end."""

    def notes(self) -> list[str]:
        """What could not be carried over."""


class _Layout:
    """The output's streams, in the input's order, with their tags and dispositions."""

    def __init__(self, what: Publication, source: Any, video: Any, out: Any, container: Container) -> None:
        self.routes: dict[int, _Route] = {}
        """By index in the input."""
        self.expected: dict[str, int] = {}
        """How many streams of each kind a reader should find."""
        out.metadata.update(file_tags(source.metadata))
        out.set_chapters(chapters.for_container(source.chapters(), container))
        covers = [c.stream.index for c in what.carriage if c.fate is Fate.ATTACHED]
        pictures = _first_packets(what.media, covers)
        for carriage in what.carriage:
            stream = source.streams[carriage.stream.index]
            match carriage.fate:
                case Fate.UPSCALED:
                    self.video = made = self._add_video(what, video, out, container)
                case Fate.COPIED:
                    made = add_copy(out, stream)
                    if carriage.stream.kind == "cover":
                        self.routes[stream.index] = _Cover(made)
                    elif carriage.stream.kind != "attachment":
                        self.routes[stream.index] = _Copy(made, container)
                case Fate.CONVERTED:
                    converter = SubtitleConverter(stream, out, carriage.codec, height=video.streams.video[0].height)
                    made = converter.stream
                    self.routes[stream.index] = _Conversion(converter)
                case Fate.ATTACHED:
                    made = _attach(out, stream, carriage.codec, pictures.get(stream.index, b""))
                case _:
                    continue
            kind = "video" if carriage.stream.kind == "cover" else carriage.stream.kind
            self.expected[kind] = self.expected.get(kind, 0) + 1
            if kind != "attachment" and carriage.fate is not Fate.ATTACHED:
                made.metadata.update(stream_tags(stream.metadata, container))
                made.disposition = stream.disposition

    @staticmethod
    def _add_video(what: Publication, video: Any, out: Any, container: Container) -> Any:
        # Opaque: only the parameters matter; the encoder that made them need not exist for muxing.
        made = out.add_stream_from_template(video.streams.video[0], opaque=True)
        made.time_base = what.part.time_base
        made.codec_context.framerate = what.media.video.rate
        if what.aspect is not None:
            made.codec_context.sample_aspect_ratio = what.aspect
        if container.muxer in STRICT_MUXERS and made.codec_context.name == "hevc":
            made.codec_context.codec_tag = "hvc1"  # the parameter sets are in the header; Apple plays nothing else
        if what.media.video.display_matrix is not None:
            made.set_display_matrix(what.media.video.display_matrix)
        return made


def _first_packets(media: MediaInfo, indices: list[int]) -> dict[int, bytes]:
    """The first packet of each of these streams: libav gives cover art as one."""
    found: dict[int, bytes] = {}
    if indices:
        with media.open() as source:
            for packet in demux(source, *(source.streams[index] for index in indices)):
                if packet.size:
                    found.setdefault(packet.stream.index, bytes(packet))
                if len(found) == len(indices):
                    break
    return found


def _attach(out: Any, stream: Any, codec: str, picture: bytes) -> Any:
    extension, mime_type = MIME_TYPES.get(codec, (codec, f"image/{codec}"))
    name = stream.metadata.get("filename") or f"cover.{extension}"
    made = out.add_attachment(name, stream.metadata.get("mimetype") or mime_type, picture)
    made.metadata.update({**own_tags(stream.metadata), **made.metadata})
    return made


def _decode_time(packet: Packet[Any]) -> Fraction:
    assert packet.dts is not None
    return packet.dts * packet.time_base


def _video_packets(part: Part, video: Any, stream: Any) -> Iterator[Packet[Any]]:
    """The part's packets with their true times: pts by index, dts as far ahead as the reordering needs."""
    step = part.durations[0] if part.frames else 1
    count = 0
    for packet in video.demux(video=0):
        if packet.dts is None and packet.pts is None:
            continue
        ahead = count - part.reorder_delay
        index = packet.pts
        packet.pts = part.pts[index]
        packet.dts = part.pts[ahead] if ahead >= 0 else part.pts[0] + ahead * step
        packet.duration = part.durations[index]
        packet.time_base = part.time_base
        packet.stream = stream
        count += 1
        yield packet
    if count != part.frames:
        raise errors.FrameCountMismatch(f"the part holds {count} of the {part.frames} frames that were encoded")


def _source_packets(what: Publication, source: Any, routes: dict[int, _Route]) -> Iterator[Packet[Any]]:
    """The other streams' packets, rising by decode time as far as the input's do."""
    if not routes:
        return
    until = None if what.complete else what.part.end
    joins = _Joins(what.shifts)
    # The video is read along for its times alone: streams may pause for long, it does not.
    for packet in demux(source, *(source.streams[index] for index in (what.media.video.index, *routes))):
        if not packet.size and packet.dts is None:
            continue
        joins.move(packet, is_video=packet.stream.index == what.media.video.index)
        time = None if packet.dts is None else packet.dts * packet.time_base
        if until is not None and time is not None and time > until + INTERLEAVING:
            break
        if time is not None:
            for route in routes.values():
                yield from route.advance(time if until is None else min(time, until))
        if packet.stream.index not in routes or (until is not None and time is not None and time >= until):
            continue
        yield from routes[packet.stream.index].take(packet)
    for route in routes.values():
        yield from route.finish()


class _Joins:
    """Moves the packets of recordings that were joined as the video's frames were moved, so that all stay together.

    The times of each piece begin anew.  Of which piece a packet is, is told by the video's packets around it in the
    file, and by what brings its time closest to theirs.
    """

    def __init__(self, shifts: tuple[Fraction, ...]) -> None:
        self._shifts = (Fraction(0), *shifts)
        self._piece = 0
        self._last: Fraction | None = None

    def move(self, packet: Packet[Any], is_video: bool) -> None:
        """Give the packet the time that it has in the joined whole."""
        if len(self._shifts) == 1 or packet.dts is None:
            return
        time = packet.dts * packet.time_base
        if is_video:
            if self._last is not None and self._last - time > NEW_BEGINNING:
                self._piece = min(self._piece + 1, len(self._shifts) - 1)
            self._last = time
        now = self._shifts[self._piece] + (time if self._last is None else self._last)
        near = self._shifts[max(0, self._piece - 1) : self._piece + 2]
        shift = min(near, key=lambda shift: abs(time + shift - now))
        ticks = round(shift / packet.time_base)
        packet.dts += ticks
        if packet.pts is not None:
            packet.pts += ticks


class _Conversion:
    """A text subtitle stream in another codec.  A text that is damaged is left out, not the whole run."""

    def __init__(self, converter: SubtitleConverter) -> None:
        self._converter = converter
        self._failures: list[errors.RaveError] = []

    def take(self, packet: Packet[Any]) -> Iterable[Packet[Any]]:
        return self._attempt(lambda: self._converter.convert(packet))

    def advance(self, time: Fraction) -> Iterable[Packet[Any]]:
        return self._attempt(lambda: self._converter.advance(time))

    def finish(self) -> Iterable[Packet[Any]]:
        return self._attempt(self._converter.finish)

    def notes(self) -> list[str]:
        if not self._failures:
            return []
        return [f"{len(self._failures)} texts are left out: {self._failures[0]}"]

    def _attempt(self, convert: Callable[[], list[Packet[Any]]]) -> list[Packet[Any]]:
        try:
            return convert()
        except (errors.DecodeError, errors.EncodeError) as failure:
            self._failures.append(failure)
            return []


class _Cover:
    """Cover art as a stream of one packet, which has no time of its own."""

    def __init__(self, stream: Any) -> None:
        self._stream: Any = stream

    def take(self, packet: Packet[Any]) -> Iterable[Packet[Any]]:
        stream, self._stream = self._stream, None
        if stream is None:
            return ()
        packet.pts = packet.dts = 0
        packet.stream = stream
        return (packet,)

    def advance(self, time: Fraction) -> Iterable[Packet[Any]]:
        return ()

    def finish(self) -> Iterable[Packet[Any]]:
        return ()

    def notes(self) -> list[str]:
        return []


class _Copy:
    """A stream as it is, its packets' decode times made to rise where the input's do not.

    What an edit list hides before the first packet that is played is copied where the output can hide it too; else only
    the last such packet is, which decoders of sound need.
    """

    def __init__(self, stream: Any, container: Container) -> None:
        self.kind = stream.type
        self._stream = stream
        self._strict = container.muxer in STRICT_MUXERS
        self._hides = container.edit_lists or stream.type == "video"
        self._hidden: Packet[Any] | None = None
        self._waiting: deque[Packet[Any]] = deque()
        self._last: int | None = None
        self._distance = 0
        self.packets = 0

    def take(self, packet: Packet[Any]) -> Iterable[Packet[Any]]:
        if packet.dts is None:  # H.264 in Matroska: known once the first pictures are in order
            self._waiting.append(packet)
            return
        if packet.is_discard and not self._hides:
            self._hidden = packet
            return
        hidden, self._hidden = self._hidden, None
        if hidden is not None:
            yield self._timed(hidden)
        yield from self._early(packet)
        yield self._timed(packet)

    def advance(self, time: Fraction) -> Iterable[Packet[Any]]:
        return ()

    def finish(self) -> Iterable[Packet[Any]]:
        return map(self._timed, (packet for packet in self._waiting if packet.pts is not None))

    def notes(self) -> list[str]:
        return []

    def _early(self, first: Packet[Any]) -> Iterable[Packet[Any]]:
        """The packets that came before the first decode time, with times of their own below it."""
        assert first.dts is not None
        while self._waiting:
            packet = self._waiting.popleft()
            packet.dts = first.dts - (len(self._waiting) + 1) * (first.duration or 1)
            yield self._timed(packet)

    def _timed(self, packet: Packet[Any]) -> Packet[Any]:
        if packet.dts is None:
            packet.dts = packet.pts
        assert packet.dts is not None
        if self._last is not None:
            # In steps of the output's time base: two packets must not come to lie on the same tick of it.
            least = math.ceil((fraction(self._stream.time_base) or 0) / packet.time_base) if self._strict else 0
            packet.dts = max(packet.dts, self._last + least)
            self._distance = packet.dts - self._last
        if packet.pts is not None:
            packet.pts = max(packet.pts, packet.dts)
        if not packet.duration:  # or the last packet would be cut off where its duration is not known
            packet.duration = self._distance
        self._last = packet.dts
        self.packets += 1
        packet.stream = self._stream
        return packet


def _too_close(part: Part, container: Container) -> list[str]:
    """Frames that the container's rounding makes simultaneous, in words."""
    if container.exact_times:
        return []
    times = [round(pts * part.time_base * 1000) for pts in part.pts]
    count = sum(a == b for a, b in itertools.pairwise(times))
    if not count:
        return []
    return [f"{count} frames follow another within a millisecond, which {container.extension} cannot tell apart"]


def _check_streams(made: Path, layout: _Layout) -> list[str]:
    """Muxers leave some things out without a word: look whether all is there.

    A stream without any packet is nothing lost; some muxers leave it out.
    """
    empty = {index: route for index, route in layout.routes.items() if isinstance(route, _Copy) and not route.packets}
    with av.open(made) as result:
        found: dict[str, int] = {}
        for stream in result.streams:
            found[stream.type] = found.get(stream.type, 0) + 1
    notes = []
    for kind, count in layout.expected.items():
        missing = count - found.get(kind, 0)
        idle = [index for index, route in empty.items() if route.kind == kind]
        if kind == "attachment" or missing <= 0:
            continue
        if missing > len(idle):
            raise errors.MuxError(f"only {found.get(kind, 0)} of {count} {kind} streams came into the container")
        notes += [f"stream #{index} ({kind}) has no packets and is left out" for index in idle]
    return notes
