"""Running one thing beside another: the work's result or the first error of either, never a group."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from rave_trio.pipeline import alongside


async def forever():
    await trio.sleep_forever()


async def returning():
    await trio.lowlevel.checkpoint()
    return "done"


async def failing():
    await trio.lowlevel.checkpoint()
    raise ValueError("boom")


async def test_the_result_is_the_work_s_and_the_companion_is_cancelled():
    ended = []

    async def companion():
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            ended.append("cancelled")
            raise

    assert await alongside(returning, companion) == "done"
    assert ended == ["cancelled"]


async def test_a_companion_that_ends_early_does_not_end_the_work():
    ended = trio.Event()

    async def companion():
        ended.set()

    async def work():
        await ended.wait()
        await trio.testing.wait_all_tasks_blocked()
        return "done"

    assert await alongside(work, companion) == "done"


async def test_an_error_of_the_work_comes_out_bare():
    with pytest.raises(ValueError, match="boom") as caught:
        await alongside(failing, forever)
    assert not hasattr(caught.value, "__notes__")


async def test_an_error_of_the_companion_cancels_the_work_and_comes_out_bare():
    ended = []

    async def work():
        try:
            await trio.sleep_forever()
        finally:
            ended.append("cancelled")

    with pytest.raises(ValueError, match="boom"):
        await alongside(work, failing)
    assert ended == ["cancelled"]


async def test_an_error_group_of_the_work_stays_as_it_was():
    async def work():
        raise ExceptionGroup("mine", [ValueError("a"), ValueError("b")])

    with pytest.raises(ExceptionGroup, match="mine") as caught:
        await alongside(work, forever)
    assert [str(error) for error in caught.value.exceptions] == ["a", "b"]


async def test_the_later_error_becomes_a_note_of_the_first():
    async def companion():
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("later")

    with pytest.raises(ValueError, match="boom") as caught:
        await alongside(failing, companion)
    assert caught.value.__notes__ == ["then: OSError('later')"]


async def test_an_error_of_the_work_after_the_companion_s_becomes_a_note():
    async def work():
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("later")

    with pytest.raises(ValueError, match="boom") as caught:
        await alongside(work, failing)
    assert caught.value.__notes__ == ["then: OSError('later')"]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_of_either_comes_out_bare(interrupt):
    async def interrupted():
        await trio.lowlevel.checkpoint()
        raise interrupt

    with pytest.raises(interrupt):
        await alongside(interrupted, forever)
    with pytest.raises(interrupt):
        await alongside(forever, interrupted)


async def test_an_interrupt_is_not_hidden_by_an_earlier_error():
    async def companion():
        try:
            await trio.sleep_forever()
        finally:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        await alongside(failing, companion)
    assert caught.value.__notes__ == ["then: ValueError('boom')"]


async def test_cancellation_from_outside_reaches_both():
    ended = []

    async def waiting(name):
        try:
            await trio.sleep_forever()
        finally:
            ended.append(name)

    with trio.CancelScope() as scope:
        scope.cancel()
        await alongside(lambda: waiting("work"), lambda: waiting("companion"))

    assert scope.cancelled_caught
    assert sorted(ended) == ["companion", "work"]


async def test_an_error_under_cancellation_from_outside_is_raised():
    async def work():
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"), trio.CancelScope() as scope:
        scope.cancel()
        await alongside(work, forever)


async def test_an_error_s_own_cause_and_context_stay():
    async def work():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("boom") from error

    with pytest.raises(ValueError, match="boom") as caught:
        await alongside(work, forever)
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__context__ is caught.value.__cause__
