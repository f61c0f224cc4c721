"""The conformance suite over all backends that run on any machine.  tests/gpu runs it over the others."""

from __future__ import annotations

import backend_conformance as suite
import pytest
from backend_conformance import model, start
from backend_rigs import OnnxRuntimeHalfRig, OnnxRuntimeRig, OpenVinoOneStreamRig, OpenVinoRig, SimulatedRig
from compact_rigs import CompactRig, CompactStripsRig
from tensorrt_rigs import TensorRtHalfRig, TensorRtRig

__all__ = ["model", "start"]

GENERAL = [OpenVinoRig, OpenVinoOneStreamRig, OnnxRuntimeRig, OnnxRuntimeHalfRig, TensorRtRig, TensorRtHalfRig]
"""Those that compute any model."""

COMPUTING = [*GENERAL, CompactRig, CompactStripsRig]


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


class TestOtherModels(OfModels, suite.OtherModels):
    @pytest.fixture(params=GENERAL, ids=lambda kind: kind.__name__)
    def rig(self, request):
        made = request.param()
        yield made
        made.close()


class TestFailures(OfModels, suite.Failures): ...
