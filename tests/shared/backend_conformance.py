"""What every backend does alike.  A test module derives from these classes and has a fixture ``rig``."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from backend_rigs import TOO_DARK, Rig

from rave_trio import errors
from rave_trio.inference.model import Geometry
from rave_trio.inference.openvino_model import Model

HEIGHT, WIDTH = 40, 56


@pytest.fixture
def model(upscaler) -> Model:
    """A small model, x2, with two layers between the first one and the last."""
    return Model("net", upscaler(layers=4))


@pytest.fixture
def start(rig, model):
    """A maker of backends for frames of 40 x 56: ``start(tile=None)``."""
    return lambda tile=None: rig.backend(model, model.geometry(HEIGHT, WIDTH, tile))


def close_to(rig: Rig, result: np.ndarray, expected: np.ndarray, tolerance: float | None = None) -> None:
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance or rig.tolerance)


class Order:
    @pytest.mark.parametrize("tile", [None, 32])
    def test_frames_come_back_in_the_order_in_which_they_were_given(self, rig, model, start, noise, tile):
        running = start(tile)
        pictures = [noise(HEIGHT, WIDTH, seed) for seed in range(7)]
        results = []
        for index, picture in enumerate(pictures):
            if index >= running.depth:
                results.append(rig.take(running.collect()))
            running.submit(rig.frame(picture, index))
        while len(results) < len(pictures):
            results.append(rig.take(running.collect()))
        for picture, result in zip(pictures, results, strict=True):
            close_to(rig, result, rig.reference(model, picture))

    def test_the_frame_that_comes_back_is_the_one_that_was_given(self, rig, start, noise):
        running = start()
        given = rig.frame(noise(HEIGHT, WIDTH), 6, captions="words")
        running.submit(given)
        result = running.collect()
        assert result is given
        assert (result.index, result.pts, result.duration) == (6, 247, 40)
        assert (result.time_base, result.key_frame, result.captions) == (Fraction(1, 1000), True, "words")
        assert rig.take(result).shape == (3, 2 * HEIGHT, 2 * WIDTH)

    def test_as_many_frames_as_the_depth_may_be_under_way(self, rig, start, noise):
        running = start()
        assert running.depth >= 1
        for _ in range(3):
            for index in range(running.depth):
                running.submit(rig.frame(noise(HEIGHT, WIDTH), index))
            assert [self.index(running) for _ in range(running.depth)] == list(range(running.depth))

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("tile", [None, 32])
    def test_submitting_collecting_and_closing_in_any_order_leaves_nothing(self, rig, start, noise, seed, tile):
        running, chance = start(tile), random.Random(seed)
        under_way: list[int] = []
        for index in range(12):
            while len(under_way) == running.depth or (under_way and chance.random() < 0.4):
                assert self.index(running) == under_way.pop(0)
            running.submit(rig.frame(noise(HEIGHT, WIDTH), index))
            under_way.append(index)
        rig.close()

    @staticmethod
    def index(running: Any) -> int:
        """Collect a frame, close it, and tell which it was."""
        result = running.collect()
        result.close()
        index: int = result.index
        return index


class Close:
    @pytest.mark.parametrize("tile", [None, 32])
    def test_gives_back_all_that_frames_under_way_hold(self, rig, start, noise, tile):
        running = start(tile)
        given = [rig.frame(noise(HEIGHT, WIDTH), index) for index in range(running.depth)]
        for each in given:
            running.submit(each)
        running.close()
        assert rig.pool.stats().leased == 0
        assert all(each.picture is None for each in given)

    def test_may_be_repeated_and_come_first(self, start):
        running = start()
        running.close()
        running.close()

    @pytest.mark.parametrize("tile", [None, 32])
    def test_leaves_frames_that_were_collected_alone(self, rig, model, start, noise, tile):
        running, picture = start(tile), noise(HEIGHT, WIDTH)
        running.submit(rig.frame(picture))
        result = running.collect()
        running.close()
        close_to(rig, rig.take(result), rig.reference(model, picture))


class Scarcity:
    def test_of_the_pool_leaves_the_frame_with_the_caller_and_the_others_under_way(self, rig, start, noise):
        running = start()
        running.submit(rig.frame(noise(HEIGHT, WIDTH), 0))
        given = rig.frame(noise(HEIGHT, WIDTH), 1)
        rig.ledger.limit = 1
        rig.pool.trim()
        with pytest.raises(errors.OutOfMemory):
            running.submit(given)
        assert given.tensor.shape == (3, HEIGHT, WIDTH)
        rig.ledger.limit = None
        running.submit(given)
        assert [Order.index(running) for _ in range(2)] == [0, 1]

    def test_of_a_closed_pool_leaves_the_frame_with_the_caller(self, rig, start, noise):
        running = start()
        given = rig.frame(noise(HEIGHT, WIDTH))
        rig.pool.close()
        with pytest.raises(ValueError, match="the pool is closed"):
            running.submit(given)
        assert given.tensor.shape == (3, HEIGHT, WIDTH)
        given.close()


class Results:
    """Of backends that compute a model.  All models here are of the Compact family."""

    @pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (33, 1), (37, 53)])
    def test_a_frame_may_have_any_size(self, rig, upscaler, noise, height, width):
        check(rig, Model("net", upscaler(layers=4)), noise(height, width))

    @pytest.mark.parametrize("scale", [1, 2, 3, 4])
    def test_a_model_may_have_any_scale(self, rig, upscaler, noise, scale):
        check(rig, Model("net", upscaler(layers=4, scale=scale)), noise(20, 24))

    @pytest.mark.parametrize("tile", [None, 16])
    def test_a_model_may_declare_half_precision(self, rig, upscaler, noise, tile):
        check(rig, Model("net", upscaler(layers=4, dtype=np.float16)), noise(20, 24), tile)

    @pytest.mark.parametrize(("height", "width", "tile"), [(97, 131, 48), (60, 47, 40), (40, 150, 64)])
    def test_tiles_give_what_the_whole_frame_gives(self, rig, upscaler, noise, height, width, tile):
        model = Model("net", upscaler(layers=4))
        assert model.geometry(height, width, tile).tiles > 1
        check(rig, model, noise(height, width), tile)

    @pytest.mark.parametrize(("height", "width"), [(40, 56), (30, 50), (1, 1), (20, 131), (97, 131)])
    def test_a_model_of_fixed_size_gets_the_edge_repeated_or_tiles(self, rig, upscaler, noise, height, width):
        fixed, free = (
            Model("fixed", upscaler("fixed", layers=4, size=(40, 56))),
            Model("free", upscaler("free", layers=4)),
        )
        picture = noise(height, width)
        down, right = max(40 - height, 0), max(56 - width, 0)
        whole = rig.reference(free, np.pad(picture, ((0, 0), (0, down), (0, right)), mode="edge"))
        close_to(rig, enlarged(rig, fixed, picture), whole[:, : 2 * height, : 2 * width])

    def test_weights_may_be_listed_as_inputs(self, rig, graph, noise):
        from onnx import TensorProto, helper

        net = graph()
        x = net.bend(net.conv(net.input, 3, 8), 8)
        for _ in range(2):
            x = net.bend(net.conv(x, 8, 8), 8)
        out = net.shuffle(net.conv(x, 8, 12), 2)
        net.inputs.append(helper.make_tensor_value_info("constant0", TensorProto.FLOAT, (8, 3, 3, 3)))
        check(rig, net.model(out), noise(20, 24))

    @pytest.mark.parametrize("name", ["animevideo-x2", "animevideo-x3", "animevideo-x4"])
    def test_a_shipped_model_gives_what_it_gives_elsewhere(self, rig, shipped, noise, name):
        check(rig, shipped(name), noise(24, 40), tolerance=rig.shipped_tolerance)

    def test_the_same_frame_gives_the_same_bytes(self, rig, start, noise):
        running, results = start(), []
        for index in range(3):
            running.submit(rig.frame(noise(HEIGHT, WIDTH), index))
            results.append(rig.take(running.collect()))
        np.testing.assert_array_equal(results[0], results[1])
        np.testing.assert_array_equal(results[0], results[2])


class OtherModels:
    """Of backends that compute any model of the contract, and not only those of a family."""

    @pytest.mark.parametrize(("inputs", "outputs"), [(3, 3), (1, 1), (3, 1)])
    @pytest.mark.parametrize("tile", [None, 16])
    def test_a_model_may_have_the_channels_of_the_contract(self, rig, upscaler, noise, inputs, outputs, tile):
        check(rig, Model("net", upscaler(layers=4, channels=inputs, outputs=outputs)), noise(21, 27), tile)

    @pytest.mark.parametrize(("height", "width", "tile"), [(20, 24, None), (21, 27, None), (1, 1, None), (67, 61, 32)])
    def test_a_model_may_want_a_multiple(self, rig, graph, noise, height, width, tile):
        net = graph()
        packed = net.op("SpaceToDepth", net.input, blocksize=4)
        model = net.model(net.shuffle(net.conv(packed, 48, 192), 8))
        check(rig, model, noise(height, width), tile)


class Failures:
    """Of backends that outlive a frame on which the model fails."""

    def test_of_some_frames_do_not_touch_the_frames_around_them(self, rig, start, noise):
        running = start()
        rig.fail(running, {1, 3})
        outcomes: list[int | None] = []
        for index in range(5):
            running.submit(rig.frame(noise(HEIGHT, WIDTH), index))
            if index + 1 >= running.depth:
                outcomes.append(self.outcome(running))
        while len(outcomes) < 5:
            outcomes.append(self.outcome(running))
        assert outcomes == [0, None, 2, None, 4]

    @pytest.mark.parametrize("tile", [0, 2, 5])
    def test_of_one_tile_drops_the_frame_and_lets_the_next_one_run(self, rig, upscaler, noise, tile):
        running = rig.backend(Model("net", upscaler(layers=4, size=(64, 64))), Geometry(64, 64, overlap=0, tiles=6))
        rig.fail(running, {tile})
        given = [rig.frame(noise(128, 192), index) for index in range(2)]
        for each in given:
            running.submit(each)
        with pytest.raises(errors.InferenceError, match=rf"^model net failed on frame 0: {TOO_DARK}$"):
            running.collect()
        assert given[0].picture is None
        result = running.collect()
        assert result.index == 1
        assert rig.take(result).shape == (3, 256, 384)

    def test_can_be_followed_by_close(self, rig, start, noise):
        running = start()
        rig.fail(running, {0, 1})
        for index in range(running.depth):
            running.submit(rig.frame(noise(HEIGHT, WIDTH), index))
        with pytest.raises(errors.InferenceError):
            running.collect()
        running.close()
        assert rig.pool.stats().leased == 0

    @staticmethod
    def outcome(running: Any) -> int | None:
        """The index of the frame that is collected, or None if the model failed on it."""
        try:
            return Order.index(running)
        except errors.InferenceError:
            return None


class Batches:
    """Of backends that compute several frames or tiles at a time; those of one batch share its fate."""

    def test_a_failing_one_fails_each_of_its_frames_and_no_other(self, rig, model, start, noise):
        running = start()
        rig.fail(running, {1})
        count = 3 * rig.batch * rig.streams
        pictures = [noise(HEIGHT, WIDTH, index) for index in range(count)]
        given = [rig.frame(picture, index) for index, picture in enumerate(pictures)]
        for each in given:
            running.submit(each)
        doomed = launches(rig, count)[1]
        assert len(doomed) == rig.batch
        for index, each in enumerate(given):
            if index in doomed:
                with pytest.raises(errors.InferenceError, match=rf"^model net failed on frame {index}: {TOO_DARK}$"):
                    running.collect()
                assert each.picture is None
            else:
                result = running.collect()
                assert result is each
                close_to(rig, rig.take(result), rig.reference(model, pictures[index]))

    @pytest.mark.parametrize("launch", [0, 1, 2])
    def test_a_failing_tile_fails_the_frames_that_are_in_its_batch(self, rig, upscaler, noise, launch):
        running = rig.backend(Model("net", upscaler(layers=4, size=(64, 64))), Geometry(64, 64, overlap=0, tiles=6))
        rig.fail(running, {launch})
        count = 2 * rig.streams
        for index in range(count):
            running.submit(rig.frame(noise(128, 192, index), index))
        outcomes = [Failures.outcome(running) for _ in range(count)]
        doomed = launches(rig, count, tiles=6)[launch]
        assert outcomes == [None if index in doomed else index for index in range(count)]

    def test_a_frame_that_is_wanted_goes_without_waiting_for_others(self, rig, model, start, noise):
        running, picture = start(), noise(HEIGHT, WIDTH)
        for index in range(3):
            running.submit(rig.frame(picture, index))
            result = running.collect()
            assert result.index == index
            close_to(rig, rig.take(result), rig.reference(model, picture))

    def test_the_frames_of_one_that_is_not_full_do_not_fail_with_the_ones_before(self, rig, start, noise):
        running = start()
        rig.fail(running, {0})
        running.submit(rig.frame(noise(HEIGHT, WIDTH), 0))
        with pytest.raises(errors.InferenceError):
            running.collect()
        running.submit(rig.frame(noise(HEIGHT, WIDTH), 1))
        assert Order.index(running) == 1

    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_closing_drops_frames_that_wait_for_others(self, rig, start, noise, count):
        running = start()
        given = [rig.frame(noise(HEIGHT, WIDTH), index) for index in range(count)]
        for each in given:
            running.submit(each)
        running.close()
        assert all(each.picture is None for each in given)
        assert rig.pool.stats().leased == 0

    def test_frames_of_another_size_share_one(self, rig, upscaler, noise):
        """As where a model of fixed size gets smaller frames and larger ones."""
        fixed, free = (
            Model("fixed", upscaler("fixed", layers=4, size=(40, 56))),
            Model("free", upscaler("free", layers=4)),
        )
        running = rig.backend(fixed, Geometry(40, 56, overlap=8, tiles=1))
        pictures = [noise(height, width) for height, width in [(40, 56), (97, 131), (40, 56), (40, 80)]]
        for index, picture in enumerate(pictures):
            running.submit(rig.frame(picture, index))
        for picture in pictures:
            close_to(rig, rig.take(running.collect()), rig.reference(free, picture))


def launches(rig: Any, frames: int, tiles: int = 1) -> list[set[int]]:
    """Which frames are in each launch, where all batches get full: frames go to the streams in turn."""
    made: list[set[int]] = []
    lanes: list[list[int]] = [[] for _ in range(rig.streams)]
    for index in range(frames):
        lane = lanes[index % rig.streams]
        for _ in range(tiles):
            lane.append(index)
            if len(lane) == rig.batch:
                made.append(set(lane))
                lane.clear()
    return made


def enlarged(rig: Rig, model: Model, picture: np.ndarray, tile: int | None = None) -> np.ndarray:
    """A picture through a backend of its own."""
    running = rig.backend(model, model.geometry(*picture.shape[1:], tile))
    running.submit(rig.frame(picture))
    return rig.take(running.collect())


def check(rig: Rig, model: Model, picture: np.ndarray, tile: int | None = None, tolerance: float | None = None) -> None:
    """A picture through a backend is what the reference says."""
    close_to(rig, enlarged(rig, model, picture, tile), rig.reference(model, picture), tolerance)
