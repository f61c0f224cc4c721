"""How many pictures a GPU computes at once where nobody says: measured once for each network and shape, and remembered.

Whether batches and streams pay depends on how much of the GPU one picture keeps busy, on the library and on the driver,
so it is not worked out but tried: ever larger batches on one stream for as long as they gain, then more streams.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs

from rave_trio.caches import cache_folder
from rave_trio.caches import keep as keep_file
from rave_trio.devices.backends import library_version
from rave_trio.devices.nvml import driver_version
from rave_trio.fit import Fit, fit_with
from rave_trio.plan import EnginePlan
from rave_trio.speed import speedometer
from rave_trio.steps import Enhancing, Step

log = logging.getLogger("rave_trio.plan")

FORMAT = 2
"""Of the files, and of whatever else of ours the speeds depend on; others are not read."""

BATCHES = (1, 2, 4, 8)
STREAMS = (1, 2)

GAIN = 1.03
"""By how much more than the best so far something must give to be worth its memory, and to be more than chance."""

BUSY = 4.0
"""Pictures a second below which nothing else is tried: what batches and streams save is milliseconds a picture, and a
few pictures would take long."""

SECONDS = 0.25
"""That each is measured for."""

WARM_UP = 0.3
"""Seconds before the first, in which a GPU at rest raises its clocks."""


@attrs.frozen
class Speed:
    """What was measured of one way to compute."""

    batch: int
    streams: int
    per_second: float
    """Pictures of one tile, or whole frames where there are no tiles."""


@attrs.frozen
class Tuning:
    """What was measured, in that order, and so what is chosen; or why nothing was."""

    speeds: tuple[Speed, ...]
    failure: str | None = None

    @property
    def best(self) -> Speed:
        """The first of all, but for what gave clearly more than the best before it."""
        best = self.speeds[0]
        for speed in self.speeds[1:]:
            if speed.per_second > GAIN * best.per_second:
                best = speed
        return best

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return attrs.asdict(self)

    def text(self) -> str:
        """One line for people."""
        if self.failure is not None:
            return f"not measured: {self.failure}"
        tried = ", ".join(f"{each.batch} x {each.streams}: {each.per_second:.4g}" for each in self.speeds)
        return f"measured on this GPU, batch x streams: pictures a second, {tried}"


@attrs.frozen
class Key:
    """All that the speeds depend on."""

    gpu: str
    driver: str | None
    backend: str
    library: str | None
    """The version of what the backend computes with."""
    model_sha256: str
    precision: str
    tile: tuple[int, int]
    """Height and width."""
    batches: tuple[int, ...]
    streams: tuple[int, ...]
    """What may be chosen."""
    format: int = FORMAT

    def path(self, folder: Path) -> Path:
        """Where its speeds are kept."""
        return folder / f"{hashlib.sha256(json.dumps(attrs.astuple(self)).encode()).hexdigest()[:32]}.json"


Rate = Callable[[int, int], float | None]
"""Pictures a second with so many streams and such a batch; None for what there is no memory for."""


Steps = tuple[Step, ...]


@attrs.frozen
class Kept:
    """What was remembered for ``auto``, or why nothing was."""

    speeds: tuple[Speed, ...] = ()
    reason: str | None = None
    where: str = ""
    """What it is remembered for, in words."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``chosen`` is what ``auto`` takes from now on."""
        chosen = attrs.asdict(Tuning(self.speeds).best) if self.speeds else None
        return {**attrs.asdict(self), "chosen": chosen}

    def text(self) -> str:
        """One line for people."""
        if not self.speeds:
            return f"nothing was remembered for auto: {self.reason}"
        best = Tuning(self.speeds).best
        return f"remembered: auto takes batch {best.batch} and streams {best.streams} for {self.where}"


def network_rate(plan: EnginePlan, steps: Steps) -> float:
    """Pictures of one tile a second of the plan's one model as the plan has it computed, measured as for ``auto``."""
    step, (geometry,) = _enhancing(steps), plan.geometries
    with speedometer(plan, steps, step) as measuring:
        cell = step.model.geometry(geometry.tile_height, geometry.tile_width, None)
        return measuring.rate(cell, plan.streams, plan.batch, seconds=SECONDS, warm_up=WARM_UP)


def keep(plan: EnginePlan, steps: Steps, speeds: Iterable[Speed], *, complete: bool) -> Kept:
    """Have ``auto`` choose by these speeds where it would measure for that plan, in place of what it remembered.

    Only what ``auto`` may choose is kept, and nothing unless all was measured (``complete``): what failed, such as for
    want of memory that something else has, may go another time.
    """
    if plan.gpu is None:
        return Kept(reason="on the CPU auto goes by the cores")
    if len(plan.models) != 1:
        return Kept(reason="auto measures plans of one model alone")
    key = key_of(plan, steps)
    if len(key.batches) == len(key.streams) == 1:
        return Kept(reason=f"for {key.backend} auto has nothing to choose")
    if not complete:
        return Kept(reason="not every combination could be measured")
    allowed = [speed for speed in speeds if speed.batch in key.batches and speed.streams in key.streams]
    if not allowed:
        return Kept(reason=f"auto chooses among batches of {key.batches} and streams of {key.streams} alone")
    tuning = Tuning(tuple(sorted(allowed, key=lambda speed: (speed.batch * speed.streams, speed.streams))))
    folder = cache_folder("tuning")
    if folder is not None:
        remember(key, tuning, folder)
    if folder is None or remembered(key, folder) != tuning:
        return Kept(reason=f"the folder {folder} cannot be written" if folder else "there is no home folder")
    height, width = key.tile
    return Kept(
        tuning.speeds, where=f"{plan.models[0].name} at {width}x{height}, {key.backend} {key.precision} on {key.gpu}"
    )


def tuned(plan: EnginePlan, steps: Steps) -> EnginePlan:
    """The plan of a GPU and of one model with the batch and streams that nobody asked for chosen.

    Measures for a few seconds where it is not remembered.  What does not fit into the plan's memory is not tried, and
    where something fails, nothing is chosen and nothing is remembered.  Blocking.
    """
    key = key_of(plan, steps)
    if len(key.batches) == len(key.streams) == 1:
        return plan
    folder = cache_folder("tuning")
    tuning = None if folder is None else remembered(key, folder)
    if tuning is None:
        tuning, complete = _measured(plan, steps, key)
        if complete and folder is not None:
            remember(key, tuning, folder)
    if not tuning.speeds:
        return attrs.evolve(plan, tuning=tuning)
    best = tuning.best
    fit = _fit(plan, steps, best.streams, best.batch) or plan.fit  # also of what was remembered when memory was free
    return attrs.evolve(plan, fit=fit, tuning=tuning)


def key_of(plan: EnginePlan, steps: Steps) -> Key:
    """What the plan's speeds depend on, and what may be chosen for it."""
    assert plan.gpu is not None
    options, (geometry,) = plan.options, plan.geometries
    return Key(
        gpu=plan.gpu.name,
        driver=driver_version(),
        backend=plan.backend,
        library=library_version(plan.backend),
        model_sha256=plan.models[0].sha256,
        precision=plan.precision,
        tile=(geometry.tile_height, geometry.tile_width),
        batches=_batches(plan, steps) if options.batch is None else (options.batch,),
        streams=_streams(plan) if options.streams is None else (options.streams,),
    )


def _enhancing(steps: Steps) -> Enhancing:
    (step,) = [step for step in steps if isinstance(step, Enhancing)]
    return step


def _batches(plan: EnginePlan, steps: Steps) -> tuple[int, ...]:
    """With TensorRT each would be an engine to build, for up to minutes, so it has to be asked for."""
    return BATCHES if plan.backend == "onnxruntime" and _enhancing(steps).model.takes_batches else BATCHES[:1]


def _streams(plan: EnginePlan) -> tuple[int, ...]:
    """Our own kernels fill the GPU with one frame."""
    return STREAMS[:1] if plan.backend == "compact" else STREAMS


def search(rate: Rate, batches: tuple[int, ...], streams: tuple[int, ...]) -> Tuning:
    """Try what is worth it: larger batches until one does not gain, then more streams with the best of them."""
    first = rate(streams[0], batches[0])
    assert first is not None
    tuning = Tuning((Speed(batches[0], streams[0], first),))
    if first < BUSY:
        return tuning
    tuning = _climb(rate, tuning, [(batch, streams[0]) for batch in batches[1:]])
    return _climb(rate, tuning, [(tuning.best.batch, count) for count in streams[1:]])


def _climb(rate: Rate, tuning: Tuning, ways: list[tuple[int, int]]) -> Tuning:
    """Try each batch and streams for as long as they gain."""
    for batch, streams in ways:
        per_second = rate(streams, batch)
        if per_second is None:
            break
        best = tuning.best
        tuning = Tuning((*tuning.speeds, Speed(batch, streams, per_second)))
        if tuning.best == best:
            break
    return tuning


def remembered(key: Key, folder: Path) -> Tuning | None:
    """What was measured before; None if nothing was, or it cannot be read."""
    try:
        kept = json.loads(key.path(folder).read_text())
        speeds = tuple(Speed(int(batch), int(streams), float(rate)) for batch, streams, rate in kept["speeds"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    allowed = all(
        speed.batch in key.batches and speed.streams in key.streams and 0 < speed.per_second < math.inf
        for speed in speeds
    )
    return Tuning(speeds) if speeds and allowed else None


def remember(key: Key, tuning: Tuning, folder: Path) -> None:
    """Keep it for the next plan.  A folder that cannot be written is done without."""
    document = {"key": attrs.asdict(key), "speeds": [attrs.astuple(speed) for speed in tuning.speeds]}
    with contextlib.suppress(OSError):
        keep_file(key.path(folder), json.dumps(document))


def _measured(plan: EnginePlan, steps: Steps, key: Key) -> tuple[Tuning, bool]:
    """What was measured, and whether all was tried that is worth it."""
    step = _enhancing(steps)
    cell = step.model.geometry(*key.tile, None)
    least = key.streams[0], key.batches[0]
    complete = True
    log.info("finding out how many pictures %s computes at once best, which is done once", key.gpu)
    try:
        with speedometer(plan, steps, step) as measuring:

            def rate(streams: int, batch: int) -> float | None:
                nonlocal complete
                if (streams, batch) == least:
                    return measuring.rate(cell, streams, batch, seconds=SECONDS, warm_up=WARM_UP)
                if _fit(plan, steps, streams, batch) is None:
                    complete = False
                    return None
                return measuring.rate(cell, streams, batch, seconds=SECONDS)

            return search(rate, key.batches, key.streams), complete
    except Exception as error:  # whatever it is, a run that meets it as well says it better
        log.debug("measuring failed", exc_info=True)
        return Tuning((), " ".join(str(error).split()) or type(error).__name__), False


def _fit(plan: EnginePlan, steps: Steps, streams: int, batch: int) -> Fit | None:
    return fit_with(plan.work(steps), plan.fit, plan.memory_limit, streams=streams, batch=batch)
