"""Recording copies and allocations, on a stand-in with the binding's signatures."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cupti_standin import DTOD, DTOH, HTOD, PAGEABLE, CuptiStandIn, memcpy, memory

from rave_trio.devices import cupti
from rave_trio.devices.activity import Copy
from rave_trio.devices.cupti import CuptiUnavailable, Recorder


@pytest.fixture
def library():
    return CuptiStandIn()


@pytest.fixture
def recorder(library):
    made = Recorder(library)
    yield made
    made.stop()
    assert not library.enabled


def test_copies_are_counted_by_kind_size_memory_and_stream(library, recorder):
    recorder.start()
    library.happens(
        memcpy(HTOD, 100, 5), memcpy(HTOD, 100, 9), memcpy(DTOH, 70, 12, target=PAGEABLE), memcpy(DTOD, 5, 1)
    )
    recorder.stop()
    counts = {copy: (total.count, total.nbytes) for copy, total in recorder.activity.warm_up.items()}
    assert counts == {
        Copy("HtoD", 100, "pinned", "device", 7): (2, 200),
        Copy("DtoH", 70, "device", "pageable", 7): (1, 70),
        Copy("DtoD", 5, "device", "device", 7): (1, 5),
    }
    assert not recorder.activity.steady


def test_copies_that_begin_after_the_mark_are_the_steady_states(library, recorder):
    recorder.start()
    library.happens(memcpy(HTOD, 100, 5))
    recorder.mark()
    library.happens(memcpy(HTOD, 100, library.time))
    recorder.stop()
    assert [total.count for total in recorder.activity.warm_up.values()] == [1]
    assert [total.count for total in recorder.activity.steady.values()] == [1]


def test_a_batch_is_as_many_copies(library, recorder):
    recorder.start()
    library.happens(memcpy(HTOD, 300, 5, count=3))
    recorder.stop()
    ((copy, total),) = recorder.activity.warm_up.items()
    assert (copy.nbytes, total.count, total.nbytes) == (100, 3, 300)


def test_what_is_allocated_is_known_at_any_moment(library, recorder):
    recorder.start()
    library.happens(memory(1, 0xA, 100, 10), memory(1, 0xB, 50, 20), memory(2, 0xA, 100, 30), memory(1, 0xA, 7, 40))
    library.happens(memory(1, 0xC, 1000, 50, kind=PAGEABLE), memory(2, 0xD, 1, 60))
    recorder.stop()
    activity = recorder.activity
    assert [activity.held_at(at) for at in (5, 10, 25, 35, 60)] == [0, 100, 150, 50, 57]
    assert activity.held_at_the_end() == 57


def test_starting_and_stopping_twice_changes_nothing(library, recorder):
    recorder.start()
    recorder.start()
    library.happens(memcpy(HTOD, 100, 5))
    recorder.stop()
    recorder.stop()
    recorder.start()
    library.happens(memcpy(HTOD, 100, 50))
    recorder.stop()
    (total,) = recorder.activity.warm_up.values()
    assert total.count == 2


def test_one_recording_at_a_time(library, recorder):
    recorder.start()
    other = Recorder(CuptiStandIn())
    with pytest.raises(CuptiUnavailable, match="another recording is under way"):
        other.start()
    recorder.stop()
    other.start()
    other.stop()


def test_what_cannot_be_read_or_was_dropped_is_counted_as_lost(recorder, library):
    library.dropped = 3
    recorder.start()
    broken = memcpy(HTOD, 100, 5)
    del broken.start
    recorder.mark()
    library.happens(memcpy(HTOD, 100, 1), broken)
    recorder.stop()
    assert recorder.activity.lost == 4


def test_a_copy_of_which_cupti_does_not_know_when_it_was_is_counted_as_lost(recorder, library):
    recorder.start()
    recorder.mark()
    library.happens(memcpy(HTOD, 100, 0, took=0))
    recorder.stop()
    assert recorder.activity.lost == 1
    assert not recorder.activity.warm_up | recorder.activity.steady


def test_buffers_may_come_from_any_thread(library, recorder):
    recorder.start()
    records = [memcpy(HTOD, 100, 5)] * 1000
    threads = [threading.Thread(target=library.completed, args=(records,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.stop()
    (total,) = recorder.activity.warm_up.values()
    assert total.count == 8000


def test_a_buffer_that_comes_after_the_end_is_nobodys(library, recorder):
    recorder.start()
    recorder.stop()
    library.completed([memcpy(HTOD, 100, 5)])
    assert not recorder.activity.warm_up


@pytest.mark.parametrize("call", ["activity_register_callbacks", "activity_enable"])
def test_another_profiler_is_named(call):
    library = CuptiStandIn(refuses=call)
    with pytest.raises(CuptiUnavailable, match=r"^another profiler is attached to this process: run without it$"):
        Recorder(library).start()
    assert not library.enabled
    again = Recorder(CuptiStandIn())
    again.start()  # and nothing is left claimed
    again.stop()


def test_any_other_refusal_has_its_own_name():
    with pytest.raises(CuptiUnavailable, match="CUPTI refuses activity_enable: ERROR_INVALID_OPERATION"):
        Recorder(CuptiStandIn(refuses="activity_enable", status=7)).start()


def test_an_end_that_fails_makes_records_lost_and_raises_nothing(library):
    recorder = Recorder(library)
    recorder.start()
    library.refuses = "activity_flush_all"
    recorder.stop()
    assert recorder.activity.lost == 1


def test_a_recording_that_nobody_ended_ends_before_python_goes_away():
    script = (
        "from cupti_standin import CuptiStandIn\n"
        "from rave_trio.devices.cupti import Recorder\n"
        "class Telling(CuptiStandIn):\n"
        "    def activity_disable(self, kind):\n"
        "        print('disabled', kind, flush=True)\n"
        "Recorder(Telling()).start()\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent.parent / "shared"), *sys.path])
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    assert (ended.returncode, ended.stdout.splitlines()) == (0, ["disabled 1", "disabled 22", "disabled 49"])


def test_without_the_binding_there_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupti", None)
    with pytest.raises(CuptiUnavailable, match=r"not installed: pip install cupti-python$"):
        Recorder().start()


# The real binding, where it is installed; it can be loaded without a driver


@pytest.fixture
def binding():
    found = subprocess.run([sys.executable, "-c", "from cupti import cupti"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip("cupti-python is not installed")
    from cupti import cupti as module

    return module


def test_the_stand_in_has_the_bindings_signatures(binding):
    for name, stand_in in inspect.getmembers(CuptiStandIn, inspect.isfunction):
        if name.startswith(("activity_", "get_")):
            expected = list(inspect.signature(getattr(binding, name)).parameters)
            assert list(inspect.signature(stand_in).parameters)[1:] == expected, name
    assert binding.cuptiError(39).status == 39
    assert binding.Result(39).name == "ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED"


def test_numbers_are_those_of_the_binding(binding):
    kinds, memories = binding.ActivityMemcpyKind, binding.ActivityMemoryKind
    assert {name.upper(): number for number, name in cupti.KINDS.items()} == {
        kind.name: int(kind) for kind in kinds if kind.name not in ("UNKNOWN", "FORCE_INT")
    }
    assert all(memories(number).name.startswith(name.upper()) for number, name in cupti.MEMORIES.items())
    records = binding.ActivityKind
    assert [cupti.COPIES, cupti.PEER_COPIES, cupti.ALLOCATIONS] == [records.MEMCPY, records.MEMCPY2, records.MEMORY2]
    operations = binding.ActivityMemoryOperationType
    assert [cupti.ALLOCATED, cupti.RELEASED] == [operations.ALLOCATION, operations.RELEASE]


def test_the_bindings_own_records_are_read(binding, library, recorder):
    copy, peer, allocation = binding.ActivityMemcpy6(), binding.ActivityMemcpyPtoP4(), binding.ActivityMemory4()
    for record, values in (
        (copy, memcpy(HTOD, 100, 5)),
        (peer, memcpy(10, 70, 5, record=22)),
        (allocation, memory(1, 0xA, 9, 10)),
    ):
        for name, value in vars(values).items():
            if name != "copy_count" or record is copy:
                setattr(record, name, value)
    recorder.start()
    library.happens(copy, peer, allocation)
    recorder.stop()
    assert [(each.kind, each.nbytes) for each in recorder.activity.warm_up] == [("HtoD", 100), ("PtoP", 70)]
    assert recorder.activity.held_at_the_end() == 9
    assert recorder.activity.lost == 0


def test_without_a_driver_the_binding_is_refused_in_one_line(binding):
    try:
        recorder = Recorder()
        recorder.start()
    except CuptiUnavailable as error:
        assert "\n" not in str(error)
    else:
        recorder.stop()
