"""What is decided before anything runs."""

from __future__ import annotations

import re

import attrs
import pytest

import rave_trio
from rave_trio import choice, errors
from rave_trio import plan as planning
from rave_trio.devices import CpuDevice
from rave_trio.options import UpscaleOptions


@pytest.fixture
def plan_for(bunny, tmp_path, monkeypatch):
    """A plan for the sample on a host with the given cores and memory."""

    def make(cores=2, memory=16 << 30, **options):
        monkeypatch.setattr(choice, "detect_cpu", lambda: CpuDevice("a CPU", cores, memory))
        return planning.make_plan(UpscaleOptions(bunny, tmp_path / "out.mkv", **options))[0]

    return make


@pytest.mark.parametrize(("cores", "streams"), [(1, 1), (2, 2), (4, 2), (6, 3), (8, 2), (16, 4), (64, 16)])
def test_streams_grow_with_the_cores(plan_for, cores, streams):
    plan = plan_for(cores=cores)
    assert (plan.streams, plan.threads) == (streams, cores)


def test_with_less_memory_streams_are_given_up_before_tiles_are_made(plan_for):
    roomy = plan_for(cores=16)
    tight = plan_for(cores=16, memory=int(roomy.fit.memory * 1.2))
    assert tight.streams < roomy.streams
    assert tight.geometries == roomy.geometries
    tighter = plan_for(cores=16, memory=int(plan_for(cores=1).fit.memory * 1.6))
    assert tighter.streams == 1
    assert tighter.geometries[0].tiles > 1
    assert tighter.geometries[0].seamless


def test_a_tile_that_is_asked_for_is_used(plan_for):
    plan = plan_for(tile=160)
    (geometry,) = plan.geometries
    assert (geometry.tile_height, geometry.tile_width) == (160, 160)
    assert geometry.tiles == 6
    assert plan.depth == 2


def test_a_plan_is_plain_values_for_json(plan_for):
    import json

    document = json.loads(json.dumps(plan_for().as_dict(), default=str))
    assert document["precision"] in ("bf16", "fp32")
    assert document["flops_per_frame"] > 7e10  # 1.24 MFLOP for each of the sample's 57,600 pixels


def test_a_plan_is_frozen(plan_for):
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        plan_for().streams = 5


def test_a_large_untagged_result_is_written_as_players_will_read_it(clip, tmp_path):
    source = clip(frames=1, width=640, height=400)
    plan, _ = planning.make_plan(UpscaleOptions(source, tmp_path / "out.mkv"))
    assert any("untagged" in note for note in plan.notes)


def test_alpha_is_refused(clip, tmp_path):
    from rave_trio.errors import InputFormatUnsupported

    source = clip(frames=1, codec="ffv1", pixel_format="yuva420p")
    with pytest.raises(InputFormatUnsupported, match="alpha"):
        planning.make_plan(UpscaleOptions(source, tmp_path / "out.mkv"))


def test_a_host_that_is_too_small_is_said_so(plan_for):
    assert any("GB may be needed" in note for note in plan_for(memory=32 << 20).notes)
    assert plan_for().notes == ()


def test_a_memory_limit_is_kept_by_giving_up_streams_then_tiles(plan_for):
    free = plan_for()
    assert free.as_dict()["memory_limit"] is None
    tight = plan_for(vram_limit=free.fit.memory - 1)
    assert tight.fit.memory < free.fit.memory
    assert tight.streams < free.streams
    assert tight.geometries == free.geometries


def test_a_limit_that_is_too_small_is_refused_with_the_smallest_that_would_do(plan_for):
    with pytest.raises(errors.OutOfMemory, match="needs at least") as caught:
        plan_for(vram_limit="10MB")
    enough = re.search(r"--vram-limit (\d+MiB)", caught.value.remedy)[1]
    plan = plan_for(vram_limit=enough)
    assert plan.fit.memory <= plan.options.vram_limit
    with pytest.raises(errors.OutOfMemory):
        plan_for(vram_limit=plan.fit.memory - 1)


def test_a_run_stays_within_its_limit_and_gives_the_same_picture(clip, tmp_path, reading):
    source = clip(frames=6, width=160, height=96)
    free = rave_trio.upscale_sync(source, tmp_path / "free.mkv", codec="ffv1", precision="fp32")
    with pytest.raises(errors.OutOfMemory) as caught:
        rave_trio.upscale_sync(source, tmp_path / "x.mkv", codec="ffv1", precision="fp32", vram_limit="1MiB")
    least = re.search(r"--vram-limit (\d+MiB)", caught.value.remedy)[1]
    tight = rave_trio.upscale_sync(source, tmp_path / "tight.mkv", codec="ffv1", precision="fp32", vram_limit=least)
    assert tight.ledger.limit is not None
    assert tight.ledger.peak <= tight.ledger.limit
    assert tight.ledger.current == free.ledger.current == 0
    for a, b in zip(reading.frames(tmp_path / "free.mkv"), reading.frames(tmp_path / "tight.mkv"), strict=True):
        assert abs(a.astype(int) - b.astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("2GiB", 2 << 30), ("800MB", 800_000_000), ("1.5 GiB", 3 << 29), ("512k", 512_000), ("4096", 4096), (4096, 4096)],
)
def test_amounts_of_memory_are_understood(text, nbytes):
    assert rave_trio.UpscaleOptions("a", "b", vram_limit=text).vram_limit == nbytes


@pytest.mark.parametrize("text", ["", "much", "-1", "0", "2TiB", "GiB", 0.5])
def test_what_is_no_amount_of_memory_is_a_usage_error(text):
    with pytest.raises(errors.UsageError, match="no amount of memory"):
        rave_trio.UpscaleOptions("a", "b", vram_limit=text)


@pytest.mark.parametrize("seconds", [0, -1, "soon"])
def test_a_stall_timeout_is_a_positive_number(seconds):
    with pytest.raises(errors.UsageError, match="stall_timeout"):
        rave_trio.UpscaleOptions("a", "b", stall_timeout=seconds)


@pytest.mark.parametrize("times", [1, 2], ids=["one stream", "smaller tiles"])
@pytest.mark.parametrize("call", ["submit", "collect"])
def test_a_run_that_finds_too_little_memory_goes_on_with_less(
    clip, upscaler, tmp_path, reading, monkeypatch, call, times
):
    from rave_trio.inference.openvino_backend import OpenVinoBackend

    genuine, failed = getattr(OpenVinoBackend, call), []

    def scarce(backend, *frame):
        if len(failed) < times and len(backend._jobs) >= 2:
            failed.append(True)
            raise MemoryError("no memory in this test")
        return genuine(backend, *frame)

    def upscaled(name):
        return rave_trio.upscale_sync(source, tmp_path / name, model=str(model), codec="ffv1", precision="fp32")

    source, model = clip(frames=5, width=256, height=200), upscaler(layers=5)
    free = upscaled("free.mkv")
    monkeypatch.setattr(OpenVinoBackend, call, scarce)
    report = upscaled("out.mkv")
    assert len(failed) == times
    assert f"memory ran out {times} times: fewer at once or smaller tiles did with less" in report.notes
    assert (report.frames, report.pool.leased, report.ledger.current) == (5, 0, 0)
    for a, b in zip(reading.frames(free.output), reading.frames(report.output), strict=True):
        assert abs(a.astype(int) - b.astype(int)).max() <= 1
