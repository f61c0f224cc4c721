"""A part to where its result belongs, or, if that cannot be, to a place beside it."""

from __future__ import annotations

import functools
import itertools
import logging
from fractions import Fraction
from pathlib import Path

import attrs
import trio.from_thread
import trio.to_thread

from rave_trio.errors import ContractBroken, RaveError, StageCrashed, Stopped
from rave_trio.media.carriage import plan_carriage
from rave_trio.media.containers import container_of, images_of
from rave_trio.media.images import publish_images
from rave_trio.media.parts import Part, PartsFolder
from rave_trio.media.publish import Publication, publish
from rave_trio.media.sequence import ImageSequence
from rave_trio.output import partial_path
from rave_trio.plan import EnginePlan

log = logging.getLogger("rave_trio.delivery")

FIRST_NUMBER = 1
"""Of an image sequence whose input has no numbers of its own."""


class Delivery:
    """Publishes one run's part.  ``notes`` collects what the user should know of it."""

    def __init__(self, plan: EnginePlan, parts: PartsFolder, shifts: tuple[Fraction, ...]) -> None:
        self._plan = plan
        self._parts = parts
        self._shifts = shifts
        self.notes: list[str] = []

    async def publish(self, part: Part) -> None:
        """Publish the result; if it cannot go to its place, keep it or at least the picture beside it, and say so."""
        whole = self._publication(part)
        try:
            await self._publish(whole, self._plan.options.output)
            return
        except Exception as error:
            failure = _named(error)
        try:
            kept = await self._keep(await self._for_fallback(whole), self._fallback)
        except Exception:
            raise failure from failure.__cause__
        told = f"{failure}; {part.frames} finished frames are in {kept}"
        raise type(failure)(told, remedy=failure.remedy, stage=failure.stage, frame=failure.frame) from failure

    async def keep_partial(self, part: Part, defect: RaveError | None) -> RaveError:
        """Publish what there is beside the output, and return the error that says so."""
        output = self._plan.options.output
        told = f"nothing was finished yet; {output} is as it was"
        if part.frames:
            kept = await self._keep(self._publication(part, complete=False), output.suffix)
            told = f"the first {part.frames} frames ({float(part.end):.2f} s) are in {kept}"
        if defect is None:
            return Stopped(f"stopped; {told}")
        if isinstance(defect, ContractBroken):
            return ContractBroken(f"{defect}; {told}", remedy=defect.remedy)
        return type(defect)(f"{defect}; {told}", remedy=defect.remedy, stage="decode", frame=part.frames)

    def _publication(self, part: Part, *, complete: bool = True) -> Publication:
        plan, aspect = self._plan, self._plan.encoder.surface.sample_aspect_ratio
        return Publication(part, plan.media, plan.carriage, complete=complete, aspect=aspect, shifts=self._shifts)

    async def _keep(self, what: Publication, suffix: str) -> str:
        """Publish as a partial file, without the other streams if they are what stands in the way; says where it is."""
        path = self._free_partial(suffix)
        try:
            await self._publish(what, path)
            return str(path)
        except Exception as error:
            log.warning("%s cannot be written with all streams: %s", path, error)
            path = self._free_partial(self._fallback)
            await self._publish(what.alone(), path)
            return f"{path}, the picture alone"

    async def _for_fallback(self, what: Publication) -> Publication:
        """The same for the container that is used if the one that was asked for fails."""
        container = container_of(Path(f"out{self._fallback}"))
        if container is None or container is self._plan.container:
            return what
        fit = functools.partial(plan_carriage, what.media, container, self._plan.encoder, drop_unsupported=True)
        try:
            return attrs.evolve(what, carriage=await trio.to_thread.run_sync(fit))
        except RaveError:
            return what.alone()

    @property
    def _fallback(self) -> str:
        """The ending of what can nearly always be written."""
        return self._plan.options.output.suffix if self._images else ".mkv"

    @property
    def _images(self) -> ImageSequence | None:
        return images_of(self._plan.options.output)

    def _free_partial(self, suffix: str) -> Path:
        """A partial file's path where nothing is yet, unless overwriting was asked for."""
        options = self._plan.options
        path = partial_path(options.output).with_suffix(suffix)
        candidates = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in itertools.count(2))
        while _is_taken(path) and not options.overwrite:
            path = next(candidates)
        return path

    async def _publish(self, what: Publication, target: Path) -> None:
        overwrite, tick = self._plan.options.overwrite, trio.from_thread.check_cancelled

        def work() -> None:
            if sequence := images_of(target):
                number = what.media.first_number
                first = FIRST_NUMBER if number is None else number
                publish_images(what.part, sequence, first, overwrite=overwrite, tick=tick)
            else:
                self.notes += publish(what, target, workspace=self._parts.path, overwrite=overwrite, tick=tick)

        await trio.to_thread.run_sync(work)


def _named(error: Exception) -> RaveError:
    """The error itself, or what says that nobody planned for it."""
    if isinstance(error, RaveError):
        return error
    crash = StageCrashed(f"publishing crashed: {type(error).__name__}: {error}", stage="publish")
    crash.__cause__ = error
    return crash


def _is_taken(path: Path) -> bool:
    sequence = images_of(path)
    return bool(sequence.numbers()) if sequence else path.exists()
