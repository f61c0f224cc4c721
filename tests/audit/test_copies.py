"""The judgement of copies, on records made by hand."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_trio.audit.copies import ExpectedCopies, judge_copies
from rave_trio.audit.findings import Level
from rave_trio.devices.activity import Activity, Copy, CopyTally
from rave_trio.frames import ColorRange, ColorSpec, SurfaceDescriptor
from rave_trio.gpu.transfers import planned_copies
from rave_trio.media._libav import describe_format

WARM_UP = 4


def surface(name="yuv420p", width=64, height=48):
    return SurfaceDescriptor(width, height, describe_format(name), ColorSpec(1, 1, 1, ColorRange.LIMITED))


UP, DOWN = surface(), surface(width=128, height=96)
BOTH = ExpectedCopies(planned_copies(UP, DOWN), 32 * 24)
NONE = ExpectedCopies((), 32 * 24)


def tally(*copies):
    counted = CopyTally()
    for kind, nbytes, count in copies:
        up = kind == "HtoD"
        counted.add(
            Copy(kind, nbytes, "pinned" if up else "device", "device" if up else "pageable", 3), count, 0.001 * count
        )
    return counted.copies


def as_planned(expected, frames, *others):
    return tally(*((copy.direction, copy.nbytes, frames) for copy in expected.planned), *others)


def judge(expected, steady, frames=10, warm_up=None, lost=0):
    warm = as_planned(expected, WARM_UP) if warm_up is None else warm_up
    return judge_copies(expected, Activity(warm, steady, (), lost), frames, WARM_UP)


def test_a_software_decoder_has_one_copy_of_each_plane_and_a_software_encoder_one_of_all_with_the_gaps_between_rows():
    assert [(copy.direction, copy.nbytes, copy.stage) for copy in BOTH.planned] == [
        ("HtoD", 64 * 48, "preprocess"), ("HtoD", 32 * 24, "preprocess"), ("HtoD", 32 * 24, "preprocess"),
        ("DtoH", 256 * 96 + 256 * 48 + 256 * 47 + 64, "encode"),
    ]  # fmt: skip
    assert planned_copies(None, None) == ()


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("nv12", [64 * 48, 64 * 24]),
        ("p010le", [2 * 64 * 48, 2 * 64 * 24]),
        ("yuv444p10le", [2 * 64 * 48] * 3),
        ("gray", [64 * 48]),
    ],
)
def test_planes_have_the_bytes_of_their_samples(name, sizes):
    assert [copy.nbytes for copy in planned_copies(surface(name), None)] == sizes


@pytest.mark.parametrize("expected", [BOTH, NONE], ids=["software", "hardware"])
def test_what_is_planned_passes(expected):
    found = judge(expected, as_planned(expected, 6))
    assert (found.level, found.code) == (Level.PASS, "copies")


def test_frames_that_were_uploaded_ahead_count_in_the_warm_up():
    ups = as_planned(ExpectedCopies(planned_copies(UP, None), 1), 7)
    expected = ExpectedCopies(planned_copies(UP, None), 32 * 24)
    steady = as_planned(expected, 3)
    assert judge(expected, steady, warm_up=ups).level is Level.PASS


def test_a_frame_sized_copy_that_is_not_planned_fails_with_its_size_memory_and_stream():
    found = judge(NONE, tally(("DtoH", 5000, 6)))
    assert found.level is Level.FAIL
    assert found.message == (
        "frame-sized copies that are not in the plan, in 6 frames: 6 DtoH of 5000 B (pageable memory, CUDA stream 3)"
    )
    assert found.figures["unplanned"] == [{"direction": "DtoH", "nbytes": 5000, "count": 6}]


def test_a_planned_copy_that_is_made_twice_fails_in_its_stage():
    found = judge(BOTH, as_planned(BOTH, 6, ("DtoH", 128 * 96, 6)))
    assert (found.level, found.stage) == (Level.FAIL, "encode")
    assert found.figures["unplanned"] == [{"direction": "DtoH", "nbytes": 128 * 96, "count": 6}]


def test_one_copy_too_many_in_the_whole_run_fails():
    assert judge(BOTH, as_planned(BOTH, 6, ("DtoH", 128 * 96, 1))).level is Level.FAIL


def test_the_other_direction_is_not_excused_by_the_plan():
    only_up = ExpectedCopies(planned_copies(UP, None), 32 * 24)
    assert judge(only_up, as_planned(only_up, 6, ("DtoH", 64 * 48, 6))).level is Level.FAIL


def test_weights_are_loaded_before_the_steady_state():
    warm = as_planned(BOTH, WARM_UP, ("HtoD", 1 << 20, 40), ("HtoD", 64 * 48, 2))
    assert judge(BOTH, as_planned(BOTH, 6), warm_up=warm).level is Level.PASS


def test_parameters_are_counted_and_told_but_do_not_fail():
    found = judge(NONE, tally(("HtoD", 16, 12), ("DtoH", 4, 6)))
    assert found.level is Level.PASS
    assert found.figures["small"]["HtoD"]["count"] == 12
    assert found.figures["small"]["DtoH"]["nbytes"] == 24


def test_a_frame_in_small_pieces_is_a_warning():
    found = judge(NONE, tally(("DtoH", 64, 6 * 48)))
    assert found.level is Level.WARN
    assert "small DtoH copies add up to 3072 B a frame" in found.message


def test_copies_within_the_device_are_told_and_not_judged():
    found = judge(NONE, tally(("DtoD", 1 << 20, 60), ("PtoP", 1 << 20, 6)))
    assert found.level is Level.PASS
    assert found.figures["not_with_the_host"]["count"] == 66


def test_planned_copies_that_were_not_made_fail():
    found = judge(BOTH, as_planned(BOTH, 5))
    assert found.level is Level.FAIL
    assert "the plan has copies that were not made: 1 HtoD of 3072 B" in found.message


def test_lost_records_leave_the_question_open_unless_something_unplanned_was_seen():
    assert judge(BOTH, as_planned(BOTH, 5), lost=3).level is Level.WARN
    assert judge(NONE, tally(("DtoH", 5000, 1)), lost=3).level is Level.FAIL


@pytest.mark.parametrize("frames", [0, 1, WARM_UP])
def test_a_clip_that_is_all_warm_up_is_not_judged(frames):
    found = judge(NONE, {}, frames=frames, warm_up=tally(("DtoH", 5000, 4)))
    assert found.level is Level.WARN
    assert "too few to judge" in found.message


shapes = st.tuples(
    st.sampled_from(["yuv420p", "nv12", "p010le", "yuv444p", "gray"]), st.integers(2, 70), st.integers(2, 70)
)


@given(st.none() | shapes, st.none() | shapes, st.integers(1, 50), st.integers(0, 20), st.data())
def test_more_copies_than_were_made_ahead_always_fail_and_none_more_never_do(up, down, steady_frames, ahead, data):
    source, target = (None if shape is None else surface(*shape) for shape in (up, down))
    planned = planned_copies(source, target)
    expected = ExpectedCopies(planned, min([copy.nbytes for copy in planned] or [1]))
    ahead = min(ahead, steady_frames)
    warm = tally(*((c.direction, c.nbytes, WARM_UP + (ahead if c.direction == "HtoD" else 0)) for c in planned))
    steady = tally(*((c.direction, c.nbytes, steady_frames - (ahead if c.direction == "HtoD" else 0)) for c in planned))
    activity = Activity(warm, steady, ())
    assert judge_copies(expected, activity, WARM_UP + steady_frames, WARM_UP).level is Level.PASS
    more = data.draw(st.integers(expected.frame_sized, 1 << 16))
    way = data.draw(st.sampled_from(["HtoD", "DtoH"]))
    surplus = 1 + 3 * ahead  # a surface has three planes at most
    (copy,) = tally((way, more, surplus))
    counted = CopyTally()
    counted.copies.update(steady)
    counted.add(copy, surplus, 0.0)
    judged = judge_copies(expected, Activity(warm, counted.copies, ()), WARM_UP + steady_frames, WARM_UP)
    assert judged.level is Level.FAIL


def test_copies_of_frames_that_a_contract_has_hashed_are_no_surprise_and_no_more_than_those():
    hashed = Counter({("DtoH", 128 * 96): 8})
    expected = ExpectedCopies(BOTH.planned, BOTH.frame_sized, hashed)
    assert judge(expected, as_planned(BOTH, 6, ("DtoH", 128 * 96, 4))).level is Level.PASS
    assert judge(expected, as_planned(BOTH, 6, ("DtoH", 128 * 96, 9))).level is Level.FAIL
    assert judge(BOTH, as_planned(BOTH, 6, ("DtoH", 128 * 96, 4))).level is Level.FAIL
