"""rave-trio: neural video upscaling on structured concurrency.

The floor plan.  Lower floors never import higher ones, and a test enforces it:

    4  cli                                       commands, rendering for people and programs
    3  steps, plan, job, report, fingerprint     decide, run, account for it
       observe                                   what an operator sees of a run
       testing, audit                            synthetic stages and planted faults; checks of our own promises
    2  pipeline                                  the nursery, stages, channels, metrics, stopping
    1  memory, devices, media, color, inference, resizing   passive pieces with short blocking methods
    0  errors, frames, options, graph, profiles, contract   words that every floor shares

The names below are the public ones.  They load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rave_trio.audit import StressReport, stress_test_synthetic
    from rave_trio.contract import RunContract
    from rave_trio.errors import RaveError, Stopped
    from rave_trio.fingerprint import EngineFingerprint
    from rave_trio.graph import (
        DecodeStage,
        DeinterlaceStage,
        EncodeStage,
        EnhanceStage,
        ResizeStage,
        StageConfig,
        StageGraph,
    )
    from rave_trio.inference_pipeline import InferencePipeline
    from rave_trio.job import run_graph, upscale, upscale_sync
    from rave_trio.media.compare import Comparison, compare
    from rave_trio.observe.health import HealthSnapshot
    from rave_trio.options import UpscaleOptions
    from rave_trio.pipeline import PipelineConfig, PipelineMetrics, Stop, UpscalePipeline
    from rave_trio.plan import EnginePlan, make_plan
    from rave_trio.profiles import ProfilePreset
    from rave_trio.progress import Progress
    from rave_trio.report import PipelineReport

__version__ = "0.1.0"

logging.getLogger("rave_trio").addHandler(logging.NullHandler())  # quiet unless the program that uses it wants to hear

_HOMES = {
    "Comparison": "media.compare",
    "DecodeStage": "graph",
    "DeinterlaceStage": "graph",
    "EncodeStage": "graph",
    "EngineFingerprint": "fingerprint",
    "EnginePlan": "plan",
    "EnhanceStage": "graph",
    "HealthSnapshot": "observe.health",
    "InferencePipeline": "inference_pipeline",
    "PipelineConfig": "pipeline",
    "PipelineMetrics": "pipeline",
    "PipelineReport": "report",
    "ProfilePreset": "profiles",
    "Progress": "progress",
    "RaveError": "errors",
    "ResizeStage": "graph",
    "RunContract": "contract",
    "StageConfig": "graph",
    "StageGraph": "graph",
    "Stop": "pipeline",
    "Stopped": "errors",
    "StressReport": "audit",
    "UpscaleOptions": "options",
    "UpscalePipeline": "pipeline",
    "compare": "media.compare",
    "make_plan": "plan",
    "run_graph": "job",
    "stress_test_synthetic": "audit",
    "upscale": "job",
    "upscale_sync": "job",
}

__all__ = [
    "Comparison",
    "DecodeStage",
    "DeinterlaceStage",
    "EncodeStage",
    "EngineFingerprint",
    "EnginePlan",
    "EnhanceStage",
    "HealthSnapshot",
    "InferencePipeline",
    "PipelineConfig",
    "PipelineMetrics",
    "PipelineReport",
    "ProfilePreset",
    "Progress",
    "RaveError",
    "ResizeStage",
    "RunContract",
    "StageConfig",
    "StageGraph",
    "Stop",
    "Stopped",
    "StressReport",
    "UpscaleOptions",
    "UpscalePipeline",
    "__version__",
    "compare",
    "make_plan",
    "run_graph",
    "stress_test_synthetic",
    "upscale",
    "upscale_sync",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
