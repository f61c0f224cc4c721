"""The nursery, the stages' loops, the channels between them, and the numbers they keep.

Knows the protocols that a decoder, a converter, a backend and an encoder follow, and none of the libraries behind them.
"""

from rave_trio.pipeline.latency import Latency
from rave_trio.pipeline.metrics import ChannelMetrics, Observer, PipelineMetrics, StageMetrics
from rave_trio.pipeline.pipeline import PipelineConfig, UpscalePipeline
from rave_trio.pipeline.protocols import Backend, Converter, Decoder, Encoder, Unchanged
from rave_trio.pipeline.stop import Stop, run_stoppable
from rave_trio.pipeline.tasks import alongside

__all__ = [
    "Backend",
    "ChannelMetrics",
    "Converter",
    "Decoder",
    "Encoder",
    "Latency",
    "Observer",
    "PipelineConfig",
    "PipelineMetrics",
    "StageMetrics",
    "Stop",
    "Unchanged",
    "UpscalePipeline",
    "alongside",
    "run_stoppable",
]
