"""What a plan of faults says, and what a wrapped stage does about it."""

from __future__ import annotations

import threading

import pytest

from rave_trio.errors import DiskFull
from rave_trio.memory import HostPool, Ledger
from rave_trio.testing import CALLS, KINDS, Fault, FaultPlan, Planted, SyntheticDecoder, every_fault


@pytest.fixture
def decoder():
    return SyntheticDecoder(4, 16, 8, HostPool(Ledger()))


def read_all(decoder):
    frames = []
    while (frame := decoder.read()) is not None:
        frames.append(frame.index)
        frame.close()
    return frames


def test_a_plan_without_faults_changes_nothing(decoder):
    assert read_all(FaultPlan([]).around_decoder(decoder)) == [0, 1, 2, 3]


def test_a_fault_happens_at_its_frame_and_once(decoder):
    fault = Fault("decode", 2, "exception")
    plan = FaultPlan([fault])
    faulty = plan.around_decoder(decoder)
    for _ in range(2):
        faulty.read().close()
    with pytest.raises(Planted, match="planted in decode"):
        faulty.read()
    assert plan.happened == [fault]
    assert read_all(faulty) == [2, 3]


def test_the_same_fault_given_twice_happens_twice():
    plan = FaultPlan([Fault("publish", None, "disk_full")] * 2)
    publish = plan.around_publishing(lambda: "done")
    for _ in range(2):
        with pytest.raises(DiskFull):
            publish()
    assert publish() == "done"


def test_what_is_wrapped_can_still_be_asked_for_all_else(decoder):
    assert FaultPlan([]).around_decoder(decoder).frames == 4


def test_after_a_short_read_there_is_no_more_and_the_defect_is_told(decoder):
    faulty = FaultPlan([Fault("decode", 1, "short_read")]).around_decoder(decoder)
    assert read_all(faulty) == [0]
    assert faulty.read() is None
    assert faulty.exhausted
    assert "ends before frame 1" in str(faulty.defect)


def test_a_corrupt_picture_still_gives_back_its_memory(decoder):
    pool = decoder._pool
    frame = FaultPlan([Fault("decode", 0, "corrupt_size")]).around_decoder(decoder).read()
    assert frame.surface.descriptor.width == 18
    frame.close()
    assert pool.stats().leased == 0


def test_a_stalled_call_goes_on_when_the_plan_is_released(decoder):
    reached = threading.Event()
    plan = FaultPlan([Fault("decode", 0, "stall")], on_stall=reached.set)
    frames = []
    reader = threading.Thread(target=lambda: frames.extend(read_all(plan.around_decoder(decoder))))
    reader.start()
    reached.wait()
    assert frames == []
    plan.release()
    reader.join()
    assert frames == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("stage", "frame", "kind", "call"),
    [
        ("decode", 0, "exception", "read"),
        ("inference", 0, "exception", "submit"),
        ("inference", 0, "corrupt_size", "collect"),
        ("inference", None, "exception", "close"),
        ("encode", 0, "disk_full", "write"),
        ("encode", None, "disk_full", "finish"),
        ("publish", None, "disk_full", "publish"),
    ],
)
def test_a_fault_is_in_the_call_where_it_is_usual(stage, frame, kind, call):
    assert Fault(stage, frame, kind).call == call


@pytest.mark.parametrize(
    ("stage", "frame", "kind", "call"),
    [
        ("decoding", 0, "exception", "read"),
        ("decode", 0, "fire", "read"),
        ("encode", 0, "short_read", "write"),
        ("decode", 0, "exception", "write"),
        ("decode", None, "exception", "read"),
        ("publish", 0, "disk_full", "publish"),
    ],
)
def test_what_cannot_happen_is_refused(stage, frame, kind, call):
    with pytest.raises(ValueError, match=r"must be in|has no call|is about"):
        Fault(stage, frame, kind, call)


@pytest.mark.parametrize(("stage", "frame", "kind"), [("encode", 0, "short_read"), ("publish", 0, "disk_full")])
def test_a_kind_without_a_usual_call_is_refused(stage, frame, kind):
    with pytest.raises(ValueError, match="has no call nothing"):
        Fault(stage, frame, kind)


def test_every_fault_is_every_kind_in_every_call_that_it_can_happen_in():
    faults = list(every_fault([0, 5]))
    assert len(faults) == len(set(faults)) == len(set(map(str, faults)))
    assert {fault.kind for fault in faults} == set(KINDS)
    assert {(fault.stage, fault.call) for fault in faults} == {
        (s, call) for s, calls in CALLS.items() for call in calls
    }
    assert {fault.frame for fault in faults} == {0, 5, None}
