"""Which device computes a job, who decodes and who encodes, and what is said about it.

NVML's answers are made up: there is no GPU where these tests run.
"""

from __future__ import annotations

import types

import attrs
import pytest
from made_up_gpus import ALL, BOTH, DECODES, gpu, machine

import rave_trio
from rave_trio import choice, errors
from rave_trio.costs import GpuCosts
from rave_trio.devices.nvidia import VideoEngines
from rave_trio.fit import retreats
from rave_trio.profiles import with_profile

__all__ = ["machine"]


@pytest.fixture
def plan(bunny, tmp_path):
    def make(**options):
        return rave_trio.make_plan(rave_trio.UpscaleOptions(bunny, tmp_path / "out.mkv", **options))[0]

    return make


# Devices


def test_auto_takes_the_first_gpu(machine):
    machine(gpu(1), gpu(0))
    assert choice.choose("auto", "auto").gpu.cuda_ordinal == 0


def test_a_gpu_is_taken_by_cudas_count(machine):
    machine(gpu(0), gpu(1))
    assert choice.choose("cuda:1", "auto").gpu.name == "GPU number 1"
    assert choice.choose("cuda", "auto").gpu.name == "GPU number 0"


def test_auto_takes_the_cpu_where_there_is_no_gpu(machine):
    machine(problem="there is no NVIDIA driver")
    found = choice.choose("auto", "auto")
    assert (found.gpu, found.backend, found.notes) == (None, "openvino", ())


def test_auto_says_why_a_gpu_that_is_there_is_not_used(machine):
    machine(gpu(0), libraries=set(ALL) - {"onnxruntime-gpu", "onnx"})
    found = choice.choose("auto", "auto")
    assert found.gpu is None
    (note,) = found.notes
    assert "GPU number 0 is not used" in note
    assert "compact: onnx not installed" in note
    assert "onnxruntime: onnxruntime-gpu not installed" in note


@pytest.mark.parametrize("missing", choice.NEEDED)
def test_a_gpu_that_was_asked_for_needs_its_libraries(machine, missing):
    machine(gpu(0), libraries=set(ALL) - {missing})
    with pytest.raises(errors.DeviceUnknown, match=f"cuda:0 cannot be used without {missing}"):
        choice.choose("cuda:0", "auto")
    assert choice.choose("auto", "auto").gpu is None


@pytest.mark.parametrize(
    ("gpus", "problem", "said"),
    [
        ((), "there is no NVIDIA driver", "no NVIDIA driver"),
        ((gpu(0, problem="another process has it"),), None, "another process has it"),
        ((gpu(0, cuda_ordinal=None),), None, "CUDA sees no GPU"),
        ((gpu(0), gpu(1)), None, "no GPU cuda:7"),
    ],
    ids=["driver", "busy", "hidden", "count"],
)
def test_a_gpu_that_cannot_be_had_is_refused_with_the_reason(machine, gpus, problem, said):
    machine(*gpus, problem=problem)
    with pytest.raises(errors.DeviceUnknown, match=said):
        choice.choose("cuda:7", "auto")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "mps"])
def test_what_is_no_device_is_refused(machine, device):
    machine(gpu(0))
    with pytest.raises(errors.DeviceUnknown, match="there is no device"):
        choice.choose(device, "auto")


# Backends


def test_tensorrt_has_to_be_asked_for(machine):
    machine(gpu(0))
    found = choice.choose("auto", "auto", unsuited=lambda backend, _: "no" if backend == "compact" else None)
    assert (found.backend, found.notes) == ("onnxruntime", ("compact: no",))
    assert choice.choose("auto", "tensorrt-rtx").backend == "tensorrt-rtx"


def test_our_own_kernels_come_first(machine):
    machine(gpu(0), libraries=set(ALL) - {"onnxruntime-gpu"})
    found = choice.choose("auto", "auto")
    assert (found.backend, found.notes) == ("compact", ())


def test_our_own_kernels_need_a_gpu_of_their_instructions(machine):
    machine(gpu(0, compute_capability=(7, 5)))
    found = choice.choose("auto", "auto")
    assert found.backend == "onnxruntime"
    assert found.notes == ("compact: its kernels need compute capability 8.0 or higher",)
    with pytest.raises(errors.DeviceUnknown, match=r"8\.0 or higher"):
        choice.choose("auto", "compact")


def test_a_backend_that_the_gpu_does_not_run_is_refused(machine):
    machine(gpu(0, compute_capability=(9, 0)))
    with pytest.raises(errors.DeviceUnknown, match=r"7\.5, 8\.0, 8\.6, 8\.9 and 12\.x only"):
        choice.choose("auto", "tensorrt-rtx")


@pytest.mark.parametrize(("device", "backend"), [("cpu", "onnxruntime"), ("cpu", "tensorrt"), ("cuda", "openvino")])
def test_device_and_backend_must_go_together(machine, device, backend):
    machine(gpu(0))
    with pytest.raises(errors.UsageError):
        choice.choose(device, backend)


def test_openvino_means_the_cpu(machine):
    machine(gpu(0))
    assert choice.choose("auto", "openvino").gpu is None


# Plans


def test_a_plan_for_a_gpu_has_pictures_and_tensors_there(machine, plan):
    machine(gpu(0))
    made = plan()
    assert (made.device.name, made.backend, made.precision) == ("GPU number 0", "compact", "fp16")
    assert (made.decoder, made.surface.pixel_format.name) == ("nvdec", "nv12")
    assert made.fit.memory < 15 << 30


def test_room_to_copy_frames_into_is_planned_only_for_tiles_batches_and_planes(clip, tmp_path):
    _, (step,) = rave_trio.make_plan(rave_trio.UpscaleOptions(clip(), tmp_path / "out.mkv", device="cpu"))
    costs, whole, tiles = GpuCosts(0, 2), step.geometry(None), step.geometry(40)
    assert costs.staging(step, whole, 2, 1) == 0
    pixels = 3 * tiles.tile_height * tiles.tile_width
    assert costs.staging(step, tiles, 1, 1) >= 2 * (pixels + 4 * pixels)
    assert costs.staging(step, whole, 1, 2) >= 2 * costs.tensor(step.source)
    model = step.model
    one_by_one = attrs.evolve(model.metadata, input_channels=1, output_channels=1)
    planes = attrs.evolve(step, model=types.SimpleNamespace(metadata=one_by_one))
    assert costs.staging(planes, whole, 1, 1) > 0


def test_a_chip_without_an_encoder_leaves_encoding_to_the_cpu_and_says_so(machine, plan):
    machine(gpu(0))
    made = plan()
    assert made.encoder.encoder == "libx264"
    assert any(note.startswith("encoded on the CPU: this GPU does not encode h264") for note in made.notes)


def test_a_chip_with_an_encoder_encodes_in_the_same_codec(machine, plan):
    machine(gpu(0), engines=BOTH)
    made = plan()
    assert (made.encoder.encoder, made.encoder.surface.pixel_format.name) == ("h264_nvenc", "nv12")
    assert not any("encoded on the CPU" in note for note in made.notes)


def test_a_software_encoder_that_was_asked_for_is_used(machine, plan):
    machine(gpu(0), engines=BOTH)
    assert plan(codec="libx265").encoder.encoder == "libx265"


def test_an_encoder_that_the_chip_has_not_is_refused_by_name(machine, plan):
    machine(gpu(0), engines=BOTH)
    with pytest.raises(errors.UsageError, match="av1_nvenc cannot be used: this GPU does not encode av1"):
        plan(codec="av1_nvenc")


def test_what_the_chip_does_not_decode_is_decoded_on_the_cpu_and_said(machine, plan):
    machine(gpu(0), engines=VideoEngines(DECODES[1:], (), ()))
    made = plan()
    assert (made.decoder, made.surface.pixel_format.name) == ("libav", "yuv420p")
    assert any(note.startswith("decoded on the CPU") for note in made.notes)


def test_pictures_that_no_gpu_holds_stay_on_the_cpu(machine, clip, tmp_path):
    machine(gpu(0))
    options = rave_trio.UpscaleOptions(
        clip(frames=1, codec="ffv1", pixel_format="yuva420p"), tmp_path / "out.mkv", background="black"
    )
    made, _ = rave_trio.make_plan(options)
    assert made.gpu is None
    assert any("yuva420p is not supported on a GPU" in note for note in made.notes)
    with pytest.raises(errors.DeviceUnknown, match="yuva420p"):
        rave_trio.make_plan(attrs.evolve(options, device="cuda"))


def test_a_gpu_does_not_compute_bf16(machine, plan):
    machine(gpu(0))
    with pytest.raises(errors.PrecisionUnsupported):
        plan(precision="bf16")


def test_a_network_that_is_not_of_the_family_goes_to_onnxruntime_and_the_plan_says_why(machine, plan, graph):
    machine(gpu(0))
    net = graph()
    path = net.save(net.shuffle(net.op("Sigmoid", net.conv(net.input, 3, 12)), 2))
    made = plan(model=str(path))
    assert made.backend == "onnxruntime"
    (note,) = [note for note in made.notes if note.startswith("compact: ")]
    assert note == "compact: this model is not of the family: a Sigmoid where a 3x3 convolution should be"
    with pytest.raises(errors.DeviceUnknown, match="a Sigmoid where") as caught:
        plan(model=str(path), backend="compact")
    assert caught.value.remedy == "use --backend auto"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"precision": "fp32"}, "it does not compute fp32"),
        ({"batch": 4}, "it computes frames one by one"),
        ({"streams": 2}, "it computes frames one by one"),
    ],
)
def test_what_our_own_kernels_do_not_do_goes_to_onnxruntime(machine, plan, asked, said):
    machine(gpu(0))
    made = plan(**asked)
    assert made.backend == "onnxruntime"
    assert f"compact: {said}" in made.notes


def test_our_own_kernels_are_told_apart_by_their_memory(machine, plan):
    machine(gpu(0))
    made = plan()
    needed = 2 * 320 * 180 * 64 * 2 + 9 * 64 * 64 * 16 * 2 + 3 * 320 * 180 * 2 * (1 + 2**2)
    assert needed < made.fit.network < needed + 2 * (2 << 20)
    assert (made.streams, made.batch, made.tuning) == (1, 1, None)


def test_frames_go_through_our_own_kernels_as_surfaces_unless_there_is_more_to_do_with_tensors(
    machine, bunny, tmp_path
):
    machine(gpu(0))
    asked = {"usual": {}, "tiles": {"tile": 96}, "a size": {"size": "1280x720"}, "another": {"backend": "onnxruntime"}}
    found = {}
    for name, options in asked.items():
        made, steps = rave_trio.make_plan(rave_trio.UpscaleOptions(bunny, tmp_path / "out.mkv", **options))
        assert (made.backend == "onnxruntime") == (name == "another")
        found[name] = made.work(steps).on_surfaces, made.fit.tensors > 0
    assert found.pop("usual") == (True, False)
    assert set(found.values()) == {(False, True)}


def test_where_memory_is_short_our_own_kernels_compute_in_strips(machine, plan):
    machine(gpu(0))
    whole = plan()
    short = plan(vram_limit=whole.fit.memory - 1)
    assert (whole.geometries[0].strip, short.geometries[0].strip) == (None, 90)
    assert short.geometries[0].tiles == 1
    assert short.fit.network < whole.fit.network
    assert short.fit.memory <= whole.fit.memory - 1
    assert short.as_dict()["stages"][0]["tiles"]["strip"] == 90
    assert plan(vram_limit=whole.fit.memory).fit == whole.fit


def test_when_memory_runs_out_our_own_kernels_retreat_to_strips(machine, bunny, tmp_path):
    machine(gpu(0))
    made, steps = rave_trio.make_plan(rave_trio.UpscaleOptions(bunny, tmp_path / "out.mkv"))
    strips = [geometry.strip for (geometry,), _, _ in retreats(made.work(steps), made.fit)]
    assert strips == [None, 90, 45]


def test_a_gpu_of_little_memory_gets_tiles_or_is_refused_a_limit_with_the_least_that_would_do(machine, plan):
    machine(gpu(0))
    whole = plan(scale=4, backend="onnxruntime")
    with pytest.raises(errors.OutOfMemory, match="needs at least") as caught:
        plan(scale=4, backend="onnxruntime", vram_limit="64MiB")
    assert "--vram-limit" in caught.value.remedy
    assert plan(scale=4, backend="onnxruntime", vram_limit=whole.fit.memory).fit == whole.fit


# fp8


HOPPER = (9, 0)


def notes_about_fp8(made):
    return [note for note in made.notes if "fp8" in note]


@pytest.mark.parametrize("capability", [(8, 9), HOPPER, (12, 0), (12, 1)])
def test_fp8_is_computed_where_it_is_asked_for_and_can_be(machine, plan, capability):
    machine(gpu(0, compute_capability=capability))
    made = plan(precision="fp8")
    assert (made.backend, made.precision) == ("compact", "fp8")
    assert plan().precision == "fp16"


@pytest.mark.parametrize(
    ("capability", "options", "why"),
    [
        ((8, 6), {}, r"on GPUs of compute capability 8\.9, 9\.0 and 12\.x"),
        ((7, 5), {}, r"on GPUs of compute capability 8\.9"),
        ((10, 0), {}, r"on GPUs of compute capability 8\.9"),
        (HOPPER, {"backend": "onnxruntime"}, "by the backend compact alone"),
        (HOPPER, {"batch": 2}, "frames one by one"),
    ],
)
def test_fp8_that_cannot_be_is_refused_with_the_reason_and_what_to_do(machine, plan, capability, options, why):
    machine(gpu(0, compute_capability=capability))
    with pytest.raises(errors.PrecisionUnsupported, match=why) as raised:
        plan(precision="fp8", **options)
    assert "--precision" in raised.value.remedy
    with pytest.raises(errors.PrecisionUnsupported, match=why):
        plan(precision="fp8", contract=rave_trio.RunContract(requested_device="cuda"), **options)


def test_fp8_is_refused_for_models_of_other_families_and_of_too_few_layers(machine, plan, upscaler):
    machine(gpu(0, compute_capability=HOPPER))
    with pytest.raises(errors.PrecisionUnsupported, match="one layer or more between"):
        plan(precision="fp8", model=str(upscaler(layers=2)))
    assert plan(precision="fp8", model=str(upscaler("enough", layers=3))).precision == "fp8"
    with pytest.raises(errors.PrecisionUnsupported, match="not of the family"):
        plan(precision="fp8", model=str(upscaler("grey", channels=1)))


def test_fp8_is_refused_with_what_keeps_our_own_kernels_or_the_gpu_from_it(machine, plan):
    machine(gpu(0, compute_capability=HOPPER), libraries=set(ALL) - {"onnx"})
    with pytest.raises(errors.PrecisionUnsupported, match="compact: onnx not installed: pip install onnx"):
        plan(precision="fp8")
    machine(gpu(0, compute_capability=HOPPER, problem="another process has it"))
    with pytest.raises(errors.PrecisionUnsupported, match="GPU number 0 is not used: another process has it"):
        plan(precision="fp8")


def test_fp8_is_not_computed_on_the_cpu(plan):
    with pytest.raises(errors.PrecisionUnsupported, match="does not compute fp8"):
        plan(precision="fp8", device="cpu")


def test_the_fastest_is_fp8_where_that_can_be_and_else_what_auto_is_with_the_reason(machine, plan, upscaler):
    machine(gpu(0, compute_capability=HOPPER))
    made = plan(precision="fastest")
    assert made.precision == "fp8"
    assert notes_about_fp8(made) == ["computed in fp8, the fastest; --precision fp16 is more exact"]
    few = plan(precision="fastest", model=str(upscaler(layers=2)))
    assert (few.backend, few.precision) == ("compact", "fp16")
    (note,) = notes_about_fp8(few)
    assert "one layer or more" in note
    machine(gpu(0, compute_capability=(8, 6)))
    made = plan(precision="fastest")
    assert made.precision == "fp16"
    (note,) = notes_about_fp8(made)
    assert "compute capability 8.9" in note
    assert plan(precision="fastest", device="cpu").precision == plan(device="cpu").precision


def test_the_profile_fast_wants_the_fastest_and_a_flag_goes_before_it(machine, plan):
    machine(gpu(0, compute_capability=HOPPER))
    assert plan(**with_profile({"profile": "fast"})).precision == "fp8"
    assert plan(**with_profile({"profile": "fast", "precision": "fp32"})).precision == "fp32"
