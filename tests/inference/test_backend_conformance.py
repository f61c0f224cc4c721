"""The conformance suite over all backends that run on any machine.  tests/gpu runs it over the others."""

from __future__ import annotations

import backend_conformance as suite
import pytest
from backend_conformance import model, start
from backend_rigs import (
    OnnxRuntimeBatchRig,
    OnnxRuntimeBatchStreamsRig,
    OnnxRuntimeHalfRig,
    OnnxRuntimeRig,
    OnnxRuntimeStreamsRig,
    OpenVinoOneStreamRig,
    OpenVinoRig,
    SimulatedRig,
)
from compact_rigs import CompactFp8Rig, CompactRig, CompactStripsRig
from tensorrt_rigs import TensorRtBatchRig, TensorRtHalfRig, TensorRtRig

__all__ = ["model", "start"]

ANY_MODEL = [
    OpenVinoRig,
    OpenVinoOneStreamRig,
    OnnxRuntimeRig,
    OnnxRuntimeHalfRig,
    OnnxRuntimeStreamsRig,
    TensorRtRig,
    TensorRtHalfRig,
]
ONE_FAMILY = [CompactRig, CompactStripsRig, CompactFp8Rig]
IN_BATCHES = [OnnxRuntimeBatchRig, OnnxRuntimeBatchStreamsRig, TensorRtBatchRig]
COMPUTING = [*ANY_MODEL, *ONE_FAMILY, *IN_BATCHES]


@pytest.fixture(params=[*COMPUTING, SimulatedRig], ids=lambda kind: kind.__name__)
def rig(request):
    made = request.param()
    yield made
    made.close()


class TestOrder(suite.Order): ...


class TestClose(suite.Close): ...


class TestScarcity(suite.Scarcity): ...


class TestResults(suite.Results):
    @pytest.fixture(params=COMPUTING, ids=lambda kind: kind.__name__)
    def rig(self, request):
        made = request.param()
        yield made
        made.close()


class TestFailures(suite.Failures):
    @pytest.fixture(params=[*ANY_MODEL, *ONE_FAMILY], ids=lambda kind: kind.__name__)
    def rig(self, request):
        made = request.param()
        yield made
        made.close()


class TestOtherModels(suite.OtherModels):
    @pytest.fixture(params=[*ANY_MODEL, *IN_BATCHES], ids=lambda kind: kind.__name__)
    def rig(self, request):
        made = request.param()
        yield made
        made.close()


class TestBatches(suite.Batches):
    @pytest.fixture(params=IN_BATCHES, ids=lambda kind: kind.__name__)
    def rig(self, request):
        made = request.param()
        yield made
        made.close()
