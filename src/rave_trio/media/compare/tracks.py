"""Comparing the other streams: each with its copy, packet by packet, or text by text where its codec changed."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import attrs

from rave_trio.media.compare.contents import NO_TIME, Times, Track
from rave_trio.media.compare.verdict import Verdict, seconds, some


def compare_tracks(verdict: Verdict) -> None:
    """Compare the streams that are to be carried over as they are, and their order."""
    pairs, extra = _paired(verdict.source.tracks, verdict.result.tracks)
    kept = []
    for before, after in pairs:
        if after is None:
            verdict.differ(str(before), _described(before), None)
        else:
            kept.append((before, after))
            _track(verdict, before, after)
    for track in extra:
        verdict.differ(f"{track} of the result", None, _described(track))
    in_result = sorted(kept, key=lambda pair: pair[1].index)
    if in_result != kept:
        verdict.differ("order of the streams", _listed(kept), _listed(in_result))


def _listed(pairs: Sequence[tuple[Track, Track]]) -> str:
    return ", ".join(str(before) for before, _ in pairs)


def _described(track: Track) -> str:
    return " ".join(filter(None, (track.codec, track.labels.language, track.labels.title)))


def _paired(source: Sequence[Track], result: Sequence[Track]) -> tuple[list[tuple[Track, Track | None]], list[Track]]:
    """Each of the source's tracks with its copy, found by content and labels, by content, or by order; and the rest."""
    left = list(result)
    found: dict[int, Track] = {}
    for fits in (_alike_and_labelled, _alike, _of_a_kind):
        for track in source:
            copy = next((other for other in left if fits(track, other)), None)
            if copy is not None and track.index not in found:
                found[track.index] = copy
                left.remove(copy)
    return [(track, found.get(track.index)) for track in source], left


def _alike_and_labelled(one: Track, other: Track) -> bool:
    same_name = (one.labels.language, one.labels.title) == (other.labels.language, other.labels.title)
    return same_name and _alike(one, other)


def _alike(one: Track, other: Track) -> bool:
    if one.codec != other.codec and one.texts is not None and other.texts is not None:
        return one.texts.hashes == other.texts.hashes
    return one.kind == other.kind and one.settled.content == other.settled.content


def _of_a_kind(one: Track, other: Track) -> bool:
    return one.kind == other.kind


def _track(verdict: Verdict, before: Track, after: Track) -> None:
    what = str(before)
    verdict.labels(what, before.labels, after.labels, before.kind)
    if before.codec == after.codec:
        if before.extradata is not None:
            verdict.check(f"{what} extradata", str(before.extradata), some(after.extradata))
        _packets(verdict, what, before, after)
    elif before.texts is not None and after.texts is not None:
        verdict.inform(f"{what} was converted from {before.codec} to {after.codec}")
        _texts(verdict, what, before, after)
    else:
        verdict.differ(f"{what} codec", before.codec, after.codec)


def _packets(verdict: Verdict, what: str, before: Track, after: Track) -> None:
    old, new = before.packets, after.packets
    if len(old.times) != len(new.times) and before.settled.content == after.settled.content:
        verdict.inform(f"{what} packets of priming before time 0: {before.priming} became {after.priming}")
        old, new = before.settled, after.settled
    if len(old.times) != len(new.times):
        verdict.differ(f"{what} packets", len(old.times), len(new.times))
        return
    verdict.check(f"{what} payload", str(old.content), str(new.content))
    if before.disordered and old.times != new.times:
        verdict.inform(f"{what} times are not compared, as the source's go back: {before.disordered} times")
        return
    # Matroska's muxer rounds once more where it takes off the codec's delay.
    verdict.times(f"{what} times", old.times, new.times, "packet", looseness=2)
    if before.ends is not None and after.ends is not None and before.codec not in ENDS_INSIDE:
        _ends(verdict, what, before.ends, after.ends, "packet")


ENDS_INSIDE = ("dvd_subtitle",)
"""Codecs whose packets say themselves when they end."""


def _texts(verdict: Verdict, what: str, before: Track, after: Track) -> None:
    old, new = before.texts, after.texts
    assert old is not None
    assert new is not None
    if len(old.hashes) != len(new.hashes):
        verdict.differ(f"{what} texts", len(old.hashes), len(new.hashes))
        return
    changed = [index for index, pair in enumerate(zip(old.hashes, new.hashes, strict=True)) if pair[0] != pair[1]]
    if changed:
        first = f"text {changed[0]} at {seconds(old.starts[changed[0]])}"
        verdict.differ(f"{what} texts", first, f"another, the first of {len(changed)}")
    verdict.times(f"{what} times", old.starts, new.starts, "text")
    _ends(verdict, what, old.ends, new.ends, "text")


def _ends(verdict: Verdict, what: str, before: Times, after: Times, unit: str) -> None:
    """Ends are sums of a time and a duration, each rounded.  Where the source leaves one open, any will do."""
    stated = [index for index, tick in enumerate(before.ticks) if tick != NO_TIME]
    old, new = (attrs.evolve(t, ticks=array("q", [t.ticks[index] for index in stated])) for t in (before, after))
    verdict.times(f"{what} ends", old, new, unit, looseness=2)
