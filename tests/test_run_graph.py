"""Whole runs by graphs: several models in a row, exact sizes, and the plain command as a graph."""

from __future__ import annotations

import json
from fractions import Fraction

import attrs
import av
import numpy as np
import pytest

import rave_trio
from rave_trio import DecodeStage, EncodeStage, EnhanceStage, ResizeStage, StageGraph, errors
from rave_trio.options import UpscaleOptions


@pytest.fixture
def inverting(graph):
    """A model of scale 1 that makes a negative: 1 - x."""
    net = graph("negative")
    return net.save(net.op("Sub", net.constant(np.array([1.0], np.float32)), net.input))


def lossless(*middle) -> StageGraph:
    return StageGraph([DecodeStage(), *middle, EncodeStage(codec="ffv1", pixel_format="bgr0")])


def run(source, target, graph, **options) -> rave_trio.PipelineReport:
    return rave_trio.upscale_sync(source, target, graph=graph, overwrite=True, **options)


def differences(ours, theirs) -> int:
    return max(np.abs(a.astype(int) - b.astype(int)).max() for a, b in zip(ours, theirs, strict=True))


async def test_two_models_in_a_row_do_what_both_do_one_after_the_other(clip, tmp_path, inverting, nearest_x2, reading):
    source = clip(frames=24, width=160, height=90)
    graph = lossless(EnhanceStage(model=str(inverting), scale=1, precision="fp32"), EnhanceStage(model=str(nearest_x2)))
    report = await rave_trio.run_graph(source, tmp_path / "out.mkv", graph)
    assert report.frames == 24
    assert [(stage.kind, stage.width, stage.height) for stage in report.plan.stages] == [
        ("enhance", 160, 90),
        ("enhance", 320, 180),
    ]
    assert report.plan.depth == sum(report.plan.fit.streams + 1 for _ in range(2))
    await rave_trio.upscale(
        source, tmp_path / "same.mkv", model=str(nearest_x2), codec="ffv1", pixel_format="bgr0", precision="fp32"
    )
    negatives = [255 - picture for picture in reading.frames(tmp_path / "same.mkv")]
    assert differences(reading.frames(report.output), negatives) <= 1
    assert reading.times(report.output) == reading.times(tmp_path / "same.mkv")
    assert (report.ledger.current, report.pool.leased) == (0, 0)


def test_the_same_model_twice_is_its_negative_taken_back(clip, tmp_path, inverting, reading):
    source = clip(frames=5, codec="ffv1", pixel_format="bgr0")
    negative = EnhanceStage(model=str(inverting), precision="fp32")
    report = run(source, tmp_path / "out.mkv", lossless(negative, negative))
    assert differences(reading.frames(report.output), reading.frames(source)) == 0


def test_a_model_of_scale_one_works_wherever_others_do(rave, clip, tmp_path, inverting, reading):
    source = clip(frames=4, codec="ffv1", pixel_format="bgr0", audio=True)
    done = rave(
        "upscale", source, tmp_path / "out.mkv", "-m", inverting, "-s", 1, "--codec", "ffv1", "--tile", 16, "-p", "fp32"
    )
    assert (done.status, done.stderr) == (0, "")
    assert differences(reading.frames(tmp_path / "out.mkv"), [255 - picture for picture in reading.frames(source)]) == 0
    assert rave("compare", source, tmp_path / "out.mkv").status == 0


def test_tiles_of_each_model_are_its_own(clip, tmp_path, upscaler, reading):
    first, second = upscaler("clean", scale=1), upscaler("twice", scale=2)
    source = clip(frames=3, width=160, height=96)
    whole = lossless(EnhanceStage(model=str(first), precision="fp32"), EnhanceStage(model=str(second)))
    tiled = lossless(
        EnhanceStage(model=str(first), precision="fp32", tile=64), EnhanceStage(model=str(second), tile=80)
    )
    reports = [run(source, tmp_path / f"{name}.mkv", each) for name, each in (("whole", whole), ("tiled", tiled))]
    assert [geometry.tiles for geometry in reports[0].plan.geometries] == [1, 1]
    assert all(geometry.tiles > 1 for geometry in reports[1].plan.geometries)
    assert differences(*(reading.frames(report.output) for report in reports)) <= 1


def test_memory_of_all_models_counts_and_a_limit_is_kept(clip, tmp_path, upscaler, reading):
    source = clip(frames=6, width=160, height=96)
    stages = [EnhanceStage(model=str(upscaler(f"m{s}", scale=s)), precision="fp32") for s in (1, 2)]
    one, both = (rave_trio.make_plan(UpscaleOptions(source, tmp_path / "x.mkv", graph=lossless(*each)))[0]
                 for each in (stages[1:], stages))  # fmt: skip
    assert both.fit.network > one.fit.network
    assert both.fit.tensors > one.fit.tensors
    assert both.fit.flops > one.fit.flops
    free = run(source, tmp_path / "free.mkv", lossless(*stages))
    tight = run(source, tmp_path / "tight.mkv", lossless(*stages), vram_limit=both.fit.memory - 1)
    assert tight.plan.fit.memory < both.fit.memory
    assert tight.ledger.peak <= tight.ledger.limit
    assert differences(reading.frames(free.output), reading.frames(tight.output)) <= 1


@pytest.mark.parametrize("call", ["submit", "collect"])
def test_a_run_of_two_models_that_finds_too_little_memory_goes_on_with_less(
    clip, tmp_path, upscaler, reading, monkeypatch, call
):
    from rave_trio.inference.openvino_backend import OpenVinoBackend

    genuine, calls = getattr(OpenVinoBackend, call), []

    def scarce(backend, *frame):
        calls.append(backend.metadata.scale)
        if calls.count(2) == 3 and calls[-1] == 2:
            raise MemoryError("no memory in this test")
        return genuine(backend, *frame)

    stages = [EnhanceStage(model=str(upscaler(f"m{s}", scale=s)), precision="fp32") for s in (1, 2)]
    source = clip(frames=9)
    free = run(source, tmp_path / "free.mkv", lossless(*stages))
    monkeypatch.setattr(OpenVinoBackend, call, scarce)
    report = run(source, tmp_path / "out.mkv", lossless(*stages))
    assert calls.count(2) > 9
    assert any("memory ran out 1 times" in note for note in report.notes)
    assert (report.frames, report.ledger.current) == (9, 0)
    assert differences(reading.frames(free.output), reading.frames(report.output)) <= 1


def test_a_model_that_fails_is_named(clip, tmp_path, upscaler, monkeypatch):
    from rave_trio.inference.openvino_backend import OpenVinoBackend

    genuine = OpenVinoBackend._finish

    def failing(backend, piece, output):
        if backend.metadata.name == "second" and backend._jobs[0].frame.index == 3:
            raise RuntimeError("planted")
        return genuine(backend, piece, output)

    monkeypatch.setattr(OpenVinoBackend, "_finish", failing)
    stages = [EnhanceStage(model=str(upscaler(name, scale=s))) for name, s in (("first", 1), ("second", 2))]
    with pytest.raises(errors.InferenceError, match="model second failed on frame 3: planted") as caught:
        run(clip(frames=8), tmp_path / "out.mkv", lossless(*stages))
    assert caught.value.frame == 3
    assert not (tmp_path / "out.mkv").exists()


def size_of(path) -> tuple:
    with av.open(path) as found:
        stream = found.streams.video[0]
        return stream.width, stream.height, stream.sample_aspect_ratio


@pytest.mark.parametrize(
    ("size", "flags", "expected"),
    [
        ("200x150", [], (200, 150, 1)),
        ("200x100", [], (200, 100, Fraction(2, 3))),
        ("200x100", ["--square-pixels"], (200, 100, 1)),
        ("100x", [], (100, 76, None)),
        ("x30", [], (40, 30, None)),
    ],
)
def test_an_exact_size_keeps_the_shape_that_is_shown(rave, clip, tmp_path, nearest_x2, size, flags, expected):
    """The clip is 64x48 with pixels of no said shape."""
    done = rave("upscale", clip(frames=2), tmp_path / "out.mp4", "-m", nearest_x2, "--size", size, *flags)
    assert done.status == 0, done.stderr
    width, height, ratio = size_of(tmp_path / "out.mp4")
    assert (width, height) == expected[:2]
    assert (ratio or 1) == (expected[2] or 1)


@pytest.mark.parametrize(
    ("ratio", "stage", "expected"),
    [
        (Fraction(16, 11), ResizeStage(width=1440, height=1152), (1440, 1152, Fraction(16, 11))),
        (Fraction(16, 11), ResizeStage(width=1048, height=576, square_pixels=True), (1048, 576, Fraction(1))),
        (Fraction(16, 11), ResizeStage(height=576, square_pixels=True), (1048, 576, Fraction(1))),
        (Fraction(16, 11), ResizeStage(height=1152), (1440, 1152, Fraction(16, 11))),
        (None, ResizeStage(width=361), (361, 288, None)),
    ],
)
def test_the_pixels_shape_is_what_the_picture_needs(clip, ratio, stage, expected):
    """720x576: with pixels of 16:11 it is shown as 16:9 and a little."""
    from rave_trio.media.probe import probe
    from rave_trio.steps import resized

    source = probe(clip(frames=1, width=720, height=576)).video.surface
    made = resized(attrs.evolve(source, sample_aspect_ratio=ratio), stage)
    assert (made.width, made.height, made.sample_aspect_ratio) == expected


def test_an_exact_size_without_a_model_is_a_graph_too(clip, tmp_path, reading):
    source = clip(frames=4, codec="ffv1", pixel_format="bgr0")
    report = run(source, tmp_path / "out.mkv", lossless(ResizeStage(width=96, height=40)))
    assert [stage.kind for stage in report.plan.stages] == ["resize"]
    for before, after in zip(reading.frames(source), reading.frames(report.output), strict=True):
        theirs = av.VideoFrame.from_ndarray(before, "rgb24").reformat(96, 40, "rgb24", interpolation="LANCZOS")
        assert reading.psnr(theirs.to_ndarray(), after) > 40


def test_the_smallest_model_that_reaches_a_size_is_taken(bunny, tmp_path):
    def names(size):
        plan, _ = rave_trio.make_plan(UpscaleOptions(bunny, tmp_path / "x.mkv", size=size))
        return [model.name for model in plan.models]

    assert names("640x360") == names("480x") == ["animevideo-x2"]
    assert names("642x") == names("x540") == ["animevideo-x3"]
    assert names("962x200") == names("4000x") == ["animevideo-x4"]


def test_a_size_that_an_encoder_cannot_take_is_refused_before_the_first_frame(rave, clip, tmp_path):
    refused = rave("upscale", clip(frames=2), tmp_path / "out.mkv", "--size", "101x51", "--json")
    assert refused.status == errors.OutputSizeUnsupported.exit_code
    assert "odd size 101x51" in refused.json["error"]["message"]
    assert "--size" in refused.json["error"]["remedy"]


@pytest.mark.parametrize("ending", ["json", "toml"])
def test_the_plain_command_is_the_graph_that_it_shows(rave, clip, tmp_path, nearest_x2, ending):
    flags = [
        "-m",
        nearest_x2,
        "-p",
        "fp32",
        "--size",
        "100x70",
        "--crf",
        20,
        "--preset",
        "fast",
        "--deinterlace",
        "off",
    ]
    source, file = clip(frames=3), tmp_path / f"graph.{ending}"
    shown = rave("graph", "show", source, "out.mkv", *flags, "--format", ending)
    assert shown.status == 0
    file.write_text(shown.stdout)
    assert rave("graph", "validate", file).status == 0
    contract = tmp_path / "contract.json"
    contract.write_text(json.dumps({"contract_schema_version": 1, "determinism_hash_frames": 3}))
    reports = [
        rave("upscale", source, tmp_path / f"{name}.mkv", *how, "--contract", contract, "--json").json["report"]
        for name, how in (("plain", flags), ("graph", ["--graph", file]))
    ]
    plain, by_graph = (report["plan"] for report in reports)
    assert plain["graph"] == by_graph["graph"]
    assert plain["output"]["encoder_options"] == by_graph["output"]["encoder_options"]
    assert reports[0]["contract"]["hashes"] == reports[1]["contract"]["hashes"]
    assert len(set(reports[0]["contract"]["hashes"])) == 3


@pytest.mark.parametrize("flags", [["--crf", "20"], ["-m", "animevideo-x2"], ["--size", "10x10"], ["--strict"]])
def test_what_a_graph_says_is_not_said_by_flags_too(rave, clip, tmp_path, flags):
    file = tmp_path / "graph.json"
    file.write_text(rave("graph", "show").stdout)
    refused = rave("upscale", clip(frames=1), tmp_path / "out.mkv", "--graph", file, *flags)
    assert refused.status == 2
    assert "there is a graph" in refused.stderr


def test_a_graph_that_is_wrong_is_refused_with_its_place_and_no_traceback(rave, clip, tmp_path):
    file = tmp_path / "graph.json"
    file.write_text('{"graph_schema_version": 1, "stages": [{"kind": "decode"}, {"kind": "enhance", "scale": "2"}]}')
    for command in (["graph", "validate", file], ["upscale", clip(frames=1), tmp_path / "o.mkv", "--graph", file]):
        refused = rave(*command)
        assert refused.status == 2
        assert "stages[1].scale must be a whole number, not '2'" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_model_that_is_not_there_is_told_with_its_stage(bunny, tmp_path, nearest_x2):
    graph = lossless(EnhanceStage(model=str(nearest_x2)), EnhanceStage(model="nobody"))
    with pytest.raises(errors.ModelUnknown, match=r"stages\[2\]: there is no model"):
        run(bunny, tmp_path / "out.mkv", graph)
    graph = lossless(EnhanceStage(model=str(nearest_x2), scale=4), EnhanceStage())
    with pytest.raises(errors.ModelScaleMismatch, match=r"stages\[1\]: .*not 4 times"):
        run(bunny, tmp_path / "out.mkv", graph)


def test_a_model_that_makes_grey_comes_last(clip, tmp_path, upscaler, reading):
    grey, colours = upscaler("grey", outputs=1), upscaler("colours")
    with pytest.raises(errors.ModelUnsupported, match=r"grey makes grey of colours.*stages\[2\]"):
        run(
            clip(frames=2),
            tmp_path / "x.mkv",
            lossless(EnhanceStage(model=str(grey)), EnhanceStage(model=str(colours))),
        )
    middle = EnhanceStage(model=str(colours)), EnhanceStage(model=str(grey)), ResizeStage(width=64)
    report = run(clip(frames=2), tmp_path / "out.mkv", lossless(*middle))
    assert all(np.ptp(picture, axis=2).max() <= 1 for picture in reading.frames(report.output))
