"""What is OpenVINO's own, beside what all backends do alike: streams, depth, real failures, the load of a graph."""

from __future__ import annotations

import numpy as np
import pytest

from rave_trio import errors
from rave_trio.inference.model import Geometry
from rave_trio.inference.openvino_backend import OpenVinoBackend, depth_for
from rave_trio.inference.openvino_model import Model

HEIGHT, WIDTH = 40, 56


@pytest.fixture
def backend(pool):
    """A maker of backends, which are closed at the end of the test."""
    made = []

    def make(model, geometry=None, streams=2):
        geometry = geometry or model.geometry(HEIGHT, WIDTH, None)
        made.append(OpenVinoBackend(model, geometry, precision="fp32", streams=streams, threads=2, pool=pool))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def fussy(graph) -> Model:
    """A model, 64x64 to 128x128, that fails on any picture with a black sample: what is not 0 is counted as it runs."""
    net = graph(shape=(1, 3, 64, 64))
    places = net.op("Cast", net.op("NonZero", net.input), to=1)
    return net.model(net.op("Reshape", places, net.constant(np.array([1, 3, 128, 128]))))


BLACK = np.zeros((3, 64, 64), np.float32)


class TestOrder:
    def test_more_frames_than_the_depth_wait_for_their_turn(self, upscaler, backend, frame, noise):
        running = backend(Model("net", upscaler()), streams=1)
        for index in range(3 * running.depth):
            running.submit(frame(noise(HEIGHT, WIDTH), index))
        for index in range(3 * running.depth):
            result = running.collect()
            assert result.index == index
            result.close()


class TestDepth:
    def test_is_one_more_than_the_streams_for_whole_frames(self):
        assert [depth_for(Geometry(64, 64, 0, 1), streams) for streams in (1, 2, 4)] == [2, 3, 5]

    def test_is_two_where_the_tiles_of_one_frame_keep_all_streams_busy(self):
        assert [depth_for(Geometry(64, 64, 8, 6), streams) for streams in (1, 2, 4)] == [2, 2, 2]

    def test_is_what_the_backend_says(self, upscaler, backend):
        assert backend(Model("net", upscaler()), streams=2).depth == 3


class TestFailure:
    def test_says_which_model_failed_on_which_frame_in_one_line(self, fussy, backend, frame):
        running = backend(fussy, fussy.geometry(64, 64, None))
        running.submit(frame(BLACK, 7))
        with pytest.raises(errors.InferenceError) as caught:
            running.collect()
        message = str(caught.value)
        assert message.startswith("model net failed on frame 7: ")
        assert "Reshape" in message
        assert ".cpp" not in message
        assert "\n" not in message

    def test_gives_back_what_the_frame_held(self, fussy, backend, frame, pool):
        running = backend(fussy, fussy.geometry(64, 64, None))
        given = frame(BLACK)
        running.submit(given)
        with pytest.raises(errors.InferenceError):
            running.collect()
        assert pool.stats().leased == 0
        assert given.picture is None

    def test_can_be_followed_by_close(self, fussy, backend, frame, pool):
        running = backend(fussy, fussy.geometry(64, 64, None))
        for index in range(4):
            running.submit(frame(BLACK, index))
        with pytest.raises(errors.InferenceError):
            running.collect()
        running.close()
        assert pool.stats().leased == 0


class TestLoad:
    def test_counts_the_largest_tensors_alive_at_once_the_weights_and_the_arithmetic(self, graph):
        net = graph()
        x = net.conv(net.input, 3, 8)
        model = net.model(net.shuffle(net.conv(net.op("Relu", x), 8, 12), 2))
        pixels = HEIGHT * WIDTH
        load = model.load(model.geometry(HEIGHT, WIDTH, None), "fp32")
        assert load.flops == 2 * pixels * 9 * (3 * 8 + 8 * 12)
        assert load.activation_bytes == 4 * pixels * (12 + 12)
        assert load.weight_bytes == 4 * 9 * (3 * 8 + 8 * 12)

    def test_halves_in_half_precision(self, upscaler):
        model = Model("net", upscaler())
        geometry = model.geometry(HEIGHT, WIDTH, None)
        single, half = model.load(geometry, "fp32"), model.load(geometry, "bf16")
        assert half.activation_bytes * 2 == single.activation_bytes
        assert half.weight_bytes * 2 == single.weight_bytes

    @pytest.mark.parametrize(("group", "expected"), [(1, 4 * 4), (4, 4)])
    def test_counts_grouped_and_transposed_convolutions(self, graph, group, expected):
        net = graph(shape=(1, 1, 16, 16))
        x = net.conv(net.input, 1, 4, 1)
        x = net.conv(x, 4, 4, 3, group=group)
        x = net.op("ConvTranspose", x, net.weights(4, 1, 2, 2), strides=[2, 2])
        model = net.model(x)
        flops = model.load(model.geometry(16, 16, None), "fp32").flops
        assert flops == 2 * 256 * (4 + 9 * expected + 4 * 4)

    def test_is_told_of_a_model_whose_sizes_depend_on_the_picture(self, fussy):
        assert fussy.load(fussy.geometry(64, 64, None), "fp32").activation_bytes > 0
