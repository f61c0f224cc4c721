"""What a comparison has found so far, and the rules that its parts share: how labels, tags and times may differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from fractions import Fraction

import attrs

from rave_trio.media.compare.measures import Times, apart, seconds
from rave_trio.media.probe import MediaInfo, StreamInfo
from rave_trio.media.tags import SAME_LANGUAGE, file_tags, own_tags, three_letters

SAME_FLAG = {"captions": "hearing_impaired", "descriptions": "visual_impaired"}
"""Pairs of dispositions for which MP4 has one word, which libav reads as both."""

LABELS = ("title", "name", "language")
"""Tags of a stream that are compared by themselves."""

Value = str | int | float | None


@attrs.frozen
class Difference:
    """One thing that is not the same: what it is, and what it is in either file, None where it is not there."""

    what: str
    source: Value
    result: Value


@attrs.define
class Verdict:
    """Differences and information about two files, and the largest error in time that was seen.  Not thread-safe."""

    source: MediaInfo
    result: MediaInfo
    differences: list[Difference] = attrs.Factory(list)
    information: list[str] = attrs.Factory(list)
    largest_time_error: Fraction = Fraction(0)

    def differ(self, what: str, source: Value, result: Value) -> None:
        self.differences.append(Difference(what, source, result))

    def check(self, what: str, source: Value, result: Value) -> None:
        """A difference unless they are equal."""
        if source != result:
            self.differ(what, source, result)

    def inform(self, text: str) -> None:
        self.information.append(text)

    def labels(self, what: str, before: StreamInfo, after: StreamInfo) -> None:
        """Compare what a stream and its copy say about themselves."""
        if self._language(before) != self._language(after):
            self.differ(f"{what} language", before.language, after.language)
        self.check(f"{what} title", before.title, after.title)
        old, new = ({SAME_FLAG.get(flag, flag) for flag in stream.flags} for stream in (before, after))
        if "default" in new - old and self.result.format.startswith("mov") and not self._has_default(before.kind):
            self.inform(f"{what} is default: MP4 and MOV make one stream of a kind so where none is")
            new.discard("default")
        self.check(f"{what} disposition", joined(old), joined(new))
        self._tags(f"{what} tag", _stream_tags(before, self.source), _stream_tags(after, self.result))

    def file_tags(self) -> None:
        """Compare the tags of the files as a whole."""
        self._tags("tag", _file_tags(self.source), _file_tags(self.result))

    def _tags(self, what: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        for key in sorted(before.keys() | after.keys()):
            self.check(f"{what} {key}", before.get(key), after.get(key))

    def _language(self, stream: StreamInfo) -> str | None:
        """MP4 and MOV have no more than codes of three letters."""
        language = stream.language
        if language and self.result.format.startswith("mov"):
            language = three_letters(language) or language
        return SAME_LANGUAGE.get(language or "", language)

    def _has_default(self, kind: str) -> bool:
        """Whether a stream of that kind is marked default in the source."""
        return any("default" in stream.flags for stream in self.source.streams if stream.kind == kind)

    def times(self, what: str, before: Times, after: Times, unit: str, looseness: int = 1) -> None:
        """Compare times one by one; ``unit`` is what is counted, ``looseness`` a factor on the tolerance."""
        found, largest = apart(before, after, looseness * self.tolerance(before, after))
        self.largest_time_error = max(self.largest_time_error, largest)
        if found:
            self.differ(
                what,
                f"{seconds(before[found[0]])} at {unit} {found[0]}",
                f"{seconds(after[found[0]])}, the first of {len(found)} that differ",
            )

    def tolerance(self, before: Times, after: Times) -> Fraction:
        """Seconds by which times may be apart: what a container must round that cannot hold them, or always does."""
        sides = ((before, self.source), (after, self.result))
        allowed = [times.time_base / 2 for times, media in sides if "matroska" in media.format]
        if (before.time_base / after.time_base).denominator != 1:
            allowed.append(after.time_base / 2)
        return max(allowed, default=Fraction(0))


def joined(words: Iterable[str]) -> str | None:
    """The words in order, None if there are none."""
    return ", ".join(sorted(words)) or None


def _stream_tags(stream: StreamInfo, media: MediaInfo) -> dict[str, str]:
    """The tags of a stream that are no labels.  MP4 and MOV put the file's time of creation into every track."""
    of_file = ("creation_time", _file_tags(media).get("creation_time"))
    tags = _comparable(own_tags(stream.tags))
    return {key: value for key, value in tags.items() if key not in LABELS and (key, value) != of_file}


def _file_tags(media: MediaInfo) -> dict[str, str]:
    return _comparable(file_tags(media.tags))


def _comparable(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags as all containers would write them, without timecodes, which may be tracks as well.

    MOV gives some of them twice, once with a language behind the key.
    """
    plain = {key.lower(): value for key, value in tags.items()}
    if "creation_time" in plain:
        plain["creation_time"] = _instant(plain["creation_time"])
    return {
        key: value
        for key, value in plain.items()
        if key != "timecode" and ("-" not in key or plain.get(key.rpartition("-")[0]) != value)
    }


def _instant(text: str) -> str:
    """A time of creation in one way of writing it; without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
