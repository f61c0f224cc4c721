"""``rave-trio plan``: what would run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_trio.cli.flags import Common, InputFile, JobFlags, Output, OutputFile
from rave_trio.cli.render import table

if TYPE_CHECKING:
    from rave_trio.estimate import Estimate
    from rave_trio.inference.model import Geometry
    from rave_trio.media.carriage import Carriage
    from rave_trio.plan import EnginePlan

DEFAULT_FLAGS = JobFlags()
DEFAULT_COMMON = Common()


def plan(
    input: InputFile,
    output: OutputFile,
    *,
    flags: JobFlags = DEFAULT_FLAGS,
    common: Common = DEFAULT_COMMON,
) -> Output:
    """Show what upscale would do, with an estimate of the time, and write nothing.

    Parameters
    ----------
    input
        The video to read.
    output
        The file that would be made.
    """
    from rave_trio.estimate import estimate
    from rave_trio.plan import make_plan

    common.start_logging()
    decided, steps = make_plan(flags.options(input, output))
    guess = estimate(decided, steps)
    return Output({"plan": decided.as_dict(), "estimate": guess.as_dict()}, _text(decided, guess))


def _carried(carriage: Carriage) -> str:
    stream = carriage.stream
    fate = carriage.fate.value if carriage.codec == stream.codec else f"{carriage.fate.value} to {carriage.codec}"
    words = (f"#{stream.index}", stream.kind, stream.codec, stream.language, stream.title and f'"{stream.title}"')
    return f"{' '.join(word for word in words if word)}: {fate}"


def _text(plan: EnginePlan, guess: Estimate) -> str:
    source, target = plan.media.video.surface, plan.encoder.surface
    options = " ".join(f"{key} {value}" for key, value in plan.encoder.options if key in ("crf", "preset"))
    channels = plan.fit.pipeline
    rows = [
        (
            "input",
            f"{plan.media.path}: {source.width}x{source.height} {source.pixel_format.name}, {plan.media.video.codec}",
        ),
        (
            "output",
            f"{plan.options.output}: {target.width}x{target.height} {target.pixel_format.name}"
            + (", dithered" if plan.dither else ""),
        ),
        *_stages(plan),
        (
            "backend",
            _backend(plan),
        ),
        *([("tuning", plan.tuning.text())] if plan.tuning else []),
        ("decoder", plan.decoder),
        ("encoder", f"{plan.encoder.encoder} {options}".rstrip()),
        (
            "channels",
            f"decoded {channels.decoded_capacity}, preprocessed {channels.preprocessed_capacity}, "
            f"upscaled {channels.upscaled_capacity}; {plan.depth} frames in the backend" + _deadline(plan),
        ),
        ("memory", f"about {plan.fit.memory / 1e6:,.0f} MB beside the libraries"),
        ("time", guess.text()),
    ]
    rows += [("stream", _carried(carriage)) for carriage in plan.carriage]
    rows += [("note", note) for note in plan.notes]
    return table(rows)


def _deadline(plan: EnginePlan) -> str:
    channels = plan.fit.pipeline
    if not channels.batch_deadline or channels.batch_frames == 1:
        return ""
    return f"; up to {1000 * channels.batch_deadline:g} ms until {channels.batch_frames} frames fill the batches"


def _stages(plan: EnginePlan) -> list[tuple[str, str]]:
    """A row for each model and each exact size."""
    geometries, rows = iter(plan.geometries), []
    for stage in plan.stages:
        if stage.model is None:
            rows.append(("resize", f"to {stage.width}x{stage.height}, Lanczos-3"))
        else:
            rows.append(("model", f"{stage.model.name}, x{stage.model.scale}, {_tiles(next(geometries))}"))
    return rows


def _tiles(geometry: Geometry) -> str:
    tiles = "whole frames"
    if geometry.tiles > 1:
        tiles = (
            f"{geometry.tiles} tiles of {geometry.tile_width}x{geometry.tile_height} a frame, "
            f"overlapping by {geometry.overlap} pixels on each side"
        )
    return tiles if geometry.strip is None else f"{tiles}, computed in strips of {geometry.strip} rows"


def _backend(plan: EnginePlan) -> str:
    where = f"{plan.backend} on {plan.device.name}, {plan.precision}"
    streams = f"{plan.streams} stream{'s' if plan.streams > 1 else ''}"
    if plan.gpu is None:
        return f"{where}, {streams}, {plan.threads} threads"
    return f"{where}, {streams}, {f'batches of {plan.batch}' if plan.batch > 1 else 'pictures one by one'}"
