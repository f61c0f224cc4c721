"""The self-test of a device: a small clip goes through the whole of ``upscale`` and is looked at."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from rave_trio.audit.clip import TICKS, drawn, psnr, read_clip, times, write_clip

FRAMES, WIDTH, HEIGHT = 24, 128, 96

ENOUGH = 30.0
"""dB from the same picture drawn at the larger size: a picture that is shifted, dark or another's is far below."""


def upscale_on(device: str, folder: Path) -> str:
    """Decode, infer, encode, publish, and read back.  Raises AssertionError for what is not as it should be."""
    from rave_trio.job import upscale_sync

    source, target = folder / "in.mkv", folder / "out.mp4"
    write_clip(source, FRAMES, WIDTH, HEIGHT)
    report = upscale_sync(source, target, device=device)
    return f"{described(target, report.plan.models[0].scale)}; {report.fps:.1f} fps"


def described(target: Path, scale: int) -> str:
    """What was read back, if it is what it should be; raises AssertionError otherwise."""
    found = read_clip(target)
    if len(found) != FRAMES:
        raise AssertionError(f"{len(found)} of {FRAMES} frames came back")
    expected = [Fraction(at) * TICKS for at in times(FRAMES)]
    wrong = [index for index, (at, _) in enumerate(found) if at != expected[index]]
    if wrong:
        raise AssertionError(f"{len(wrong)} frames have other times, the first of them frame {wrong[0]}")
    size = WIDTH * scale, HEIGHT * scale
    worst = min(psnr(picture, drawn(index, *size)) for index, (_, picture) in enumerate(found))
    if worst < ENOUGH:
        raise AssertionError(f"a frame is only {worst:.1f} dB from what it should show")
    return f"{FRAMES} frames at their times, {size[0]}x{size[1]}, at least {worst:.1f} dB from what they should show"
