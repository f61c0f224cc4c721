"""The judgement of memory: the difference between NVML and the ledger, part by part."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rave_trio.audit.findings import Level
from rave_trio.audit.memory import MemorySample, judge_memory, parts_of
from rave_trio.devices.pool import DEVICE, SCRATCH

MIB = 1 << 20
LEDGER = {DEVICE: 400 * MIB, SCRATCH: 20 * MIB, "onnxruntime": 900 * MIB, "decoder, estimated": 70 * MIB}


def samples(*, context=300, steady=1500, end=310, own=True, others=5000, ledger=None):
    """In MiB."""

    def sample(moment, held, owners):
        mine = held * MIB
        return MemorySample(moment, mine + others * MIB, mine if own and held else None, owners)

    return {
        "before": sample("before", 0, {}),
        "context": sample("context", context, {}),
        "steady": sample("steady", steady, LEDGER if ledger is None else ledger),
        "end": sample("end", end, {}),
    }


def test_the_difference_is_taken_apart():
    moments = samples(steady=1400)
    parts = parts_of(moments["before"], moments["context"], moments["steady"], allocated=1000 * MIB)
    assert parts.context == 300 * MIB
    assert parts.libraries == (1000 - 420 - 900) * MIB  # the arena is entered at its limit
    assert parts.rest == (1400 - 300 - 1000 - 70) * MIB


def test_a_difference_within_the_tolerance_is_not_taken_apart_in_words():
    found = judge_memory(samples(steady=1400), allocated=1000 * MIB, left=0)
    assert (found.level, found.message) == (Level.PASS, "NVML 1400.0 MiB, ledger 1390.0 MiB")


def test_each_part_of_a_larger_one_is_named_with_its_size():
    found = judge_memory(samples(steady=1000), allocated=600 * MIB, left=0)
    assert found.level is Level.PASS
    assert found.message == (
        "NVML 1000.0 MiB, ledger 1390.0 MiB; the difference: CUDA's context 300.0 MiB, libraries' allocations less "
        "their entries -720.0 MiB, kernels' modules and video engines beyond the estimate 30.0 MiB"
    )


def test_memory_that_no_allocation_explains_is_a_warning():
    found = judge_memory(samples(steady=2000), allocated=1000 * MIB, left=0)
    assert found.level is Level.WARN
    assert "beyond the estimate 630.0 MiB" in found.message


def test_memory_that_is_not_given_back_is_a_warning():
    found = judge_memory(samples(steady=1400), allocated=1000 * MIB, left=3 * MIB)
    assert found.level is Level.WARN
    assert found.message.startswith("3.0 MiB were not given back at the end")


def test_where_nvml_does_not_know_the_process_the_growth_of_all_counts():
    mine, everybodys = (judge_memory(samples(own=own, steady=1400), 1000 * MIB, 0).figures for own in (True, False))
    for figure in ("held", "ledger", "parts", "kept_beside_the_context"):
        assert mine[figure] == everybodys[figure]


def test_a_moment_that_is_missing_is_named():
    moments = samples()
    del moments["steady"]
    found = judge_memory(moments, 0, 0)
    assert found.level is Level.WARN
    assert "no sample at steady" in found.message


sizes = st.integers(0, 1 << 40)


@given(sizes, sizes, sizes, st.dictionaries(st.sampled_from([*LEDGER, "another"]), sizes))
def test_the_parts_are_the_difference(context, steady, allocated, ledger):
    before = MemorySample("before", 7, None, {})
    made, later = MemorySample("context", 7 + context, context, {}), MemorySample("steady", 7 + steady, steady, ledger)
    parts = parts_of(before, made, later, allocated)
    assert parts.difference == later.held_since(before) - later.accounted
