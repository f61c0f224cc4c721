"""The conformance suite over all backends that run on any machine.  tests/gpu runs it over the others."""

from __future__ import annotations

import backend_conformance as suite
import pytest
from backend_conformance import model, start
from backend_rigs import OnnxRuntimeHalfRig, OnnxRuntimeRig, OpenVinoOneStreamRig, OpenVinoRig, SimulatedRig
from tensorrt_rigs import TensorRtHalfRig, TensorRtRig

__all__ = ["model", "start"]

COMPUTING = [OpenVinoRig, OpenVinoOneStreamRig, OnnxRuntimeRig, OnnxRuntimeHalfRig, TensorRtRig, TensorRtHalfRig]


@pytest.fixture(params=[*COMPUTING, SimulatedRig], ids=lambda kind: kind.__name__)
def rig(request):
    made = request.param()
    yield made
    made.close()


class TestOrder(suite.Order): ...


class TestClose(suite.Close): ...


class TestScarcity(suite.Scarcity): ...


class OfModels:
    @pytest.fixture(params=COMPUTING, ids=lambda kind: kind.__name__)
    def rig(self, request):
        made = request.param()
        yield made
        made.close()


class TestResults(OfModels, suite.Results): ...


class TestFailures(OfModels, suite.Failures): ...
