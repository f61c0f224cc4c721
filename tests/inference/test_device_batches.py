"""Batches on a device: what is copied, how many frames that takes, and what goes wrong in one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from backend_rigs import OnnxRuntimeBatchRig, OnnxRuntimeRig, host_copy

from rave_trio import errors
from rave_trio.inference.device_batches import depth_for, together
from rave_trio.inference.model import ARENA_SLACK, Geometry, ModelLoad, arena_bytes
from rave_trio.inference.openvino_model import Model
from rave_trio.inference.retreat import RetreatingBackend

HEIGHT, WIDTH = 24, 32
TILED = Geometry(64, 64, overlap=0, tiles=6)


@pytest.fixture
def rig():
    rig = OnnxRuntimeBatchRig()
    yield rig
    rig.close()


@pytest.fixture
def model(upscaler) -> Model:
    return Model("net", upscaler())


@pytest.fixture
def backend(rig, model):
    return rig.backend(model, model.geometry(HEIGHT, WIDTH, None))


def submitted(rig, backend, noise, count):
    given = [rig.frame(noise(HEIGHT, WIDTH, index), index) for index in range(count)]
    for each in given:
        backend.submit(each)
    return given


def counting(backend):
    """The shapes that a backend's network is launched with, as that happens."""
    shapes, launch = [], backend._network.launch

    def counted(stream, source, target, *rest):
        shapes.append((source.shape, target.shape))
        launch(stream, source, target, *rest)

    backend._network.launch = counted
    return shapes


class TestForming:
    def test_frames_wait_until_a_batch_is_full(self, rig, backend, noise):
        shapes = counting(backend)
        submitted(rig, backend, noise, 3)
        assert shapes == []
        submitted(rig, backend, noise, 6)
        assert shapes == [((4, 3, HEIGHT, WIDTH), (4, 3, 2 * HEIGHT, 2 * WIDTH))] * 2

    def test_a_frame_that_is_wanted_takes_along_those_that_wait(self, rig, backend, noise):
        shapes = counting(backend)
        submitted(rig, backend, noise, 3)
        for index in range(3):
            frame = backend.collect()
            assert frame.index == index
            frame.close()
        assert len(shapes) == 1

    def test_tiles_of_one_frame_fill_batches_and_the_rest_waits_for_the_next_frames(self, rig, upscaler, noise):
        running = rig.backend(Model("net", upscaler(size=(64, 64))), TILED)
        shapes = counting(running)
        for index in range(2):
            running.submit(rig.frame(noise(128, 192, index), index))
            assert len(shapes) == (1, 3)[index]
        for _ in range(2):
            running.collect().close()
        assert len(shapes) == 3

    def test_submitting_does_not_wait_for_the_device(self, rig, backend, noise):
        with rig.device.paused():
            submitted(rig, backend, noise, backend.depth)
        for _ in range(backend.depth):
            backend.collect().close()

    def test_a_whole_frame_is_one_copy_in_and_one_out(self, rig, backend, noise):
        copies = []
        backend._copy = lambda stream, source, target: copies.append(source.shape) or host_copy(stream, source, target)
        submitted(rig, backend, noise, 4)
        for _ in range(4):
            backend.collect().close()
        assert copies == 4 * [(3 * HEIGHT, WIDTH)] + 4 * [(3 * 2 * HEIGHT, 2 * WIDTH)]

    def test_the_buffers_are_two_leases_for_all_batches(self, rig, backend, noise):
        for _ in range(3):
            for each in submitted(rig, backend, noise, 4):
                backend.collect()
                each.close()
        assert rig.pool.stats().leased == 2

    def test_one_picture_at_a_time_is_not_copied(self, model, noise):
        rig, copies = OnnxRuntimeRig(), []
        backend = rig.backend(model, model.geometry(HEIGHT, WIDTH, None))
        backend._copy = lambda stream, source, target: copies.append(source) or host_copy(stream, source, target)
        submitted(rig, backend, noise, 1)
        backend.collect().close()
        assert copies == []
        rig.close()


class TestNumbers:
    @pytest.mark.parametrize(
        ("tiles", "batch", "streams", "depth", "fill"),
        [
            (1, 1, 1, 3, 1),
            (1, 1, 2, 5, 2),
            (1, 4, 1, 9, 4),
            (1, 4, 2, 17, 8),
            (6, 4, 1, 3, 1),
            (6, 8, 1, 4, 2),
            (6, 8, 2, 7, 4),
            (100, 8, 2, 5, 2),
        ],
    )
    def test_of_frames_under_way_and_of_those_that_fill_all_streams(self, tiles, batch, streams, depth, fill):
        geometry = Geometry(64, 64, overlap=0, tiles=tiles)
        assert depth_for(geometry, batch, streams) == depth
        assert together(geometry, batch, streams) == fill

    def test_of_bytes_in_the_arena_grow_with_the_pictures_and_not_with_the_weights(self):
        load = ModelLoad(activation_bytes=100, weight_bytes=11, flops=0)
        assert arena_bytes(load, 4) == 2 * (400 + 11) + ARENA_SLACK


class TestFailures:
    def test_of_copying_are_those_of_the_frames_in_the_batch(self, rig, backend, noise):
        calls = []

        def broken(stream, source, target):
            calls.append(source)
            if len(calls) == 6:  # of 4 frames in and 4 out: halfway through the results
                raise ValueError("no copy")
            host_copy(stream, source, target)

        copy, backend._copy = backend._copy, broken
        given = submitted(rig, backend, noise, 4)
        backend._batches._copy = backend._copy = copy
        given += submitted(rig, backend, noise, 4)
        for index in range(4):
            with pytest.raises(errors.InferenceError, match=f"^model net failed on frame {index}: no copy$"):
                backend.collect()
            assert given[index].picture is None
        for _ in range(4):
            backend.collect().close()

    def test_of_the_device_fail_every_frame_after(self, rig, backend, noise):
        given = [rig.frame(noise(HEIGHT, WIDTH, index), index) for index in range(12)]
        for each in given[:7]:
            backend.submit(each)
        rig.device.fail_launch(5)  # 4 frames are copied, then the network's turn comes
        for each in given[7:]:
            backend.submit(each)
        for index in range(12):
            if index < 4:
                backend.collect().close()
                continue
            with pytest.raises(errors.InferenceError, match=f"failed on frame {index}: work on the device failed"):
                backend.collect()
        assert all(each.picture is None for each in given)

    def test_for_want_of_memory_are_done_again_one_by_one(self, rig, model, noise):
        def make(step):
            rig.batch = 4 if step == 0 else 1
            made = rig.backend(model, model.geometry(HEIGHT, WIDTH, None))
            if step == 0:
                made._network.launch = lambda stream, source, target, failed, *held: failed(MemoryError("no room"))
            return made

        running = RetreatingBackend(make)
        pictures = [noise(HEIGHT, WIDTH, seed) for seed in range(6)]
        for index, picture in enumerate(pictures):
            running.submit(rig.frame(picture, index))
        for picture in pictures:
            result = rig.take(running.collect())
            np.testing.assert_allclose(result, rig.reference(model, picture), rtol=0, atol=rig.tolerance)
        assert running.retreats == 1
        running.close()

    def test_a_batch_for_which_there_is_no_room_leaves_the_frame_with_the_caller(self, rig, backend, noise):
        given = rig.frame(noise(HEIGHT, WIDTH))
        rig.ledger.limit = rig.ledger.stats().current + 4 * math.prod((3, 2 * HEIGHT, 2 * WIDTH))
        with pytest.raises(errors.OutOfMemory):
            backend.submit(given)
        assert given.tensor.shape == (3, HEIGHT, WIDTH)
        rig.ledger.limit = None
        backend.submit(given)
        backend.collect().close()
