"""What is onnxruntime's own: what it binds in place, what it refuses, and how its failures come out."""

from __future__ import annotations

import types

import numpy as np
import pytest
from backend_rigs import OnnxRuntimeRig, host_copy, host_view
from onnx import TensorProto, helper

from rave_trio import errors
from rave_trio.devices.arrays import DeviceArray
from rave_trio.frames import Frame, Tensor
from rave_trio.inference import onnxruntime_session
from rave_trio.inference.model import ARENA_SLACK, Geometry, ModelLoad, arena_bytes
from rave_trio.inference.onnxruntime_backend import OWNER, OnnxRuntimeBackend
from rave_trio.inference.onnxruntime_session import (
    Cpu,
    Cuda,
    is_out_of_memory,
    ort,
    reason,
)
from rave_trio.inference.openvino_model import Model
from rave_trio.inference.retreat import RetreatingBackend

HEIGHT, WIDTH = 40, 56


@pytest.fixture
def rig():
    rig = OnnxRuntimeRig()
    yield rig
    rig.close()


@pytest.fixture
def model(upscaler) -> Model:
    return Model("net", upscaler())


@pytest.fixture
def backend(rig, model):
    """A maker of backends that count their copies: ``backend(tile=None, **how)``."""

    def make(tile=None, **how):
        copies = []

        def counting(stream, source, target):
            copies.append(source.shape)
            host_copy(stream, source, target)

        settings = {
            "precision": "fp32",
            "provider": Cpu(),
            "stream": rig.device.stream(),
            "pool": rig.pool,
            "copy": counting,
            "ledger": rig.ledger,
        }
        geometry = how.pop("geometry", None) or model.geometry(HEIGHT, WIDTH, tile)
        made = OnnxRuntimeBackend(how.pop("metadata", model.metadata), geometry, **settings | how)
        rig.made.append(made)
        made.copies = copies
        return made

    return make


@pytest.fixture
def fussy(graph) -> Model:
    """A model, 64x64 to 128x128, that fails on any picture with a black sample: what is not 0 is counted as it runs."""
    net = graph(shape=(1, 3, 64, 64))
    places = net.op("Cast", net.op("NonZero", net.input), to=1)
    return net.model(net.op("Reshape", places, net.constant(np.array([1, 3, 128, 128]))))


WHITE = np.ones((3, 64, 64), np.float32)
BLACK = np.zeros((3, 64, 64), np.float32)


class TestCopies:
    def test_there_are_none_for_frames_that_the_model_takes_whole(self, rig, backend, noise):
        running = backend()
        for index in range(2):
            running.submit(rig.frame(noise(HEIGHT, WIDTH), index))
            running.collect().close()
        assert running.copies == []

    def test_there_are_none_for_models_of_one_channel_either(self, rig, backend, upscaler, noise):
        grey = Model("grey", upscaler("grey", channels=1))
        running = backend(metadata=grey.metadata, geometry=grey.geometry(HEIGHT, WIDTH, None))
        running.submit(rig.frame(noise(HEIGHT, WIDTH)))
        running.collect().close()
        assert running.copies == []

    def test_each_tile_is_cut_and_pasted_plane_by_plane(self, rig, backend, model, noise):
        running = backend(tile=32)
        running.submit(rig.frame(noise(HEIGHT, WIDTH)))
        running.collect().close()
        assert len(running.copies) == model.geometry(HEIGHT, WIDTH, 32).tiles * (3 + 3)

    def test_one_pair_of_buffers_serves_all_frames_under_way(self, rig, backend, noise):
        running = backend(tile=32)
        for index in range(running.depth):
            running.submit(rig.frame(noise(HEIGHT, WIDTH), index))
        assert rig.pool.stats().leased == 2 * running.depth + 2

    @pytest.mark.parametrize(("offset", "gap"), [(0, 8), (2, 0)], ids=["rows apart", "at an odd address"])
    def test_a_frame_that_does_not_lie_as_the_model_wants_it_is_copied_first(
        self, rig, backend, model, noise, offset, gap
    ):
        running, picture = backend(), noise(HEIGHT, WIDTH)
        pitch = 4 * WIDTH + gap
        lease = rig.pool.lease(offset + 3 * HEIGHT * pitch)
        array = DeviceArray(lease.memory, picture.shape, np.float32, offset=offset, pitch=pitch)
        host_view(array)[:] = picture
        running.submit(Frame(0, 0, 1, None, False, Tensor(array, lease)))
        result = rig.take(running.collect())
        assert len(running.copies) == 1
        np.testing.assert_allclose(result, rig.reference(model, picture), rtol=0, atol=rig.tolerance)

    def test_beyond_the_edge_the_copies_double_what_is_there(self, rig, backend, upscaler, noise):
        fixed = Model("fixed", upscaler("fixed", size=(64, 64)))
        running = backend(metadata=fixed.metadata, geometry=fixed.geometry(1, 1, None))
        running.submit(rig.frame(noise(1, 1)))
        running.collect().close()
        assert len(running.copies) == 3 * (1 + 6 + 6) + 3


class TestOrderOfUse:
    def test_what_was_launched_before_with_a_frames_memory_comes_first(self, rig, backend, model, noise):
        running, picture = backend(), noise(HEIGHT, WIDTH)
        with rig.device.paused():
            running.submit(rig.frame(picture))  # whose samples are written on another stream
        np.testing.assert_allclose(
            rig.take(running.collect()), rig.reference(model, picture), rtol=0, atol=rig.tolerance
        )

    def test_the_result_says_when_it_is_there(self, rig, backend, noise):
        running = backend()
        running.submit(rig.frame(noise(HEIGHT, WIDTH)))
        result = running.collect()
        assert result.tensor.memory.last_use.query()
        result.close()

    def test_closing_waits_for_what_the_device_works_on(self, rig, backend, noise):
        running = backend()
        for index in range(3):
            running.submit(rig.frame(noise(HEIGHT, WIDTH), index))
        last = running._jobs[-1].done
        running.close()
        assert last.query()


class TestRefusals:
    def test_of_a_precision_that_it_does_not_compute(self, backend):
        with pytest.raises(errors.PrecisionUnsupported, match="bf16"):
            backend(precision="bf16")

    def test_of_a_tensor_of_another_dtype_leave_the_frame_with_the_caller(self, rig, backend, noise):
        running, given = backend(precision="fp16"), rig.frame(noise(HEIGHT, WIDTH))
        with pytest.raises(TypeError, match="frame 0 is float32, model net runs in float16"):
            running.submit(given)
        given.close()

    def test_of_a_model_with_an_operator_that_it_has_not_name_the_operator(self, backend, tmp_path, model):
        path = tmp_path / "foreign.onnx"
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, "h", "w")) for name in ("in", "out")]
        node = helper.make_node("Enlarge", ["in"], ["out"], domain="elsewhere")
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("elsewhere", 1)]
        made = helper.make_model(
            helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=opsets, ir_version=8
        )
        path.write_bytes(made.SerializeToString())
        metadata = type(model.metadata)("foreign", path, "", 2, "in", "out", 3, 3, None, None)
        for precision in ("fp32", "fp16"):
            with pytest.raises(errors.ModelUnsupported, match=r"Enlarge") as caught:
                backend(metadata=metadata, precision=precision)
            assert "\n" not in str(caught.value)

    def test_of_a_graph_that_onnxruntime_does_not_take_are_one_line(self, backend, graph, model):
        net = graph("odd")
        wide = net.op("Gelu", net.op("Cast", net.input, to=TensorProto.DOUBLE))
        path = net.save(net.op("Einsum", net.op("Cast", wide, to=1), equation="nchw,nchw->nhcq"))
        metadata = type(model.metadata)("odd", path, "", 1, "in", "out", 3, 3, None, None)
        with pytest.raises(errors.ModelUnsupported) as caught:
            backend(metadata=metadata)
        assert str(caught.value).startswith("onnxruntime cannot run model odd: ")
        assert "\n" not in str(caught.value)
        assert ".cc" not in str(caught.value)

    @pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this onnxruntime has CUDA")
    def test_where_there_is_no_cuda_name_the_remedy_and_account_for_nothing(self, rig, backend):
        with pytest.raises(errors.DeviceUnknown, match="has no CUDAExecutionProvider") as caught:
            backend(provider=Cuda(stream=0, memory_limit=1 << 20))
        assert "onnxruntime-gpu" in caught.value.remedy
        assert OWNER not in rig.ledger.stats().by_owner


class TestLaunching:
    def test_that_fails_leaves_the_frame_with_the_caller_and_gives_back_the_rest(self, rig, backend, noise):
        def broken(stream, source, target):
            raise ValueError("no copy")

        running, given = backend(tile=32, copy=broken), rig.frame(noise(HEIGHT, WIDTH))
        with pytest.raises(ValueError, match="no copy"):
            running.submit(given)
        running.close()
        assert rig.pool.stats().leased == 1
        given.close()


class StandIn:
    """What is asked of onnxruntime, where there is no GPU to ask it of."""

    def __init__(self, model, options, *, providers, enable_fallback):
        self.options, (self.provider,) = options, providers
        self.bound, self.runs = [], []
        StandIn.made = self

    def get_inputs(self):
        return [types.SimpleNamespace(name="in")]

    def get_outputs(self):
        return [types.SimpleNamespace(name="out")]

    def io_binding(self):
        bind = lambda *what: self.bound.append(what)  # noqa: E731
        return types.SimpleNamespace(bind_input=bind, bind_output=bind)

    def run_with_iobinding(self, binding, options):
        self.runs.append(options.get_run_config_entry("disable_synchronize_execution_providers"))


class TestWhatIsAskedOfCuda:
    @pytest.fixture
    def stand_in(self, monkeypatch):
        monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
        monkeypatch.setattr(ort, "InferenceSession", StandIn)

    def test_is_to_run_on_our_stream_in_our_memory_and_not_to_wait(self, stand_in, rig, backend, noise):
        running = backend(provider=Cuda(stream=0x7F00, device=2, memory_limit=1 << 20), precision="fp16")
        asked = StandIn.made
        name, settings = asked.provider
        assert name == "CUDAExecutionProvider"
        assert settings["user_compute_stream"] == str(0x7F00)
        assert (settings["device_id"], settings["gpu_mem_limit"], settings["use_tf32"]) == ("2", "1048576", "0")
        assert asked.options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        assert rig.ledger.stats().by_owner[OWNER] == 1 << 20

        lease = rig.pool.lease(2 * 3 * HEIGHT * WIDTH)
        array = DeviceArray(lease.memory, (3, HEIGHT, WIDTH), np.float16)
        aligned = array.pointer % 256 == 0
        with rig.device.paused():
            running.submit(Frame(0, 0, 1, None, False, Tensor(array, lease)))
            assert asked.runs == ["1"]  # the caller's own thread has put it on the stream
        for (port, kind, device, dtype, shape, pointer), expected in zip(
            asked.bound, [("in", (1, 3, HEIGHT, WIDTH)), ("out", (1, 3, 2 * HEIGHT, 2 * WIDTH))], strict=True
        ):
            assert (port, shape) == expected
            assert (kind, device, dtype) == ("cuda", 2, np.float16)
            assert pointer
        assert (asked.bound[0][-1] == array.pointer) == aligned
        running.close()
        assert OWNER not in rig.ledger.stats().by_owner

    @pytest.mark.parametrize(
        ("precision", "channels_last", "expected"),
        [("fp16", None, "1"), ("fp32", None, "0"), ("fp16", False, "0"), ("fp32", True, "1")],
    )
    def test_is_nhwc_in_fp16_unless_told_otherwise(self, stand_in, backend, precision, channels_last, expected):
        backend(provider=Cuda(stream=1, channels_last=channels_last), precision=precision)
        assert StandIn.made.provider[1]["prefer_nhwc"] == expected

    @pytest.mark.parametrize(("works", "kind"), [(True, errors.ModelUnsupported), (False, errors.DeviceUnknown)])
    def test_a_session_that_cannot_be_made_is_the_models_fault_only_if_cuda_works(
        self, monkeypatch, stand_in, rig, backend, works, kind
    ):
        def refuse(*_, **__):
            raise RuntimeError("This session contains graph nodes that are assigned to the default CPU EP")

        monkeypatch.setattr(ort, "InferenceSession", refuse)
        monkeypatch.setattr(onnxruntime_session, "_cuda_works", lambda: works)
        with pytest.raises(kind):
            backend(provider=Cuda(stream=1, memory_limit=1 << 20))
        assert OWNER not in rig.ledger.stats().by_owner


class TestArena:
    def test_for_which_the_ledger_has_no_room_is_out_of_memory(self, rig, backend):
        rig.ledger.limit = 1000
        with pytest.raises(errors.OutOfMemory, match="no room for onnxruntime's 1001 bytes"):
            backend(provider=Cuda(stream=0, memory_limit=1001))
        rig.ledger.limit = None

    def test_holds_twice_what_the_graph_needs_and_some_more(self):
        assert arena_bytes(ModelLoad(activation_bytes=100, weight_bytes=11, flops=0)) == 222 + ARENA_SLACK


class TestFailures:
    def test_say_which_model_failed_on_which_frame_in_one_line(self, rig, backend, fussy):
        running = backend(metadata=fussy.metadata, geometry=fussy.geometry(64, 64, None))
        given = [rig.frame(picture, index) for index, picture in enumerate([WHITE, BLACK, WHITE])]
        for each in given:
            running.submit(each)
        running.collect().close()
        with pytest.raises(errors.InferenceError) as caught:
            running.collect()
        message = str(caught.value)
        assert message.startswith("model net failed on frame 1: ")
        assert "Reshape" in message
        assert ".cc" not in message
        assert given[1].picture is None
        assert running.collect() is given[2]
        given[2].close()

    def test_of_the_device_fail_every_frame_after(self, rig, backend, noise):
        running = backend()
        given = [rig.frame(noise(HEIGHT, WIDTH), index) for index in range(3)]
        rig.device.fail_launch(2)
        for each in given:
            running.submit(each)
        running.collect().close()
        for index in (1, 2):
            with pytest.raises(errors.InferenceError, match=f"failed on frame {index}: work on the device failed"):
                running.collect()
        assert all(each.picture is None for each in given)

    def test_for_want_of_memory_let_a_smaller_backend_go_on(self, rig, backend, model, noise):
        def make(step):
            made = backend(tile=None if step == 0 else 32)
            if step == 0:
                made._network = Scarce(made._network)
            return made

        running = RetreatingBackend(make)
        pictures = [noise(HEIGHT, WIDTH, seed) for seed in range(3)]
        for index, picture in enumerate(pictures):
            running.submit(rig.frame(picture, index))
        for picture in pictures:
            result = rig.take(running.collect())
            np.testing.assert_allclose(result, rig.reference(model, picture), rtol=0, atol=rig.tolerance)
        assert running.retreats == 1
        running.close()

    @pytest.mark.parametrize(
        "message",
        [
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. Name:"
            "'c' Status Message: /a/b/bfc_arena.cc:376 void* A::B(size_t) Failed to allocate memory for requested "
            "buffer of size 1073741824",
            "/a/bfc_arena.cc:359 void* A::B(size_t, int) Available memory of 1 is smaller than requested bytes of 2",
            "CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; file=/a/b.cc ; line=1 ; expr=cudaMalloc(&p, size);",
            "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
            "std::bad_alloc",
        ],
    )
    def test_for_want_of_memory_are_known_by_their_words(self, message):
        assert is_out_of_memory(RuntimeError(message))

    def test_of_another_kind_are_not_taken_for_want_of_memory(self):
        assert not is_out_of_memory(
            RuntimeError("CUDA failure 222: the PTX was compiled with an unsupported toolchain")
        )

    def test_are_told_without_files_and_codes(self):
        message = (
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. "
            "Name:'c' Status Message: /a/b/conv.cc:37 virtual Status A::B(C*) const too wide"
        )
        assert reason(RuntimeError(message)) == "Conv node. Name:'c' too wide"


class Scarce:
    """A network that never finds memory."""

    def __init__(self, network):
        self._network = network

    def __getattr__(self, name):
        return getattr(self._network, name)

    def launch(self, stream, source, target, failed, *held):
        failed(RuntimeError("Failed to allocate memory for requested buffer of size 7"))


def test_geometry_of_a_larger_frame_is_not_the_backends_concern(rig, backend, model, noise):
    running, picture = backend(geometry=Geometry(24, 24, overlap=4, tiles=1)), noise(50, 70)
    running.submit(rig.frame(picture))
    np.testing.assert_allclose(rig.take(running.collect()), rig.reference(model, picture), rtol=0, atol=rig.tolerance)
