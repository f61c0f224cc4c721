"""What is decided before anything runs."""

from __future__ import annotations

import attrs
import pytest

from rave_trio import plan as planning
from rave_trio.devices import CpuDevice
from rave_trio.options import UpscaleOptions


@pytest.fixture
def plan_for(bunny, tmp_path, monkeypatch):
    """A plan for the sample on a host with the given cores and memory."""

    def make(cores=2, memory=16 << 30, **options):
        monkeypatch.setattr(planning, "detect_cpu", lambda: CpuDevice("a CPU", cores, memory))
        return planning.make_plan(UpscaleOptions(bunny, tmp_path / "out.mkv", **options))[0]

    return make


@pytest.mark.parametrize(("cores", "streams"), [(1, 1), (2, 2), (4, 2), (6, 3), (8, 2), (16, 4), (64, 16)])
def test_streams_grow_with_the_cores(plan_for, cores, streams):
    plan = plan_for(cores=cores)
    assert (plan.streams, plan.threads) == (streams, cores)


def test_with_less_memory_streams_are_given_up_before_tiles_are_made(plan_for):
    roomy = plan_for(cores=16)
    tight = plan_for(cores=16, memory=int(roomy.memory * 1.2))
    assert tight.streams < roomy.streams
    assert tight.geometry == roomy.geometry
    tighter = plan_for(cores=16, memory=int(plan_for(cores=1).memory * 1.6))
    assert tighter.streams == 1
    assert tighter.geometry.tiles > 1
    assert tighter.geometry.seamless


def test_a_tile_that_is_asked_for_is_used(plan_for):
    plan = plan_for(tile=160)
    assert (plan.geometry.tile_height, plan.geometry.tile_width) == (160, 160)
    assert plan.geometry.tiles == 6
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
