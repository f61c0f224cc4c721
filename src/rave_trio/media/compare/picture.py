"""Comparing the video: all that is to stay while its size and its samples change."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from rave_trio.frames import ChromaLocation, ColorRange, PixelFormat
from rave_trio.media.compare.contents import NO_TIME, Picture, Times
from rave_trio.media.compare.verdict import Verdict, deviation, seconds, some

CHROMATICITY_TOLERANCE = Fraction(1, 20000)
LEAST_LUMINANCE_TOLERANCE = Fraction(1, 5000)
GREATEST_LUMINANCE_TOLERANCE = Fraction(1, 100)
"""Codecs and containers store these in fixed point of their own; luminance is in cd/m2."""

ROTATION_TOLERANCE = 0.01
"""Degrees."""

SUBSAMPLINGS = {
    (0, 0): "4:4:4",
    (1, 0): "4:2:2",
    (1, 1): "4:2:0",
    (2, 0): "4:1:1",
    (0, 1): "4:4:0",
    (2, 2): "4:1:0",
}
"""By the binary logarithms of the factors across and down."""


def scale_of(before: Picture, after: Picture) -> int | None:
    """How many times larger the result is, None if that is no integer."""
    scale = after.width // before.width
    enlarged = (before.width * scale, before.height * scale)
    return scale if scale and enlarged == (after.width, after.height) else None


def compare_pictures(verdict: Verdict) -> None:
    """Compare the two files' video."""
    before, after = verdict.source.picture, verdict.result.picture
    if scale_of(before, after) is None:
        verdict.differ("video size", f"{before.width}x{before.height}", f"{after.width}x{after.height}")
    verdict.check("video size or format changes at frame", before.changed_at, after.changed_at)
    _frames(verdict, before, after)
    _samples(verdict, before, after)
    if not _same_aspect(before, after):
        verdict.differ("video sample aspect ratio", str(before.sample_aspect_ratio), str(after.sample_aspect_ratio))
    if not _same_orientation(before, after):
        verdict.differ("video display matrix", _turned(before), _turned(after))
    if not _same_mastering(before.mastering, after.mastering):
        verdict.differ("video mastering display", _numbers(before.mastering), _numbers(after.mastering))
    verdict.check("video content light level", _numbers(before.light), _numbers(after.light))
    verdict.check("video closed captions", some(before.captions), some(after.captions))
    if after.mended > before.mended:
        verdict.differ("video damaged frames", before.mended, after.mended)
    elif before.mended:
        verdict.inform(f"video frames that are damaged in the source: {before.mended}")
    verdict.labels("video", before.labels, after.labels, "video")
    if before.interlaced or after.interlaced:
        verdict.inform(
            f"interlaced frames: {before.interlaced} of {len(before.times)} in the source, "
            f"{after.interlaced} of {len(after.times)} in the result"
        )
    if before.codec != after.codec:
        verdict.inform(f"video codec: {before.codec} became {after.codec}")
    if before.rate != after.rate:
        verdict.inform(f"nominal frames per second: {_number(before.rate)} became {_number(after.rate)}")


def _frames(verdict: Verdict, before: Picture, after: Picture) -> None:
    """How many there are, and when."""
    verdict.check("video frames", len(before.times), len(after.times))
    if verdict.source.is_sequence or verdict.result.is_sequence:
        verdict.inform("frame times are not compared, as a sequence of pictures has none")
        return
    unusable = _unusable(before.times)
    if unusable and before.times != after.times:
        verdict.inform(f"frame times are not compared, as the source's are {unusable}")
        verdict.check("video frame times", None, _unusable(after.times))
    elif len(before.times) == len(after.times):
        verdict.times("video frame times", before.times, after.times, "frame")
        _last_duration(verdict, before, after)
    else:
        _first_apart(verdict, before.times, after.times)


def _unusable(times: Times) -> str | None:
    if any(tick == NO_TIME for tick in times.ticks):
        return "missing"
    unordered = times.unordered
    return f"not rising, {unordered} times" if unordered else None


def _first_apart(verdict: Verdict, before: Times, after: Times) -> None:
    """Where frames are missing or too many: the first that is not at its time."""
    apart = deviation(before, after, verdict.tolerance(before, after))
    if apart.count:
        verdict.inform(
            f"video frame {apart.first} is at {seconds(before[apart.first])} in the source and at "
            f"{seconds(after[apart.first])} in the result"
        )


def _last_duration(verdict: Verdict, before: Picture, after: Picture) -> None:
    """Other frames last until the next.  As the distance of two rounded times, it may be off by as much as both."""
    if before.last_duration is None or after.last_duration is None:
        return
    allowed = 2 * verdict.tolerance(before.times, after.times)
    if abs(before.last_duration - after.last_duration) > allowed:
        verdict.differ("video last frame's duration", seconds(before.last_duration), seconds(after.last_duration))


def _samples(verdict: Verdict, before: Picture, after: Picture) -> None:
    """What the samples are and mean.  Grey has no chroma to lose; RGB has no matrix, nor a range in common with YUV."""
    old, new = before.pixel_format, after.pixel_format
    if old.name != new.name:
        verdict.inform(f"pixel format: {old.name} became {new.name}")
    verdict.check("video bit depth", old.bit_depth, new.bit_depth)
    verdict.check("video alpha", _yes(old.has_alpha), _yes(new.has_alpha))
    for name in ("primaries", "transfer"):
        verdict.check(f"video colour {name}", getattr(before, name), getattr(after, name))
    if old.is_grey and not new.is_grey:
        return
    if not new.is_rgb:
        verdict.check("video chroma subsampling", _subsampling(old), _subsampling(new))
    if old.is_rgb != new.is_rgb:
        return
    if not old.is_rgb:
        verdict.check("video colour matrix", before.matrix, after.matrix)
    verdict.check("video colour range", _range(before), _range(after))
    if old.chroma_shift_x:
        verdict.check("video chroma location", _siting(before), _siting(after))


def _subsampling(pixels: PixelFormat) -> str:
    if pixels.is_grey:
        return "grey"
    across, down = pixels.chroma_shift_x, pixels.chroma_shift_y
    return SUBSAMPLINGS.get((across, down), f"1 in {1 << across} across, 1 in {1 << down} down")


def _range(picture: Picture) -> str:
    """Untagged RGB is full, and so is what is named yuvj; other untagged samples are limited."""
    pixels = picture.pixel_format
    untagged = ColorRange.FULL if pixels.is_rgb or pixels.name.startswith("yuvj") else ColorRange.LIMITED
    return ColorRange(picture.range or untagged).name.lower()


def _siting(picture: Picture) -> str:
    """Untagged chroma lies to the left, for players and for most decoders, some of which say so and some do not."""
    return (picture.chroma_location or ChromaLocation.LEFT).name.lower()


def _same_aspect(before: Picture, after: Picture) -> bool:
    """Some containers keep the width of the display in whole pixels instead."""
    return abs(before.sample_aspect_ratio - after.sample_aspect_ratio) * before.width <= 1


def _same_orientation(before: Picture, after: Picture) -> bool:
    apart = abs(before.rotation - after.rotation) % 360
    return before.flipped == after.flipped and min(apart, 360 - apart) <= ROTATION_TOLERANCE


def _turned(picture: Picture) -> str:
    return f"turned by {picture.rotation:g} degrees" + (" and mirrored" if picture.flipped else "")


def _same_mastering(one: tuple[Fraction | None, ...] | None, other: tuple[Fraction | None, ...] | None) -> bool:
    if one is None or other is None:
        return one is other
    allowed = [CHROMATICITY_TOLERANCE] * 8 + [LEAST_LUMINANCE_TOLERANCE, GREATEST_LUMINANCE_TOLERANCE]
    return all(
        a is b if a is None or b is None else abs(a - b) <= most for a, b, most in zip(one, other, allowed, strict=True)
    )


def _numbers(values: Iterable[Fraction | int | None] | None) -> str | None:
    return None if values is None else ", ".join(map(_number, values))


def _number(value: Fraction | int | None) -> str:
    return "unknown" if value is None else f"{float(value):g}"


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"
