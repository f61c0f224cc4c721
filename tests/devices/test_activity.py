"""Counting copies, in memory that does not grow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rave_trio.devices.activity import Copy, CopyTally

copies = st.lists(
    st.tuples(
        st.builds(
            Copy,
            st.sampled_from(["HtoD", "DtoH", "DtoD"]),
            st.integers(0, 1 << 24),
            st.just("pinned"),
            st.just("device"),
            st.integers(0, 3),
        ),
        st.integers(1, 5),
    ),
    max_size=60,
)


@given(copies, st.integers(1, 8))
def test_no_copy_and_no_byte_is_forgotten_however_many_sizes_there_are(seen, most):
    tally = CopyTally(most)
    for copy, count in seen:
        tally.add(copy, count, 0.5)
    for kind in ("HtoD", "DtoH", "DtoD"):
        found = [total for copy, total in tally.copies.items() if copy.kind == kind]
        expected = [(copy.nbytes, count) for copy, count in seen if copy.kind == kind]
        assert sum(total.count for total in found) == sum(count for _, count in expected)
        assert sum(total.nbytes for total in found) == sum(nbytes * count for nbytes, count in expected)


@given(st.lists(st.integers(0, 1 << 40), max_size=300))
def test_kinds_of_copies_stay_few(sizes):
    tally = CopyTally(8)
    for nbytes in sizes:
        tally.add(Copy("DtoH", nbytes, "device", "pageable", 1), 1, 0.0)
    assert len(tally.copies) <= 8 + 41


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_a_large_copy_is_never_made_small(nbytes, least):
    tally = CopyTally(0)
    tally.add(Copy("DtoH", nbytes, "device", "pageable", 1), 1, 0.0)
    (counted,) = tally.copies
    assert nbytes < least or counted.nbytes >= least
