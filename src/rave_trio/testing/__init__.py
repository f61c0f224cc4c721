"""Parts for tests of pipelines, one's own included: synthetic stages, planted faults, and checks that nothing is left.

Everything here follows the pipeline's protocols (:mod:`rave_trio.pipeline.protocols`) and its thread rules: one caller
at a time, from any thread.
"""

from rave_trio.testing.backend import SimulatedBackend
from rave_trio.testing.faults import CALLS, KINDS, Fault, FaultPlan, Planted, every_fault
from rave_trio.testing.leaks import Holdings, assert_nothing_left, holdings, left_since
from rave_trio.testing.synthetic import (
    CountingEncoder,
    SyntheticDecoder,
    SyntheticToSurface,
    SyntheticToTensor,
    most_memory,
)

__all__ = [
    "CALLS",
    "KINDS",
    "CountingEncoder",
    "Fault",
    "FaultPlan",
    "Holdings",
    "Planted",
    "SimulatedBackend",
    "SyntheticDecoder",
    "SyntheticToSurface",
    "SyntheticToTensor",
    "assert_nothing_left",
    "every_fault",
    "holdings",
    "left_since",
    "most_memory",
]
