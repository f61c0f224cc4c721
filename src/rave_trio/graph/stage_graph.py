"""The stages in their order, and what of orders makes no sense."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import attrs

from rave_trio.errors import GraphError
from rave_trio.graph.settings import given, settings_of
from rave_trio.graph.stages import (
    DecodeStage,
    DeinterlaceStage,
    EncodeStage,
    EnhanceStage,
    ResizeStage,
    StageConfig,
)

GRAPH_SCHEMA_VERSION = 1


def _as_stages(value: Any) -> tuple[StageConfig, ...]:
    return tuple(value)


@attrs.frozen
class StageGraph:
    """What is done with every frame, in order: decode, perhaps deinterlace, any of enhance and resize, encode.

    Raises GraphError for an order that cannot be, with the place in it and what to change.

    A frozen value, for any thread.  :func:`run_graph` runs it.

    >>> from rave_trio import DecodeStage, EncodeStage, EnhanceStage, ResizeStage, StageGraph
    >>> graph = StageGraph([DecodeStage(), EnhanceStage(scale=2), ResizeStage(width=1920), EncodeStage(crf=16)])
    >>> [stage.kind for stage in graph.stages]
    ['decode', 'enhance', 'resize', 'encode']
    """

    stages: tuple[StageConfig, ...] = attrs.field(converter=_as_stages)
    graph_schema_version: int = attrs.field(default=GRAPH_SCHEMA_VERSION, kw_only=True)

    def __attrs_post_init__(self) -> None:
        _check_version(self.graph_schema_version)
        _check_ends(self.stages)
        _check_middle(self.stages)

    @property
    def decode(self) -> DecodeStage:
        """The first stage."""
        stage = self.stages[0]
        assert isinstance(stage, DecodeStage)
        return stage

    @property
    def encode(self) -> EncodeStage:
        """The last stage."""
        stage = self.stages[-1]
        assert isinstance(stage, EncodeStage)
        return stage

    @property
    def deinterlace(self) -> str:
        """``off`` without such a stage, else its mode."""
        stage = self.stages[1]
        return stage.mode or "auto" if isinstance(stage, DeinterlaceStage) else "off"

    @property
    def steps(self) -> dict[int, EnhanceStage | ResizeStage]:
        """What is done with tensors, by its number in the graph, in order."""
        found = enumerate(self.stages)
        return {at: stage for at, stage in found if isinstance(stage, EnhanceStage | ResizeStage)}

    @property
    def precision(self) -> str:
        """Of all models."""
        stages = (stage for stage in self.stages if isinstance(stage, EnhanceStage))
        return next((stage.precision for stage in stages if stage.precision), "auto")

    @property
    def tile(self) -> int | None:
        """The first tile side that is asked for."""
        stages = (stage for stage in self.stages if isinstance(stage, EnhanceStage))
        return next((stage.tile for stage in stages if stage.tile), None)

    def filled(self, values: Mapping[str, Any]) -> StageGraph:
        """The same with what is left open taken from ``values``, by the names of settings, whatever the stage.

        Where a stage has a precision, all of them have it.
        """
        said = [stage.precision for stage in self.stages if isinstance(stage, EnhanceStage) and stage.precision]
        if said:
            values = {**values, "precision": said[0]}
        return attrs.evolve(self, stages=tuple(_filled(stage, values) for stage in self.stages))

    def as_dict(self) -> dict[str, Any]:
        """The document, in plain values; what is left open is left out."""
        return {
            "graph_schema_version": self.graph_schema_version,
            "stages": [{"kind": stage.kind, **given(stage)} for stage in self.stages],
        }


def _filled(stage: StageConfig, values: Mapping[str, Any]) -> StageConfig:
    absent = [name for name in settings_of(type(stage)) if getattr(stage, name) is None]
    changed: StageConfig = attrs.evolve(stage, **{name: values[name] for name in absent if name in values})
    return changed


def _check_version(version: object) -> None:
    if version != GRAPH_SCHEMA_VERSION or isinstance(version, bool):
        raise GraphError(
            f"graph_schema_version is {version!r}, and this rave-trio knows {GRAPH_SCHEMA_VERSION}",
            remedy=f"write graph_schema_version {GRAPH_SCHEMA_VERSION}, or use the rave-trio that the graph is for",
        )


def _check_ends(stages: tuple[StageConfig, ...]) -> None:
    if not stages:
        raise GraphError("stages is empty", remedy="list decode, enhance and encode at least")
    last = len(stages) - 1
    for at, stage in enumerate(stages):
        if isinstance(stage, DecodeStage) != (at == 0):
            told = f"stages[{at}] is {stage.kind}" + (
                ", and decode comes first" if at == 0 else ", and that comes once"
            )
            raise GraphError(told, remedy="begin with one decode" if at == 0 else f"take stages[{at}] away")
        if isinstance(stage, EncodeStage) != (at == last):
            told = f"stages[{at}] is {stage.kind}" + (
                ", and encode comes last" if at == last else ", and that comes last"
            )
            raise GraphError(told, remedy="end with one encode")


def _check_middle(stages: tuple[StageConfig, ...]) -> None:
    precisions: dict[str, int] = {}
    for (before, previous), (at, stage) in itertools.pairwise(enumerate(stages)):
        if isinstance(stage, DeinterlaceStage) and not isinstance(previous, DecodeStage):
            raise GraphError(
                f"stages[{at}] is deinterlace after {previous.kind}", remedy="put it right after decode, once"
            )
        if isinstance(stage, ResizeStage):
            if stage.width is None and stage.height is None:
                raise GraphError(f"stages[{at}] resizes to no size", remedy=f"set stages[{at}].width or height")
            if isinstance(previous, ResizeStage):
                raise GraphError(
                    f"stages[{at}] resizes what stages[{before}] has just resized", remedy="keep one of them"
                )
        if isinstance(stage, EnhanceStage) and stage.precision:
            precisions.setdefault(stage.precision, at)
    if len(precisions) > 1:
        (first, there), (second, here) = list(precisions.items())[:2]
        raise GraphError(
            f"stages[{here}].precision is {second}, and stages[{there}].precision is {first}",
            remedy="models of one graph compute in one precision: write the same in both",
        )
    if not any(isinstance(stage, EnhanceStage | ResizeStage) for stage in stages):
        raise GraphError("stages has neither enhance nor resize", remedy="add one between decode and encode")
