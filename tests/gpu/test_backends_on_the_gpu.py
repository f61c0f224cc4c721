"""The conformance suite over the backends that need a GPU, and what only a GPU can show of them."""

from __future__ import annotations

import backend_conformance as suite
import numpy as np
import pytest
from backend_conformance import model, start
from cuda_rigs import (
    OnnxRuntimeCudaBatchRig,
    OnnxRuntimeCudaBatchStreamsRig,
    OnnxRuntimeCudaHalfRig,
    OnnxRuntimeCudaRig,
    open_gpu,
)
from onnx import TensorProto

from rave_trio import errors
from rave_trio.color import SurfaceToTensor
from rave_trio.inference.model import ModelMetadata
from rave_trio.inference.onnxruntime_backend import OWNER
from rave_trio.inference.retreat import RetreatingBackend
from rave_trio.media.decoder import LibavDecoder
from rave_trio.media.probe import probe
from rave_trio.memory import HostPool, Ledger

__all__ = ["model", "start"]

ONE_BY_ONE = [OnnxRuntimeCudaRig, OnnxRuntimeCudaHalfRig]
IN_BATCHES = [OnnxRuntimeCudaBatchRig, OnnxRuntimeCudaBatchStreamsRig]
HEIGHT, WIDTH = 1080, 1920


@pytest.fixture(scope="module")
def gpu():
    device = open_gpu()
    yield device
    device.close()


@pytest.fixture(params=[*ONE_BY_ONE, *IN_BATCHES], ids=lambda kind: kind.__name__)
def rig(request, gpu):
    made = request.param(gpu)
    yield made
    made.close()


@pytest.fixture
def half(gpu):
    """onnxruntime in fp16."""
    made = OnnxRuntimeCudaHalfRig(gpu)
    yield made
    made.close()


class TestOrder(suite.Order): ...


class TestClose(suite.Close): ...


class TestScarcity(suite.Scarcity): ...


class TestResults(suite.Results): ...


class TestOtherModels(suite.OtherModels): ...


class TestFailures(suite.Failures):
    @pytest.fixture(params=ONE_BY_ONE, ids=lambda kind: kind.__name__)
    def rig(self, request, gpu):
        made = request.param(gpu)
        yield made
        made.close()


class TestBatches(suite.Batches):
    @pytest.fixture(params=IN_BATCHES, ids=lambda kind: kind.__name__)
    def rig(self, request, gpu):
        made = request.param(gpu)
        yield made
        made.close()


class TestQuality:
    @pytest.mark.parametrize("name", ["animevideo-x2", "animevideo-x3", "animevideo-x4"])
    def test_fp16_is_within_60_db_of_fp32_on_a_real_frame(self, half, shipped, bunny, name, record_property):
        host = HostPool(Ledger())
        media = probe(bunny)
        decoder = LibavDecoder(media)
        converted = SurfaceToTensor(media.video.surface, host).convert(decoder.read())
        picture = converted.tensor.copy()
        converted.close()
        decoder.close()
        host.close()
        made, exact = (
            np.rint(255 * result.clip(0, 1))
            for result in (suite.enlarged(half, shipped(name), picture), half.reference(shipped(name), picture))
        )
        decibels = 10 * np.log10(255**2 / np.mean((made - exact) ** 2))
        record_property("decibels", float(decibels))
        assert decibels >= 60


class TestStreams:
    def test_the_host_goes_on_while_a_frame_is_computed(self, half, shipped, noise):
        model = shipped("animevideo-x4")
        running = half.backend(model, model.geometry(HEIGHT, WIDTH, None))
        given = [half.frame(noise(HEIGHT, WIDTH), index) for index in range(1 + running.depth)]
        running.submit(given[0])  # convolutions are chosen
        running.collect().close()
        for each in given[1:]:
            running.submit(each)
        assert not running._jobs[-1].done.query()
        for _ in given[1:]:
            running.collect().close()


class TestArena:
    def test_its_limit_is_in_the_ledger_while_the_backend_is_open(self, rig, start):
        running = start()
        assert rig.ledger.stats().by_owner[OWNER] > 0
        running.close()
        assert OWNER not in rig.ledger.stats().by_owner

    def test_one_of_the_suggested_size_holds_a_frame_of_1080_lines(self, half, shipped, noise):
        for name in ("animevideo-x2", "animevideo-x4"):
            model = shipped(name)
            running = half.backend(model, model.geometry(HEIGHT, WIDTH, None))
            running.submit(half.frame(noise(HEIGHT, WIDTH)))
            running.collect().close()
            running.close()

    def test_one_that_is_too_small_is_out_of_memory_and_smaller_tiles_go_on(self, half, shipped, noise):
        model, picture = shipped("animevideo-x2"), noise(HEIGHT, WIDTH)
        half.memory_limit = 300 << 20

        def make(step):
            return half.backend(model, model.geometry(HEIGHT, WIDTH, None if step == 0 else 256))

        running = RetreatingBackend(make)
        for index in range(2):
            running.submit(half.frame(picture, index))
        results = [half.take(running.collect()) for _ in range(2)]
        running.close()
        assert running.retreats == 1
        np.testing.assert_allclose(results[0], results[1])
        np.testing.assert_allclose(
            results[0][:, :200, :200], half.reference(model, picture[:, :132, :132])[:, :200, :200], atol=8e-3
        )


def test_a_model_of_which_a_part_would_run_on_the_cpu_is_refused(half, graph):
    net = graph("det", shape=(1, 3, 64, 64))
    enlarged = net.shuffle(net.conv(net.input, 3, 12), 2)
    determinant = net.op("ReduceMean", net.op("Det", net.op("Cast", net.input, to=TensorProto.FLOAT)), keepdims=0)
    path = net.save(net.op("Add", enlarged, determinant))

    class Known:
        metadata = ModelMetadata("det", path, "", 2, "in", "out", 3, 3, 64, 64)

        @staticmethod
        def load(geometry, precision):
            from rave_trio.inference.model import ModelLoad

            return ModelLoad(0, 0, 0)

    from rave_trio.inference.model import Geometry

    with pytest.raises(errors.ModelUnsupported, match="onnxruntime cannot run model det: "):
        half.backend(Known, Geometry(64, 64, 0, 1))
