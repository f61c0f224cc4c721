"""What is to be done with a video, as a document: ordered stages, each with its settings."""

from rave_trio.graph.documents import as_json, as_toml, graph_from, read_graph
from rave_trio.graph.stage_graph import GRAPH_SCHEMA_VERSION, StageGraph
from rave_trio.graph.stages import (
    DecodeStage,
    DeinterlaceStage,
    EncodeStage,
    EnhanceStage,
    ResizeStage,
    StageConfig,
)

__all__ = [
    "GRAPH_SCHEMA_VERSION",
    "DecodeStage",
    "DeinterlaceStage",
    "EncodeStage",
    "EnhanceStage",
    "ResizeStage",
    "StageConfig",
    "StageGraph",
    "as_json",
    "as_toml",
    "graph_from",
    "read_graph",
]
