"""The TensorRT backend keeps TensorRT's rules, the order, and the account of memory.

It runs on a stand-in for TensorRT whose engines compute a known function: what is shown is how our side uses the
library.  TensorRT's own execution is tried in tests/gpu, where there is a GPU for it.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import threading
from fractions import Fraction

import attrs
import numpy as np
import pytest

from rave_trio import errors
from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import LaunchError, use
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.engine_cache import EngineCache, EngineKey
from rave_trio.inference.model import Geometry
from rave_trio.inference.tensorrt_runtime import LoadedEngine, RuntimeSettings, open_engine
from rave_trio.memory import Lease, Ledger, Pool
from rave_trio.testing import tensorrt as standin
from rave_trio.testing.tensorrt import Plan, RuleBroken, StandIn, StandInDevice, samples, smoothed, tensorrt_backend

HEIGHT, WIDTH = 24, 40


class Lender(Pool):
    """A pool of a device's memory."""

    def lease(self, nbytes):
        return Lease(self, self._obtain(nbytes))


def free(memory):
    if memory.last_use is not None:
        with contextlib.suppress(LaunchError):
            memory.last_use.wait()
    memory.close()


class Rig:
    """A device with pools, and a maker of frames and backends on it."""

    def __init__(self, seed: int = 0, limit: int | None = None) -> None:
        self.device = StandInDevice(64 << 20, latency=0.01, seed=seed)
        self.ledger = Ledger(limit)
        self.pool = Lender(self.ledger, self.device.allocate, free, owner="frames")
        self.scratch = Lender(self.ledger, self.device.allocate, free, owner="engine scratch")
        self.before = self.device.stream()
        self.backends = []

    def backend(self, height=HEIGHT, width=WIDTH, geometry=None, **how):
        geometry = geometry or Geometry(height, width, overlap=0, tiles=1)
        made = tensorrt_backend(self.device, self.pool, self.scratch, self.ledger, geometry, **how)
        self.backends.append(made)
        return made

    def frame(self, picture: np.ndarray, index: int = 0) -> Frame:
        """A frame whose tensor is still on its way: it is written by a stream of the stage before."""
        lease = self.pool.lease(picture.nbytes)
        array = DeviceArray(lease.memory, picture.shape, picture.dtype)
        with use(self.before, lease.memory):
            self.before.launch(lambda held: samples(array).__setitem__(..., picture), lease.memory)
        return Frame(index, index, 1, Fraction(1, 25), False, Tensor(array, lease))

    def result(self, backend) -> np.ndarray:
        frame = backend.collect()
        found = samples(frame.tensor).copy()
        frame.close()
        return found

    def close(self) -> None:
        """Everything that was lent must be back."""
        for backend in self.backends:
            backend.close()
        self.before.synchronize()
        assert (self.pool.stats().leased, self.scratch.stats().leased) == (0, 0)
        self.pool.close()
        self.scratch.close()
        assert self.ledger.stats().current == 0
        self.device.close()
        assert self.device.used == 0


@pytest.fixture(params=[0, 1, 2], ids=lambda seed: f"seed {seed}")
def rig(request):
    rig = Rig(seed=request.param)
    yield rig
    rig.close()


@pytest.fixture
def calm():
    rig = Rig()
    yield rig
    rig.close()


def picture(height=HEIGHT, width=WIDTH, seed=0, dtype=np.float32, channels=3) -> np.ndarray:
    return np.random.default_rng(seed).random((channels, height, width)).astype(dtype)


def enlarged(source: np.ndarray, scale: int = 2) -> np.ndarray:
    return smoothed(scale)(source[np.newaxis])[0]


TILED = {
    "tiles": (HEIGHT, WIDTH, Geometry(16, 16, overlap=2, tiles=6, reach=1)),
    "tiles past the edge": (21, 37, Geometry(16, 16, overlap=2, tiles=6, reach=1, period=4)),
    "one tile larger than the picture": (21, 37, Geometry(24, 40, overlap=0, tiles=1)),
    "one tile much larger than the picture": (5, 3, Geometry(32, 64, overlap=0, tiles=1)),
}


class TestPictures:
    @pytest.mark.parametrize("dtype", [np.float32, np.float16])
    @pytest.mark.parametrize("streams", [1, 2, 3])
    def test_whole_frames_come_back_in_order_with_their_results(self, rig, streams, dtype):
        backend = rig.backend(streams=streams, plan=Plan(dtype=np.dtype(dtype).name))
        pictures = [picture(seed=at, dtype=dtype) for at in range(7)]
        found = []
        for at, each in enumerate(pictures):
            if at >= backend.depth:
                found.append(rig.result(backend))
            backend.submit(rig.frame(each, at))
        while len(found) < len(pictures):
            found.append(rig.result(backend))
        for each, result in zip(pictures, found, strict=True):
            np.testing.assert_array_equal(result, enlarged(each))

    @pytest.mark.parametrize("known", [True, False], ids=["size known", "size not known"])
    @pytest.mark.parametrize(("height", "width", "geometry"), TILED.values(), ids=TILED)
    def test_tiles_give_what_the_whole_frame_gives(self, rig, height, width, geometry, known):
        backend = rig.backend(geometry=geometry, size=(height, width) if known else None)
        pictures = [picture(height, width, seed=at) for at in range(4)]
        for at, each in enumerate(pictures):
            backend.submit(rig.frame(each, at))
        for each in pictures:
            np.testing.assert_array_equal(rig.result(backend), enlarged(each))

    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("geometry", [None, TILED["tiles"][2]], ids=["whole", "tiles"])
    def test_a_model_of_one_channel_gets_each_plane(self, rig, batch, geometry):
        backend = rig.backend(batch=batch, geometry=geometry, plan=Plan(input_channels=1, output_channels=1))
        given = picture()
        backend.submit(rig.frame(given))
        np.testing.assert_array_equal(rig.result(backend), enlarged(given))

    def test_planes_that_begin_where_tensorrt_may_not_read_are_copied(self, rig):
        backend = rig.backend(height=5, width=7, plan=Plan(input_channels=1, output_channels=1))
        given = picture(5, 7)
        backend.submit(rig.frame(given))
        np.testing.assert_array_equal(rig.result(backend), enlarged(given))

    @pytest.mark.parametrize("layout", [{"pitch": WIDTH * 8}, {"offset": 64}], ids=str)
    def test_frames_that_do_not_lie_as_tensorrt_wants_are_copied(self, rig, layout):
        backend = rig.backend()
        given = picture()
        lease = rig.pool.lease(2 * given.nbytes)
        array = DeviceArray(lease.memory, given.shape, given.dtype, **layout)
        with use(rig.before, lease.memory):
            rig.before.launch(lambda held: samples(array).__setitem__(..., given), lease.memory)
        backend.submit(Frame(0, 0, 1, Fraction(1, 25), False, Tensor(array, lease)))
        np.testing.assert_array_equal(rig.result(backend), enlarged(given))

    def test_a_model_may_make_one_channel_of_three(self, calm):
        module = StandIn(calm.device, network=lambda x: smoothed(2)(x).mean(axis=1, keepdims=True))
        backend = calm.backend(plan=Plan(output_channels=1), standin=module)
        given = picture()
        backend.submit(calm.frame(given))
        np.testing.assert_array_equal(calm.result(backend), enlarged(given).mean(axis=0, keepdims=True))

    @pytest.mark.parametrize("scale", [1, 3, 4])
    def test_any_scale_is_the_model_s(self, calm, scale):
        backend = calm.backend(plan=Plan(scale=scale))
        given = picture()
        backend.submit(calm.frame(given))
        np.testing.assert_array_equal(calm.result(backend), enlarged(given, scale))

    def test_the_frame_that_comes_back_is_the_one_that_was_given(self, calm):
        backend = calm.backend()
        given = calm.frame(picture(), 5)
        backend.submit(given)
        collected = backend.collect()
        assert collected is given
        assert collected.tensor.shape == (3, 2 * HEIGHT, 2 * WIDTH)
        collected.close()


class TestHowTheEngineIsUsed:
    def test_whole_frames_are_not_copied(self, calm, monkeypatch):
        monkeypatch.setattr(standin, "copy", lambda *arguments: pytest.fail("a copy was made"))
        backend = calm.backend()
        backend.submit(calm.frame(picture()))
        np.testing.assert_array_equal(calm.result(backend), enlarged(picture()))

    def test_submitting_launches_and_does_not_wait(self, calm):
        backend = calm.backend(streams=2)
        with calm.device.paused():
            for at in range(backend.depth):
                backend.submit(calm.frame(picture(seed=at), at))
        for at in range(backend.depth):
            np.testing.assert_array_equal(calm.result(backend), enlarged(picture(seed=at)))

    def test_there_is_one_engine_and_a_context_for_each_stream(self, calm):
        module = StandIn(calm.device)
        calm.backend(standin=module, streams=3)
        assert module.events == ["engine", "context", "context", "context"]

    def test_two_frames_for_each_stream_and_one_that_comes_or_goes_may_be_under_way(self, calm):
        assert [calm.backend(streams=streams).depth for streams in (1, 2, 4)] == [3, 5, 9]

    def test_no_context_s_scratch_is_another_s(self, rig):
        """The stand-in computes into the scratch first, so contexts that share one spoil each other's results."""
        backend = rig.backend(streams=4)
        for at in range(8):
            backend.submit(rig.frame(picture(seed=at), at))
        for at in range(8):
            np.testing.assert_array_equal(rig.result(backend), enlarged(picture(seed=at)))

    def test_results_memory_may_be_lent_again_while_its_reader_is_under_way(self, rig):
        backend = rig.backend(streams=2)
        reader = rig.device.stream()
        read = []
        for at in range(6):
            backend.submit(rig.frame(picture(seed=at), at))
            frame = backend.collect()
            array, memory = frame.tensor, frame.tensor.memory
            with use(reader, memory):
                reader.launch(lambda array, held: read.append(samples(array).copy()), array, memory)
            frame.close()
        reader.synchronize()
        for at, found in enumerate(read):
            np.testing.assert_array_equal(found, enlarged(picture(seed=at)))

    def test_scratch_that_somebody_else_still_uses_is_waited_for(self, calm):
        order = []
        lease = calm.scratch.lease(3 * 16 * 16 * 4)
        with calm.device.paused():
            with use(calm.before, lease.memory):
                for _ in range(20):
                    calm.before.launch(order.append, "somebody else")
            lease.close()
            module = StandIn(calm.device, network=lambda x: order.append("the engine") or smoothed(2)(x))
            backend = calm.backend(8, 8, standin=module, streams=1)
            given = calm.device.allocate(3 * 8 * 8 * 4)
            array = DeviceArray(given, (3, 8, 8), np.float32)
            backend.submit(Frame(0, 0, 1, Fraction(1, 25), False, Tensor(array, given)))
        backend.collect().close()
        assert calm.scratch.stats().hits == 1, "it is the same memory"
        assert order == ["somebody else"] * 20 + ["the engine"]

    @pytest.mark.parametrize("handle", [0, 1, 2])
    def test_a_default_stream_is_refused(self, calm, monkeypatch, handle):
        stream = calm.device.stream()
        stream.handle = handle
        monkeypatch.setattr(calm.device, "stream", lambda: stream)
        with pytest.raises(ValueError, match="streams of their own"):
            calm.backend()

    def test_the_device_is_made_current_in_whatever_thread_calls(self, calm):
        backend = calm.backend()
        entered = []

        class Current:
            def __enter__(self):
                entered.append(threading.get_ident())

            def __exit__(self, *error):
                pass

        backend._current = Current
        for call in (lambda: backend.submit(calm.frame(picture())), lambda: backend.collect().close(), backend.close):
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        assert len(entered) == 3

    def test_the_full_tensorrt_runs_without_the_settings_of_rtx(self, calm):
        backend = calm.backend(standin=StandIn(calm.device, rtx=False))
        backend.submit(calm.frame(picture()))
        np.testing.assert_array_equal(calm.result(backend), enlarged(picture()))

    def test_rtx_is_set_up_as_asked(self, calm):
        module = StandIn(calm.device)
        settings = RuntimeSettings(cuda_graphs=True, specialization="LAZY")
        engine = LoadedEngine(module.library, Plan().serialized(), model="net", settings=settings)
        assert engine._config.strategy is module.ExecutionContextAllocationStrategy.USER_MANAGED
        assert engine._config.cuda_graph_strategy is module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        strategy = engine._config.dynamic_shapes_kernel_specialization_strategy
        assert strategy is module.DynamicShapesKernelSpecializationStrategy.LAZY

    def test_what_was_compiled_is_kept_at_the_end_and_used_by_the_next_run(self, calm):
        kept = []
        calm.backend(keep_compiled=kept.append).close()
        assert kept == [b"compiled:kernels"]
        engine = LoadedEngine(StandIn(calm.device).library, Plan().serialized(), model="net", compiled=kept[0])
        assert engine._config.get_runtime_cache().loaded == kept[0]

    def test_what_was_compiled_elsewhere_is_ignored(self, calm):
        engine = LoadedEngine(StandIn(calm.device).library, Plan().serialized(), model="net", compiled=b"else")
        assert engine._config.get_runtime_cache().loaded is None

    def test_the_full_tensorrt_compiles_nothing_to_be_kept(self, calm):
        kept = []
        calm.backend(standin=StandIn(calm.device, rtx=False), keep_compiled=kept.append).close()
        assert kept == []


class TestOpening:
    KEY = EngineKey("tensorrt_rtx", "0.0", "GPU", (), "driver", "model", (), "fp32")

    def test_an_engine_is_built_once_and_then_loaded_with_what_was_compiled(self, calm, tmp_path):
        cache, library = EngineCache(tmp_path), StandIn(calm.device).library
        open_engine(library, cache, self.KEY, Plan().serialized, model="net")
        cache.store(self.KEY, b"compiled:before", "runtime")
        again = open_engine(library, cache, self.KEY, lambda: pytest.fail("built again"), model="net")
        assert again.compiled() is not None
        assert again._config.get_runtime_cache().loaded == b"compiled:before"

    def test_an_engine_that_is_not_taken_any_more_is_built_again_once(self, calm, tmp_path, caplog):
        cache, library = EngineCache(tmp_path), StandIn(calm.device).library
        cache.store(self.KEY, b"of another time")
        assert open_engine(library, cache, self.KEY, Plan().serialized, model="net").input.name == "in"
        assert "built again" in caplog.text
        assert cache.load(self.KEY) == Plan().serialized()

    def test_an_engine_that_is_not_taken_any_more_is_forgotten_even_if_no_other_can_be_built(self, calm, tmp_path):
        cache, library = EngineCache(tmp_path), StandIn(calm.device).library
        cache.store(self.KEY, b"of another time")

        def build():
            raise errors.ModelUnsupported("no more")

        with pytest.raises(errors.ModelUnsupported):
            open_engine(library, cache, self.KEY, build, model="net")
        assert cache.load(self.KEY) is None

    def test_a_new_engine_that_is_not_taken_is_an_error(self, calm, tmp_path):
        cache, library = EngineCache(tmp_path), StandIn(calm.device).library
        with pytest.raises(errors.InferenceError):
            open_engine(library, cache, self.KEY, lambda: b"?", model="net")


class TestMemory:
    def test_scratch_and_weights_are_in_the_ledger_while_the_backend_lives(self, calm):
        backend = calm.backend()
        owners = calm.ledger.stats().by_owner
        assert owners["engine weights"] == len(Plan().serialized())
        assert owners["engine scratch"] >= 2 * 3 * 4 * HEIGHT * WIDTH * 4
        backend.close()
        calm.scratch.trim()
        assert calm.ledger.stats().by_owner == {}

    def test_scratch_that_does_not_fit_is_refused_at_once_and_nothing_is_left(self):
        rig = Rig(limit=64 << 10)
        with pytest.raises(errors.OutOfMemory):
            rig.backend(streams=4)
        rig.close()

    def test_a_device_without_memory_for_scratch_is_out_of_memory(self, calm):
        calm.device.fail_allocation()
        with pytest.raises(errors.OutOfMemory):
            calm.backend()
        assert calm.ledger.stats().current == 0

    @pytest.mark.parametrize("geometry", [None, TILED["tiles"][2]], ids=["larger than the frames", "tiles"])
    def test_all_scratch_is_one_lease_where_the_size_of_frames_is_known(self, calm, geometry):
        backend = calm.backend(32, 48, geometry=geometry, size=(HEIGHT, WIDTH))
        calm.ledger.limit = calm.ledger.stats().current + (1 << 17)
        backend.submit(calm.frame(picture()))
        np.testing.assert_array_equal(calm.result(backend), enlarged(picture()))
        stats = calm.scratch.stats()
        assert (stats.leased, stats.hits + stats.misses) == (1, 1)

    def test_no_memory_for_a_result_leaves_the_frame_with_the_caller(self, calm):
        backend = calm.backend()
        frame = calm.frame(picture())
        calm.device.fail_allocation()
        with pytest.raises(errors.OutOfMemory):
            backend.submit(frame)
        assert frame.picture is not None
        backend.submit(frame)
        np.testing.assert_array_equal(calm.result(backend), enlarged(picture()))


class TestFailure:
    def test_a_refusal_says_what_tensorrt_said_and_leaves_the_frames_around_it_alone(self, calm):
        module = StandIn(calm.device)
        backend = calm.backend(standin=module)
        frames = [calm.frame(picture(seed=at), at) for at in range(3)]
        for frame, refusal in zip(frames, (None, "a fuse blew", None), strict=True):
            module.refuse_execution = refusal
            backend.submit(frame)
        np.testing.assert_array_equal(calm.result(backend), enlarged(picture(seed=0)))
        with pytest.raises(errors.InferenceError, match=r"^model stand-in failed on frame 1: a fuse blew$"):
            backend.collect()
        assert frames[1].picture is None
        np.testing.assert_array_equal(calm.result(backend), enlarged(picture(seed=2)))

    def test_a_refusal_for_want_of_memory_is_out_of_memory(self, calm):
        module = StandIn(calm.device)
        backend = calm.backend(standin=module)
        module.refuse_execution = "Cuda Runtime (out of memory)"
        backend.submit(calm.frame(picture()))
        with pytest.raises(errors.OutOfMemory):
            backend.collect()
        assert calm.pool.stats().leased == 0

    def test_a_device_that_tells_of_its_failure_at_once_fails_the_frame(self, calm, monkeypatch):
        backend = calm.backend()
        frame = calm.frame(picture(), 7)

        def lost(self, event):
            raise LaunchError("an illegal address")

        with monkeypatch.context() as patch:
            patch.setattr(standin.StandInStream, "wait", lost)
            with pytest.raises(errors.InferenceError, match=r"^model stand-in failed on frame 7: an illegal address$"):
                backend.submit(frame)
        assert calm.pool.stats().leased == 1
        frame.close()

    @pytest.mark.parametrize("geometry", [None, TILED["tiles"][2]], ids=["whole", "tiles"])
    def test_of_work_on_the_device_names_the_frame_and_closes_it(self, calm, geometry):
        backend = calm.backend(geometry=geometry)
        frame = calm.frame(picture(), 7)
        calm.device.fail_launch()
        backend.submit(frame)
        with pytest.raises(errors.InferenceError, match=r"^model stand-in failed on frame 7: .*planted"):
            backend.collect()
        assert frame.picture is None
        assert calm.pool.stats().leased == 0

    def test_on_one_stream_leaves_the_frames_of_others_alone(self, calm):
        backend = calm.backend(streams=2)
        frames = [calm.frame(picture(seed=at), at) for at in range(2)]
        calm.before.synchronize()
        calm.device.fail_launch()
        for frame in frames:
            backend.submit(frame)
        with pytest.raises(errors.InferenceError):
            backend.collect()
        np.testing.assert_array_equal(calm.result(backend), enlarged(picture(seed=1)))

    def test_of_one_that_is_refused_halfway_leaves_memory_in_order(self, rig):
        module = StandIn(rig.device)
        backend = rig.backend(standin=module, geometry=TILED["tiles"][2])
        execute, calls = backend._execute, []

        def third_is_refused(*arguments):
            calls.append(arguments)
            if len(calls) == 3:
                module.refuse_execution = "no more"
            execute(*arguments)

        backend._execute = third_is_refused
        for at in range(2):
            backend.submit(rig.frame(picture(seed=at), at))
        with pytest.raises(errors.InferenceError, match="frame 0: no more"):
            backend.collect()
        np.testing.assert_array_equal(rig.result(backend), enlarged(picture(seed=1)))
        assert len(calls) == 3 + 6, "nothing is launched after a refusal"

    def test_of_anything_else_leaves_the_frame_with_the_caller(self, calm):
        backend = calm.backend(geometry=TILED["tiles"][2])
        frame = calm.frame(picture())

        def broken(*arguments):
            raise ZeroDivisionError

        backend._copy = broken
        with pytest.raises(ZeroDivisionError):
            backend.submit(frame)
        assert (calm.pool.stats().leased, frame.picture is None) == (1, False)
        frame.close()

    def test_an_engine_that_cannot_be_loaded_says_why(self, calm):
        with pytest.raises(errors.InferenceError, match=r"could not load the engine of net: not an engine$"):
            LoadedEngine(StandIn(calm.device).library, b"?", model="net")

    def test_an_engine_for_other_shapes_is_refused_and_nothing_is_left(self, calm):
        plan = Plan(smallest=(1, 3, 64, 64), largest=(1, 3, 64, 64))
        with pytest.raises(errors.InferenceError, match=rf"could not take 1 x 3 x {HEIGHT} x {WIDTH} for stand-in"):
            calm.backend(plan=plan)
        assert calm.ledger.stats().current == 0

    @pytest.mark.parametrize(
        "given", [picture(dtype=np.float16), picture(channels=1)], ids=["another type", "another number of channels"]
    )
    def test_a_frame_that_does_not_fit_is_refused_and_stays_the_caller_s(self, calm, given):
        backend = calm.backend()
        frame = calm.frame(given, 3)
        with pytest.raises(TypeError, match=r"^frame 3 is .* takes three planes of float32$"):
            backend.submit(frame)
        assert frame.picture is not None
        frame.close()


class TestClose:
    @pytest.mark.parametrize("geometry", [None, TILED["tiles"][2]], ids=["whole", "tiles"])
    def test_gives_back_all_that_frames_under_way_hold(self, rig, geometry):
        backend = rig.backend(geometry=geometry)
        frames = [rig.frame(picture(seed=at), at) for at in range(5)]
        for frame in frames:
            backend.submit(frame)
        backend.close()
        assert all(frame.picture is None for frame in frames)
        assert rig.pool.stats().leased == rig.scratch.stats().leased == 0

    def test_waits_for_the_work_before_the_engine_goes(self, calm):
        backend = calm.backend(streams=1)
        frame = calm.frame(picture())
        calm.before.synchronize()
        stall = calm.device.stall_launch(2)
        backend.submit(frame)
        stall.wait_until_reached()
        closing = threading.Thread(target=backend.close)
        closing.start()
        assert backend._engine._engine is not None
        stall.release()
        closing.join()
        assert backend._engine._engine is None

    def test_may_be_repeated_and_come_first(self, calm):
        backend = calm.backend()
        backend.close()
        backend.close()

    def test_after_a_failure_of_the_device_still_gives_everything_back(self, calm):
        backend = calm.backend(streams=1)
        frames = [calm.frame(picture(seed=at), at) for at in range(3)]
        calm.before.synchronize()
        calm.device.fail_launch()
        for frame in frames:
            backend.submit(frame)
        backend.close()
        assert calm.pool.stats().leased == 0

    def test_leaves_frames_that_were_collected_alone(self, calm):
        backend = calm.backend()
        backend.submit(calm.frame(picture()))
        frame = backend.collect()
        backend.close()
        np.testing.assert_array_equal(samples(frame.tensor), enlarged(picture()))
        frame.close()


class TestTheStandInItself:
    """It is strict where TensorRT leaves things undefined, and has TensorRT's own signatures."""

    @pytest.fixture
    def context(self, calm):
        engine = LoadedEngine(StandIn(calm.device).library, Plan().serialized(), model="net")
        return engine.context((1, 3, 8, 8))

    def test_addresses_must_be_set_before_execution(self, context, calm):
        assert not context.execute_async_v3(calm.device.stream().handle)

    @pytest.mark.parametrize("call", ["set_tensor_address", "set_device_memory"])
    def test_memory_must_be_aligned(self, context, calm, call):
        memory = calm.device.allocate(4096)
        arguments = ("in", memory.pointer + 8) if call == "set_tensor_address" else (memory.pointer + 8, 100)
        with pytest.raises(RuleBroken, match="not aligned"):
            getattr(context, call)(*arguments)
        memory.close()

    def test_memory_must_be_open_and_scratch_be_enough(self, context, calm):
        memory = calm.device.allocate(1 << 16)
        context.set_tensor_address("in", memory.pointer)
        context.set_tensor_address("out", memory.pointer + 8192)
        context.set_device_memory(memory.pointer + 16384, 100)
        with pytest.raises(RuleBroken, match="not enough scratch"):
            context.execute_async_v3(calm.device.stream().handle)
        context.set_device_memory(memory.pointer + 16384, 8192)
        with pytest.raises(RuleBroken, match="not a stream"):
            context.execute_async_v3(7)
        memory.close()
        with pytest.raises(RuleBroken, match="not in memory that is open"):
            context.execute_async_v3(calm.device.stream().handle)

    def test_a_context_must_not_allocate_memory_of_its_own(self, calm):
        runtime = StandIn(calm.device).Runtime(None)
        engine = runtime.deserialize_cuda_engine(Plan().serialized())
        with pytest.raises(RuleBroken, match="of its own"):
            engine.create_execution_context()

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            (standin.Runtime, "Runtime"),
            (standin.CudaEngine, "ICudaEngine"),
            (standin.ExecutionContext, "IExecutionContext"),
            (standin.RuntimeConfig, "IRuntimeConfig"),
            (standin.RuntimeCache, "IRuntimeCache"),
            (standin.ILogger, "ILogger"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_its_methods_are_called_as_those_of_tensorrt(self, ours, theirs):
        real = getattr(pytest.importorskip("tensorrt_rtx"), theirs)
        for name, method in inspect.getmembers(ours, inspect.isfunction):
            if name.startswith("_"):
                continue
            signatures = re.findall(
                rf"{name}\(self: [^,)]+((?:, \w+: [^,)=]+(?: = [^,)]+)?)*)\)", getattr(real, name).__doc__
            )
            known = {tuple(re.findall(r", (\w+):", each)) for each in signatures}
            assert known, f"{theirs}.{name} has no signature"
            mine = tuple(inspect.signature(method).parameters)[1:]
            assert mine in known or all((each,) in known for each in mine), f"{theirs}.{name}{sorted(known)}"

    @pytest.mark.parametrize(
        "enumeration",
        [
            "TensorIOMode",
            "ExecutionContextAllocationStrategy",
            "CudaGraphStrategy",
            "DynamicShapesKernelSpecializationStrategy",
        ],
    )
    def test_its_enumerations_are_those_of_tensorrt(self, enumeration):
        real = getattr(pytest.importorskip("tensorrt_rtx"), enumeration)
        ours = getattr(standin, enumeration)
        assert {name: int(value) for name, value in real.__members__.items()} == {
            each.name: each.value for each in ours
        }

    def test_its_properties_are_there_in_tensorrt(self):
        trt = pytest.importorskip("tensorrt_rtx")
        for name in ("cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"):
            assert isinstance(getattr(trt.IRuntimeConfig, name), property)
        assert isinstance(trt.ICudaEngine.num_io_tensors, property)

    def test_a_plan_survives_being_serialized(self, calm):
        plan = Plan(scale=4, dtype="float16")
        engine = StandIn(calm.device).Runtime(None).deserialize_cuda_engine(plan.serialized())
        assert attrs.asdict(engine.plan)["scale"] == 4
