"""What is done with the tensors of a run, in order: models over them and exact sizes.  Sizes in pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import attrs

from rave_trio import errors
from rave_trio.frames import SurfaceDescriptor
from rave_trio.graph import EnhanceStage, ResizeStage, StageGraph
from rave_trio.inference.catalogue import catalogue, find_model, model_for_scale
from rave_trio.inference.model import Geometry, ModelMetadata
from rave_trio.inference.openvino_model import Model

USUAL_SCALE = 2


@attrs.frozen
class StagePlan:
    """One step as the plan has it: what it is, and the size that comes out."""

    kind: str
    width: int
    height: int
    model: ModelMetadata | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        described: dict[str, Any] = {"kind": self.kind, "width": self.width, "height": self.height}
        if self.model is not None:
            names = "name", "scale", "sha256", "input_channels", "output_channels"
            described["model"] = {name: getattr(self.model, name) for name in names}
        return described


@attrs.frozen
class Enhancing:
    """A model over pictures of ``source``'s size, and the largest side of a tile that was asked for."""

    model: Model
    source: SurfaceDescriptor
    tile: int | None = None

    @property
    def target(self) -> SurfaceDescriptor:
        """What comes out; of the descriptor only the size and the pixels' aspect ratio mean something."""
        scale = self.model.metadata.scale
        return attrs.evolve(self.source, width=self.source.width * scale, height=self.source.height * scale)

    @property
    def planned(self) -> StagePlan:
        """As a value."""
        return StagePlan(EnhanceStage.kind, self.target.width, self.target.height, self.model.metadata)

    def geometry(self, tile: int | None) -> Geometry:
        """Tiles of at most ``tile`` pixels a side, or whole pictures.  Raises ModelUnsupported where it cannot be."""
        return self.model.geometry(self.source.height, self.source.width, tile, seamless=self.tile is not None)


@attrs.frozen
class Resizing:
    """Pictures of ``source``'s size to that of ``target``."""

    source: SurfaceDescriptor
    target: SurfaceDescriptor

    @property
    def planned(self) -> StagePlan:
        """As a value."""
        return StagePlan(ResizeStage.kind, self.target.width, self.target.height)


Step = Enhancing | Resizing


def steps_of(graph: StageGraph, source: SurfaceDescriptor) -> tuple[Step, ...]:
    """The steps for pictures like ``source``.  Reads the models.

    Raises what finding and reading a model raises, ModelScaleMismatch, and ModelUnsupported for a model that gives grey
    to another one; where there are several stages, the message says which.
    """
    made: list[Step] = []
    stages = list(graph.steps.items())
    for number, (at, stage) in enumerate(stages):
        place = f"stages[{at}]" if len(stages) > 1 else None
        if isinstance(stage, ResizeStage):
            made.append(Resizing(source, resized(source, stage)))
        else:
            following = stages[number + 1][1] if number + 1 < len(stages) else None
            _check_colours(made, place)
            with _located(place):
                model = _model(stage, source, following)
            made.append(Enhancing(model, source, stage.tile))
        source = made[-1].target
    return tuple(made)


def resized(source: SurfaceDescriptor, stage: ResizeStage) -> SurfaceDescriptor:
    """``source`` in the stage's size, its pixels' aspect ratio such that the picture keeps the shape it is shown in."""
    ratio = source.sample_aspect_ratio or Fraction(1)
    shape = ratio * Fraction(source.width, source.height)
    pixels = Fraction(1) if stage.square_pixels else ratio
    width, height = stage.width, stage.height
    if width is not None and height is not None:
        pixels = Fraction(1) if stage.square_pixels else shape * Fraction(height, width)
    elif width is not None:
        height = _even(width * pixels / shape)
    elif height is not None:
        width = _even(height * shape / pixels)
    assert width is not None
    assert height is not None
    said = None if pixels == 1 and source.sample_aspect_ratio is None else pixels
    return attrs.evolve(source, width=width, height=height, sample_aspect_ratio=said)


def _even(side: Fraction) -> int:
    return max(2, 2 * round(side / 2))


def _model(stage: EnhanceStage, source: SurfaceDescriptor, following: EnhanceStage | ResizeStage | None) -> Model:
    if stage.model is None:
        entry = model_for_scale(stage.scale or _fitting_scale(source, following))
        return Model(entry.name, entry.path)
    model = Model(*find_model(stage.model))
    if stage.scale is not None and stage.scale != model.metadata.scale:
        raise errors.ModelScaleMismatch(
            f"model {model.metadata.name} enlarges {model.metadata.scale} times, not {stage.scale} times"
        )
    return model


def _fitting_scale(source: SurfaceDescriptor, following: EnhanceStage | ResizeStage | None) -> int:
    """The smallest shipped scale that reaches the size that follows, the largest if none does, or the usual one."""
    if not isinstance(following, ResizeStage):
        return USUAL_SCALE
    target = resized(source, following)
    scales = sorted(model.scale for model in catalogue().values())
    reached = (s for s in scales if source.width * s >= target.width and source.height * s >= target.height)
    return next(reached, scales[-1])


def _check_colours(before: list[Step], place: str | None) -> None:
    """Raises ModelUnsupported where a model is given grey, which it cannot take."""
    for step in before:
        if isinstance(step, Enhancing) and grey(step.model.metadata):
            raise errors.ModelUnsupported(
                f"model {step.model.metadata.name} makes grey of colours, which the model of {place} cannot take",
                remedy="put it last of all enhance stages",
            )


def grey(model: ModelMetadata) -> bool:
    """Whether colours come out of it as grey."""
    return model.output_channels * (3 // model.input_channels) == 1


@contextlib.contextmanager
def _located(place: str | None) -> Iterator[None]:
    try:
        yield
    except errors.RaveError as error:
        if place is None:
            raise
        raise type(error)(f"{place}: {error}", remedy=error.remedy) from error
