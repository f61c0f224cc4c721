"""The backend keeps the order, gives back what it was lent, and survives a frame on which the model fails."""

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


class Failing:
    """A request that fails on black pictures and works on others afterwards, which OpenVINO's own do not always."""

    def __init__(self, request):
        self._request = request
        self._black = False

    def start_async(self, inputs):
        self._black = not inputs[0].data.any()
        self._request.start_async(inputs)

    def wait(self):
        self._request.wait()
        if self._black:
            raise RuntimeError("Exception from src/somewhere.cpp:1:\ntoo dark\n\n")

    def get_output_tensor(self, at):
        return self._request.get_output_tensor(at)


WHITE = np.ones((3, 64, 64), np.float32)
BLACK = np.zeros((3, 64, 64), np.float32)


class TestOrder:
    @pytest.mark.parametrize("tile", [None, 32])
    @pytest.mark.parametrize("streams", [1, 2])
    def test_frames_come_back_in_the_order_in_which_they_were_given(
        self, upscaler, backend, frame, noise, enlarge, tile, streams
    ):
        model = Model("net", upscaler())
        running = backend(model, model.geometry(HEIGHT, WIDTH, tile), streams)
        pictures = [noise(HEIGHT, WIDTH, seed) for seed in range(7)]
        results = []

        def collect():
            result = running.collect()
            results.append((result.index, result.pts, result.tensor.copy()))
            result.close()

        for index, picture in enumerate(pictures):
            if index >= running.depth:
                collect()
            running.submit(frame(picture, index))
        while len(results) < len(pictures):
            collect()

        for index, picture in enumerate(pictures):
            assert results[index][:2] == (index, index)
            np.testing.assert_allclose(results[index][2], enlarge(model, picture), atol=1e-5)

    def test_more_frames_than_the_depth_wait_for_their_turn(self, upscaler, backend, frame, noise):
        running = backend(Model("net", upscaler()), streams=1)
        for index in range(3 * running.depth):
            running.submit(frame(noise(HEIGHT, WIDTH), index))
        for index in range(3 * running.depth):
            result = running.collect()
            assert result.index == index
            result.close()

    def test_the_frame_that_comes_back_is_the_one_that_was_given(self, upscaler, backend, frame, noise):
        running = backend(Model("net", upscaler()))
        given = frame(noise(HEIGHT, WIDTH), 5)
        running.submit(given)
        result = running.collect()
        assert result is given
        assert result.tensor.shape == (3, 2 * HEIGHT, 2 * WIDTH)
        result.close()


class TestDepth:
    def test_is_one_more_than_the_streams_for_whole_frames(self):
        assert [depth_for(Geometry(64, 64, 0, 1), streams) for streams in (1, 2, 4)] == [2, 3, 5]

    def test_is_two_where_the_tiles_of_one_frame_keep_all_streams_busy(self):
        assert [depth_for(Geometry(64, 64, 8, 6), streams) for streams in (1, 2, 4)] == [2, 2, 2]

    def test_is_what_the_backend_says(self, upscaler, backend):
        assert backend(Model("net", upscaler()), streams=2).depth == 3


class TestClose:
    @pytest.mark.parametrize("tile", [None, 32])
    def test_gives_back_all_that_frames_under_way_hold(self, upscaler, backend, frame, noise, pool, tile):
        model = Model("net", upscaler())
        running = backend(model, model.geometry(HEIGHT, WIDTH, tile))
        given = [frame(noise(HEIGHT, WIDTH), index) for index in range(5)]
        for each in given:
            running.submit(each)
        assert pool.stats().leased == 10

        running.close()

        assert pool.stats().leased == 0
        assert all(each.picture is None for each in given)

    def test_may_be_repeated_and_come_first(self, upscaler, backend):
        running = backend(Model("net", upscaler()))
        running.close()
        running.close()

    def test_leaves_frames_that_were_collected_alone(self, upscaler, backend, frame, noise):
        running = backend(Model("net", upscaler()))
        running.submit(frame(noise(HEIGHT, WIDTH)))
        result = running.collect()
        before = result.tensor.copy()
        running.close()
        np.testing.assert_array_equal(result.tensor, before)
        result.close()


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

    def test_does_not_touch_the_frames_around_it(self, upscaler, backend, frame):
        running = backend(Model("net", upscaler(size=(64, 64))))
        running._idle = [Failing(request) for request in running._idle]
        for index, picture in enumerate([WHITE, BLACK, WHITE, BLACK, WHITE]):
            running.submit(frame(picture, index))
        outcomes = []
        for _ in range(5):
            try:
                result = running.collect()
                outcomes.append(result.index)
                result.close()
            except errors.InferenceError:
                outcomes.append(None)
        assert outcomes == [0, None, 2, None, 4]

    @pytest.mark.parametrize("column", [0, 1, 2])
    def test_of_one_tile_drops_the_frame_and_lets_the_next_one_run(self, upscaler, backend, frame, column):
        running = backend(Model("net", upscaler(size=(64, 64))), Geometry(64, 64, overlap=0, tiles=6), streams=1)
        running._idle = [Failing(request) for request in running._idle]
        good = np.ones((3, 128, 192), np.float32)
        bad = good.copy()
        bad[:, :64, 64 * column : 64 * column + 64] = 0
        running.submit(frame(bad, 0))
        running.submit(frame(good, 1))
        with pytest.raises(errors.InferenceError, match=r"^model net failed on frame 0: too dark$"):
            running.collect()
        result = running.collect()
        assert result.index == 1
        assert result.tensor.shape == (3, 256, 384)
        result.close()

    def test_can_be_followed_by_close(self, fussy, backend, frame, pool):
        running = backend(fussy, fussy.geometry(64, 64, None))
        for index in range(4):
            running.submit(frame(BLACK, index))
        with pytest.raises(errors.InferenceError):
            running.collect()
        running.close()
        assert pool.stats().leased == 0

    def test_of_the_pool_leaves_the_frame_with_the_caller(self, upscaler, backend, frame, noise, pool):
        running = backend(Model("net", upscaler()))
        given = frame(noise(HEIGHT, WIDTH))
        pool.close()
        with pytest.raises(ValueError, match="the pool is closed"):
            running.submit(given)
        assert given.tensor.shape == (3, HEIGHT, WIDTH)
        given.close()


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
