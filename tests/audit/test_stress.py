"""The stress test passes on an engine that keeps its promises, and says which one is not kept."""

from __future__ import annotations

import attrs
import pytest
import trio

import rave_trio
from rave_trio import errors
from rave_trio.audit import StressReport, stress
from rave_trio.pipeline import UpscalePipeline
from rave_trio.testing import CountingEncoder, assert_nothing_left, holdings

SMALL = ((64, 32), (160, 90), (96, 64))


async def stressed(**how):
    with trio.fail_after(30):
        return await rave_trio.stress_test_synthetic(sizes=SMALL, **how)


async def test_the_engine_keeps_its_promises():
    before = holdings()
    report = await stressed(frames=350)
    assert_nothing_left(before)
    assert report.failures == ()
    assert report.passed
    assert report.runs == 4
    assert report.frames_decoded == report.frames_encoded == 350 + 4 * stress.WARM_UP
    assert report.requests > stress.ENOUGH_REQUESTS
    assert report.hit_rate >= 0.9
    assert 0 < report.peak <= report.limit
    assert report.evictions > 0, "one size has to make room for the next"
    assert report.fps > 0


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_overtakes_what_the_promises_hold(seed):
    assert (await stressed(frames=20, seed=seed)).passed


async def test_it_goes_on_for_as_long_as_it_is_told(monkeypatch):
    monkeypatch.setattr(stress, "BURST", 5)
    report = await stressed(seconds=0.2)
    assert report.passed
    assert report.seconds >= 0.2
    assert report.runs >= 1


async def test_a_report_is_plain_values():
    report = await stressed(frames=1)
    described = report.as_dict()
    assert (described["passed"], described["failures"], described["frames_decoded"]) == (True, [], 17)
    assert set(attrs.asdict(report)) < set(described)


GOOD = StressReport(
    runs=1,
    frames_decoded=10,
    frames_encoded=10,
    frames_wrong=0,
    requests=1000,
    hits=900,
    evictions=0,
    waits=0,
    limit=100,
    peak=100,
    memory_before=0,
    memory_after=0,
    live_leases=0,
    left=(),
    seconds=1.0,
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frames_encoded": 9}, "10 frames decoded, 9 encoded"),
        ({"frames_wrong": 1}, "1 frames out of order or not what they should be"),
        ({"hits": 890}, "a hit rate of 0.890, less than 0.90"),
        ({"peak": 101}, "a peak of 101 bytes, over the limit of 100"),
        ({"memory_after": 5}, "0 bytes before, 5 after"),
        ({"live_leases": 2}, "2 live leases"),
        ({"left": ("thread 'x'",)}, "left behind: thread 'x'"),
    ],
)
def test_each_promise_that_is_not_kept_is_told(change, said):
    assert GOOD.passed
    report = attrs.evolve(GOOD, **change)
    assert not report.passed
    assert report.failures == (said,)


def test_few_requests_say_nothing_about_a_hit_rate():
    assert attrs.evolve(GOOD, requests=10, hits=0).passed
    assert attrs.evolve(GOOD, requests=0, hits=0).hit_rate == 1


async def test_a_frame_that_is_not_what_it_should_be_is_seen(monkeypatch):
    write = CountingEncoder.write

    def spoiling(encoder, frame):
        if frame.index == 3:
            frame.surface.native[0, 0, 0] += 1
        write(encoder, frame)

    monkeypatch.setattr(CountingEncoder, "write", spoiling)
    assert (await stressed(frames=1)).failures == ("1 frames out of order or not what they should be",)


async def test_a_lease_that_is_not_given_back_is_seen(monkeypatch):
    kept = []
    run = UpscalePipeline.run

    async def keeping(pipeline, decoder, *parts, **how):
        kept.append(decoder._pool.lease(1))
        return await run(pipeline, decoder, *parts, **how)

    monkeypatch.setattr(UpscalePipeline, "run", keeping)
    report = await stressed(frames=1, limit=10**8)
    assert report.failures == ("0 bytes before, 4096 after", "1 live leases")
    kept.pop().close()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"frames": 1, "seconds": 1.0}, "exclude each other"),
        ({"frames": 0}, "at least one frame"),
        ({"seconds": 0.0}, "at least one frame"),
        ({"frames": 1, "warm_up": -1}, "at least one frame"),
        ({"frames": 1, "limit": 1000}, "more than the limit of 1000"),
    ],
)
async def test_what_makes_no_sense_is_refused(how, said):
    with pytest.raises(errors.UsageError, match=said):
        await stressed(**how)


async def test_a_cancelled_stress_test_leaves_nothing():
    before = holdings()
    with trio.move_on_after(0.05) as scope:
        await stressed(seconds=1000.0)
    assert scope.cancelled_caught
    assert_nothing_left(before)


async def test_an_error_of_the_engine_leaves_nothing(monkeypatch):
    def failing(encoder, frame):
        raise errors.DiskFull("no room")

    before = holdings()
    monkeypatch.setattr(CountingEncoder, "write", failing)
    with pytest.raises(errors.DiskFull):
        await stressed(frames=10)
    assert_nothing_left(before)
