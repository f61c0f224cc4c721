"""What a comparison has found so far, and the rules that all of its parts share: labels, tags and times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

import attrs

from rave_trio.media.compare.contents import NO_TIME, Blob, Contents, Labels, Times
from rave_trio.media.compare.labels import own_tags, same_language, same_tag

MP4_DISPOSITIONS = (frozenset({"captions", "hearing_impaired"}), frozenset({"descriptions", "visual_impaired"}))
"""Pairs for which MP4 has one word, which libav reads as both."""

Value = str | int | float | None


@attrs.frozen
class Difference:
    """One thing that is not the same: what it is, and what it is in either file, None where it is not there."""

    what: str
    source: Value
    result: Value


class Verdict:
    """Differences and information about two files, and the largest error in time that was seen.  Not thread-safe."""

    def __init__(self, source: Contents, result: Contents) -> None:
        self.source = source
        self.result = result
        self.differences: list[Difference] = []
        self.information: list[str] = []
        self.largest_time_error = Fraction(0)

    def differ(self, what: str, source: Value, result: Value) -> None:
        self.differences.append(Difference(what, source, result))

    def check(self, what: str, source: Value, result: Value) -> None:
        """A difference unless they are equal."""
        if source != result:
            self.differ(what, source, result)

    def inform(self, text: str) -> None:
        self.information.append(text)

    def labels(self, what: str, before: Labels, after: Labels, kind: str) -> None:
        """Compare what two streams of a kind say about themselves."""
        if not same_language(before.language, after.language):
            self.differ(f"{what} language", before.language, after.language)
        self.check(f"{what} title", before.title, after.title)
        old, new = self._disposition(before), self._disposition(after)
        if "default" in new - old and self.result.is_mov and not self._has_default(kind):
            self.inform(f"{what} is default: MP4 and MOV make one stream of a kind so where none is")
            new -= {"default"}
        self.check(f"{what} disposition", joined(old), joined(new))
        self.tags(f"{what} tag", before.tags, after.tags)

    def tags(self, what: str, source: Mapping[str, str], result: Mapping[str, str]) -> None:
        """Compare the tags that are no muxer's."""
        before, after = own_tags(source), own_tags(result)
        for key in sorted(before.keys() | after.keys()):
            if not same_tag(key, before.get(key), after.get(key)):
                self.differ(f"{what} {key}", before.get(key), after.get(key))

    def _disposition(self, labels: Labels) -> frozenset[str]:
        found = labels.disposition
        if self.source.is_mov or self.result.is_mov:
            for pair in MP4_DISPOSITIONS:
                found |= pair if pair & found else frozenset()
        return found

    def _has_default(self, kind: str) -> bool:
        """Whether a stream of that kind is marked default in the source."""
        labelled = [("video", self.source.picture.labels), *((t.kind, t.labels) for t in self.source.tracks)]
        return any("default" in labels.disposition for other, labels in labelled if other == kind)

    def times(self, what: str, before: Times, after: Times, unit: str, looseness: int = 1) -> None:
        """Compare times one by one; ``unit`` is what is counted, ``looseness`` a factor on the tolerance."""
        apart = deviation(before, after, looseness * self.tolerance(before, after))
        self.largest_time_error = max(self.largest_time_error, apart.largest)
        if apart.count:
            self.differ(
                what,
                f"{seconds(before[apart.first])} at {unit} {apart.first}",
                f"{seconds(after[apart.first])}, the first of {apart.count} that differ",
            )

    def tolerance(self, before: Times, after: Times) -> Fraction:
        """Seconds by which times may be apart: what a container must round that cannot hold them, or always does."""
        allowed = [
            times.time_base / 2
            for times, contents in ((before, self.source), (after, self.result))
            if contents.is_matroska
        ]
        if (before.time_base / after.time_base).denominator != 1:
            allowed.append(after.time_base / 2)
        return max(allowed, default=Fraction(0))


@attrs.frozen
class Deviation:
    """How many times are further apart than allowed, the first of them, and the most that any are, in seconds."""

    count: int
    first: int
    largest: Fraction


def deviation(before: Times, after: Times, allowed: Fraction) -> Deviation:
    """Compare as many times as both have, as integers in ticks that both time bases are multiples of."""
    common = math.lcm(before.time_base.denominator, after.time_base.denominator)
    one, other = int(before.time_base * common), int(after.time_base * common)
    limit = math.floor(allowed * common)
    count = first = largest = 0
    for index, (a, b) in enumerate(zip(before.ticks, after.ticks, strict=False)):
        if a == b == NO_TIME:
            continue
        if NO_TIME in (a, b):
            apart = limit + 1
        else:
            apart = abs(a * one - b * other)
            largest = max(largest, apart)
        if apart > limit:
            first = first if count else index
            count += 1
    return Deviation(count, first, Fraction(largest, common))


def seconds(time: Fraction | None) -> str:
    """A time for people, to the microsecond."""
    return "no time" if time is None else f"{float(time):.6f}".rstrip("0").rstrip(".") + " s"


def joined(words: Iterable[str]) -> str | None:
    """The words in order, None if there are none."""
    return ", ".join(sorted(words)) or None


def some(blob: Blob | None) -> str | None:
    """The blob in words, None if it is empty."""
    return str(blob) if blob is not None and blob.size else None
