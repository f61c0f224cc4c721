"""``rave-trio benchmark``: how fast, what is in the way, and what would be faster."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from rave_trio import errors
from rave_trio.cli.flags import Common, JobFlags, Output
from rave_trio.cli.render import say, table

if TYPE_CHECKING:
    from rave_trio.bench.report import Settings

DEFAULT_FLAGS = JobFlags()
DEFAULT_COMMON = Common()

MOST_PIXELS = 8192


def app(sources: list[Any]) -> App:
    """The command, whose options have their defaults from ``sources``, and ``compare`` below it."""
    made = App(name="benchmark", config=sources)
    made.default(benchmark)
    made.command(compare, config=sources[:1])
    return made


def benchmark(
    input: Path | None = None,
    /,
    *,
    skip_encode: Annotated[bool, Parameter(negative="")] = False,
    frames: int = 48,
    input_size: str = "640x360",
    repeat: int = 3,
    warm_up: int = 1,
    sweep: str | None = None,
    json_out: Path | None = None,
    flags: JobFlags = DEFAULT_FLAGS,
    common: Common = DEFAULT_COMMON,
) -> Output:
    """Measure the pipeline beside its network alone, or settings against one another.

    Nothing is published.  Speeds are medians, with the least and the most.

    Parameters
    ----------
    input
        The video to measure with; without one, a clip is made.
    skip_encode
        Discard pictures instead of encoding them.
    frames
        Measure with this many frames at most.
    input_size
        Width and height of the clip that is made without an input.
    repeat
        How many runs count.
    warm_up
        How many runs before those do not.
    sweep
        Measure combinations of batch, streams, depth (of queues) and tile, such as batch,streams or
        batch=1,2,4,tile=auto,512; what batches and streams give is remembered, and auto takes the best from then on.
    json_out
        Write what was found to this file, by rave_trio/schemas/benchmark.json; --overwrite replaces it.
    """
    from rave_trio.bench.axes import read_axes
    from rave_trio.bench.benchmark import prepared, run_benchmark

    common.start_logging()
    settings = _settings(frames, repeat, warm_up, encode=not skip_encode, size=None if input else input_size)
    axes = None if sweep is None else read_axes(sweep)
    if json_out is not None:
        _check_place(json_out, input, overwrite=flags.overwrite)
    with prepared(flags.options(input or Path("in.mkv"), Path("out.mkv")), settings) as options:
        if axes is None:
            report = run_benchmark(options, settings)
            kind, found, text = "benchmark", report.as_dict(), table(report.rows())
        else:
            from rave_trio.bench.sweep import run_sweep

            swept = run_sweep(options, settings, axes)
            kind, found, text = "sweep", swept.as_dict(), swept.text()
    if json_out is not None:
        try:
            _write(json_out, found)
        except errors.OutputError:
            say(text)  # it took long to find out
            raise
    return Output({kind: found}, text)


def compare(first: Path, second: Path, /, *, common: Common = DEFAULT_COMMON) -> Output:
    """Compare two benchmarks: ratios of the second to the first, and what differs of settings, versions and hardware.

    Figures differ where every run of the one was faster than every run of the other; that takes two runs of each.

    Parameters
    ----------
    first
        What rave-trio benchmark --json-out wrote.
    second
        The same of another time, machine or version.
    """
    from rave_trio.bench.compare import compare_benchmarks

    common.start_logging()
    found = compare_benchmarks(first, second)
    return Output({"comparison": found.as_dict()}, table(found.rows()))


def _settings(frames: int, repeat: int, warm_up: int, *, encode: bool, size: str | None) -> Settings:
    from rave_trio.bench.report import Settings

    for name, number, least in (("frames", frames, 1), ("repeat", repeat, 1), ("warm-up", warm_up, 0)):
        if number < least:
            raise errors.UsageError(f"--{name} must be at least {least}, not {number}")
    return Settings(frames, repeat, warm_up, encode, None if size is None else _size(size))


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", text)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (16 <= width <= MOST_PIXELS and 16 <= height <= MOST_PIXELS) or width % 2 or height % 2:
        raise errors.UsageError(
            f"{text!r} is no size for a clip",
            remedy=f"give even numbers from 16 to {MOST_PIXELS}, as --input-size 1920x1080",
        )
    return width, height


def _check_place(path: Path, input: Path | None, *, overwrite: bool) -> None:
    from rave_trio.files import check_place, is_same

    if input is not None and is_same(path, input):
        raise errors.OutputIsInput(f"--json-out names the input itself, {path}", remedy="give it another name")
    check_place(path, overwrite=overwrite)


def _write(path: Path, found: dict[str, Any]) -> None:
    from rave_trio.files import write_whole
    from rave_trio.media._libav import writing

    with writing(path, errors.OutputNotWritable):
        write_whole(path, (json.dumps(found, default=str, indent=2) + "\n").encode())
