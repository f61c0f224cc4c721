"""TensorRT-RTX builds engines of our models here, without a GPU, and says why where it does not."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading

import numpy as np
import onnx
import pytest
import trio
from onnx import TensorProto, helper, numpy_helper

from rave_trio import errors
from rave_trio.inference import tensorrt_library
from rave_trio.inference.catalogue import catalogue
from rave_trio.inference.engine_cache import EngineCache
from rave_trio.inference.tensorrt_engine import BuilderOptions, Shapes, build_engine, engine_key
from rave_trio.inference.tensorrt_library import is_out_of_memory, load_library, reason
from rave_trio.inference.tensorrt_runtime import LoadedEngine

pytest.importorskip("tensorrt_rtx")

SMALL = Shapes.fixed(1, 3, 32, 40)
ADA, BLACKWELL, HOPPER = (8, 9), (12, 0), (9, 0)


@pytest.fixture(scope="module")
def library():
    return load_library("tensorrt_rtx")


@pytest.fixture
def build(library):
    """Build an engine for SM89: ``build(onnx_bytes, shapes=SMALL, ...)``."""

    def run(onnx_bytes: bytes, shapes: Shapes = SMALL, **how) -> bytes:
        return build_engine(library, onnx_bytes, shapes, model="net", capabilities=how.pop("for_", [ADA]), **how)

    return run


@pytest.fixture(scope="module")
def animevideo() -> bytes:
    return catalogue()["animevideo-x4"].path.read_bytes()


def network(*nodes, inputs=("in",), outputs=("out",), weights=(), shape=(1, 3, "h", "w"), kind=TensorProto.FLOAT):
    """An ONNX file as bytes."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_tensor_value_info(name, kind, [None] * 4) for name in outputs],
        list(weights),
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("elsewhere", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


class TestShippedModels:
    @pytest.mark.parametrize("capability", [ADA, BLACKWELL], ids=["SM89", "SM120"])
    @pytest.mark.parametrize("name", catalogue())
    def test_an_engine_is_built_for_a_gpu_that_is_not_here(self, build, name, capability):
        onnx_bytes = catalogue()[name].path.read_bytes()
        engine = build(onnx_bytes, Shapes.fixed(1, 3, 270, 480), for_=[capability])
        assert len(engine) > len(onnx_bytes) / 2, "the weights are in it"

    def test_the_engine_is_for_the_gpu_that_was_asked_for(self, build, animevideo):
        ada, blackwell, both = (build(animevideo, for_=each) for each in ([ADA], [BLACKWELL], [ADA, BLACKWELL]))
        assert len({ada, blackwell, both}) == 3
        assert build(animevideo, for_=[ADA]) == ada

    def test_the_engine_is_for_the_shapes_that_were_asked_for(self, build, animevideo):
        fixed = build(animevideo)
        ranged = build(animevideo, Shapes((1, 3, 32, 32), (1, 3, 64, 64), (1, 3, 540, 960)))
        assert fixed != ranged

    def test_types_are_those_of_the_file(self, build, upscaler):
        full = build(upscaler("full", dtype=np.float32, layers=6).read_bytes())
        half = build(upscaler("half", dtype=np.float16, layers=6).read_bytes())
        assert full != half

    def test_builder_options_are_taken(self, build, animevideo):
        assert build(animevideo, options=BuilderOptions(optimization_level=1, workspace=1 << 28))


class TestProgress:
    def test_is_told_phase_by_phase_and_step_by_step(self, build, animevideo):
        told = []
        build(animevideo, on_progress=lambda *step: told.append(step))
        assert told[0][1] == 0
        assert all(0 <= done <= steps for _, done, steps in told)
        outermost = [done for phase, done, _ in told if phase == told[0][0]]
        assert outermost == sorted(outermost)
        assert len(told) > 50

    def test_comes_in_the_calling_thread(self, build, animevideo):
        threads = set()
        build(animevideo, on_progress=lambda *step: threads.add(threading.get_ident()))
        assert threads == {threading.get_ident()}


class Enough(BaseException):
    """Whoever waits does not want to any more."""


class TestCancellation:
    @pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
    @pytest.mark.parametrize("way", ["tick", "on_progress"])
    def test_what_is_raised_ends_the_build_and_goes_on(self, build, animevideo, share, way):
        asked = []
        build(animevideo, tick=lambda: asked.append(None))
        left = int(share * len(asked))

        def ask(*step):
            nonlocal left
            left -= 1
            if left < 0:
                raise Enough

        with pytest.raises(Enough):
            build(animevideo, **{way: ask})
        assert left == -1, "nobody is asked again"

    def test_ends_the_build_itself_and_not_only_our_part_of_it(self, build, animevideo, monkeypatch):
        said = []
        monkeypatch.setattr(tensorrt_library, "said", lambda severity, message: said.append(message))

        def refuse():
            raise Enough

        with pytest.raises(Enough):
            build(animevideo, tick=refuse)
        assert any("BuildCanceled" in message for message in said)

    def test_by_trio_ends_the_build(self, animevideo, library):
        async def main() -> bool:
            with trio.CancelScope() as scope:

                def on_progress(phase, done, steps):
                    trio.from_thread.run_sync(scope.cancel)

                await trio.to_thread.run_sync(
                    lambda: build_engine(
                        library,
                        animevideo,
                        SMALL,
                        model="net",
                        capabilities=[ADA],
                        on_progress=on_progress,
                        tick=trio.from_thread.check_cancelled,
                    )
                )
            return scope.cancelled_caught

        assert trio.run(main)

    def test_leaves_the_next_build_alone(self, build, animevideo):
        def refuse():
            raise Enough

        with pytest.raises(Enough):
            build(animevideo, tick=refuse)
        assert build(animevideo)

    def test_leaves_nothing_for_the_garbage_collector(self, build, upscaler):
        onnx_bytes = upscaler().read_bytes()

        def refuse():
            raise Enough

        def cancelled():
            with contextlib.suppress(Enough):
                build(onnx_bytes, tick=refuse)

        cancelled()
        gc.collect()
        gc.disable()
        try:
            cancelled()
            assert gc.collect() == 0
        finally:
            gc.enable()

    def test_does_not_print(self, build, animevideo, capfd):
        def refuse():
            raise Enough

        with pytest.raises(Enough):
            build(animevideo, tick=refuse)
        assert capfd.readouterr() == ("", "")


class TestRefusals:
    @pytest.mark.parametrize("content", [b"", b"not ONNX", bytes(100)], ids=["empty", "text", "zeros"])
    def test_bytes_without_a_network_are_broken(self, build, content):
        with pytest.raises(errors.ModelBroken, match=r"^net cannot be read as ONNX"):
            build(content)

    @pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
    def test_a_file_that_was_cut_is_broken(self, build, animevideo, share):
        with pytest.raises(errors.ModelBroken, match=r"^net cannot be read as ONNX"):
            build(animevideo[: int(share * len(animevideo))])

    @pytest.mark.parametrize(("operator", "domain"), [("Bernoulli", ""), ("Frobnicate", "elsewhere")])
    def test_an_operator_that_is_not_supported_is_named(self, build, operator, domain):
        with pytest.raises(errors.ModelUnsupported, match=rf"does not support {operator} as used there$"):
            build(network(helper.make_node(operator, ["in"], ["out"], domain=domain)))

    def test_mixed_types_are_refused_with_the_reason(self, build):
        half = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float16), "w")
        with pytest.raises(errors.ModelUnsupported, match="must be of same type") as caught:
            build(network(helper.make_node("Conv", ["in", "w"], ["out"]), weights=[half]))
        assert "_src" not in str(caught.value)
        assert "cuda" not in str(caught.value).lower(), "that there is no GPU here is not the reason"

    def test_a_shape_that_the_network_does_not_take_is_refused_with_the_reason(self, build):
        with pytest.raises(errors.ModelUnsupported, match="static dimensions"):
            build(network(helper.make_node("Relu", ["in"], ["out"]), shape=(1, 3, 64, 64)))

    def test_a_network_that_fails_while_building_is_refused_with_the_reason(self, build):
        with pytest.raises(errors.ModelUnsupported, match=r"^tensorrt_rtx cannot build net: .*[Rr]eshap"):
            build(network(helper.make_node("DepthToSpace", ["in"], ["out"], blocksize=2)))

    def test_two_inputs_are_refused(self, build):
        with pytest.raises(errors.ModelUnsupported, match="2 inputs and 1 outputs"):
            build(network(helper.make_node("Add", ["in", "more"], ["out"]), inputs=("in", "more")))

    def test_weights_in_another_file_are_refused_even_if_they_could_be_found(self, build, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "w.bin").write_bytes(np.ones(9, np.float32).tobytes())
        weights = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
        onnx.external_data_helper.set_external_data(weights, "w.bin")
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        with pytest.raises(errors.ModelUnsupported, match="Failed to import initializer"):
            build(network(helper.make_node("Conv", ["in", "w"], ["out"]), weights=[weights]))

    def test_a_gpu_that_is_not_supported_is_refused_by_its_capability(self, build, animevideo):
        with pytest.raises(errors.DeviceUnknown, match=r"7\.5, .*12\.0.*, and this one has 9\.0$"):
            build(animevideo, for_=[HOPPER])

    def test_a_refusal_is_known_without_building(self, library):
        assert "this one has 9.0" in library.refusal(HOPPER)
        assert library.refusal(ADA) is library.refusal(BLACKWELL) is None

    def test_nothing_is_printed(self, build, capfd):
        with pytest.raises(errors.ModelBroken):
            build(b"not ONNX")
        with pytest.raises(errors.ModelUnsupported):
            build(network(helper.make_node("Bernoulli", ["in"], ["out"])))
        assert capfd.readouterr() == ("", "")

    def test_an_engine_cannot_be_loaded_without_a_gpu_and_says_so(self, build, library, upscaler):
        engine = build(upscaler().read_bytes())
        if _has_gpu():
            pytest.skip("there is a GPU here")
        with pytest.raises(errors.InferenceError, match=r"^tensorrt_rtx could not load the engine of net: .*CUDA"):
            LoadedEngine(library, engine, model="net")

    @pytest.mark.parametrize("shape", [((2, 2, 2, 2), (1, 2, 2, 2), (2, 2, 2, 2)), ((0, 1, 1, 1),) * 3])
    def test_shapes_that_are_no_range_are_refused(self, shape):
        with pytest.raises(ValueError, match="not a range"):
            Shapes(*shape)


def _has_gpu() -> bool:
    import ctypes

    try:
        return ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
    except OSError:
        return False


class TestMessages:
    def test_that_memory_ran_out_is_understood(self):
        assert is_out_of_memory(["[defaultAllocator.cpp::allocate::58] Error Code 1: Cuda Runtime (out of memory)"])
        assert is_out_of_memory(["Error Code 2: OutOfMemory (Requested size was 1 bytes.)"])
        assert not is_out_of_memory(["Error Code 4: API Usage Error"])

    def test_a_reason_is_one_line_without_source_files(self):
        said = "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (x: no. In f at /_src/a/b.cpp:12)"
        assert reason([said, said, "\nmore\n"]) == "API Usage Error (x: no.); more"

    def test_there_is_always_a_reason(self):
        assert reason([]) == "it does not say why"


class TestLibrary:
    def test_one_that_is_not_installed_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        load_library.cache_clear()
        with pytest.raises(errors.DeviceUnknown, match=r"^tensorrt is not installed$") as caught:
            load_library("tensorrt")
        assert "pip install tensorrt-cu13" in caught.value.remedy

    def test_another_name_is_refused(self):
        with pytest.raises(ValueError, match="not one of"):
            load_library("tensorflow")

    def test_threads_hear_of_their_own_builds_only(self, build, upscaler):
        good = upscaler().read_bytes()
        bad = network(helper.make_node("DepthToSpace", ["in"], ["out"], blocksize=2))
        together = threading.Barrier(4)
        outcomes: dict[int, object] = {}

        def run(at: int) -> None:
            together.wait()
            try:
                outcomes[at] = len(build(bad if at % 2 else good))
            except errors.ModelUnsupported as error:
                outcomes[at] = str(error)

        threads = [threading.Thread(target=run, args=(at,)) for at in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(isinstance(outcomes[at], int) for at in (0, 2))
        assert all("eshap" in str(outcomes[at]) for at in (1, 3))


class TestWithTheCache:
    def test_an_engine_is_built_once_for_all_that_it_depends_on(self, build, library, upscaler, tmp_path):
        cache = EngineCache(tmp_path)
        onnx_bytes = upscaler().read_bytes()
        built = []

        def engine(onnx_bytes: bytes, shapes: Shapes = SMALL, capability=ADA, **how) -> bytes:
            key = engine_key(
                library,
                onnx_bytes,
                shapes,
                precision="fp32",
                gpu="NVIDIA GeForce RTX 4090",
                driver="580.1",
                capabilities=[capability],
                **how,
            )

            def make() -> bytes:
                built.append(key)
                return build(onnx_bytes, shapes, for_=[capability], **how)

            if (kept := cache.load(key)) is not None:
                return kept
            cache.store(key, made := make())
            return made

        assert engine(onnx_bytes) == engine(onnx_bytes)
        assert len(built) == 1
        engine(upscaler(layers=2).read_bytes())
        engine(onnx_bytes, Shapes.fixed(1, 3, 32, 48))
        engine(onnx_bytes, capability=BLACKWELL)
        engine(onnx_bytes, options=BuilderOptions(optimization_level=1))
        assert len(built) == len(set(built)) == 5
