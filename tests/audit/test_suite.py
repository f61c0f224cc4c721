"""The suite: what is checked in real jobs, and that a fault in them is told."""

from __future__ import annotations

import functools
import itertools
import threading

import attrs
import pytest

from rave_trio import errors, job
from rave_trio.assembly import HostAssembly
from rave_trio.audit import suite
from rave_trio.audit.findings import AuditFinding, AuditReport, Level

CODES = [
    *("counts", "pool", "ledger", "copies", "channels", "determinism", "leaks", "growth"),
    *("allocations", "overlap", "stress"),
]

FOUR, THREE = suite.Clip(4, 32, 24), suite.Clip(3, 32, 24)
SMALL = suite.Extent(runs=3, stressed=10, steady=FOUR, short=THREE, large=FOUR)


@pytest.fixture
def small(monkeypatch):
    """A suite that takes little time: too little to judge some of it."""
    monkeypatch.setattr(suite, "QUICK", SMALL)
    monkeypatch.setattr(suite, "balanced_run", functools.partial(suite.balanced_run, 40))


@pytest.fixture
def light(small, monkeypatch, nearest_x2):
    """Jobs with a model that takes no time either."""
    monkeypatch.setattr(suite, "upscale", functools.partial(job.upscale, model=str(nearest_x2)))


@pytest.fixture
def audit(light):
    async def run(source=None):
        report = await suite.audit_engine(source, device="cpu", quick=True)
        return {finding.code: finding for finding in report.findings}

    return run


async def test_every_check_has_its_finding_and_what_is_too_short_to_judge_is_a_warning(audit):
    found = await audit()
    assert list(found) == CODES
    unjudged = {code for code, finding in found.items() if finding.level is Level.WARN}
    assert unjudged == {"pool", "growth", "allocations"}
    assert all(found[code].level is Level.PASS for code in CODES if code not in unjudged)
    assert found["counts"].figures["published"] == 4
    assert found["determinism"].figures["runs"] == 3


async def test_the_jobs_can_be_on_a_video_of_ones_own(audit, clip):
    source = clip("mine.mp4", frames=5)
    before = source.read_bytes()
    assert (await audit(source))["counts"].figures["published"] == 5
    assert source.read_bytes() == before
    assert [path.name for path in source.parent.iterdir()] == ["mine.mp4"]


async def test_an_input_that_is_not_there_is_an_error(audit, tmp_path):
    with pytest.raises(errors.InputNotFound):
        await audit(tmp_path / "none.mkv")


async def test_frames_that_come_out_otherwise_fail_determinism(audit, monkeypatch):
    numbers = itertools.count()
    monkeypatch.setattr(HostAssembly, "hash_of", lambda _assembly, _surface: str(next(numbers)))
    found = (await audit())["determinism"]
    assert (found.level, found.message) == (
        Level.FAIL,
        "run 2 differs from the first in 3 of 3 frames, from frame 0 on",
    )


async def test_a_thread_that_stays_fails_leaks(audit, monkeypatch):
    release, started = threading.Event(), []
    genuine = HostAssembly.encoder

    def leaky(assembly, parts):
        started.append(threading.Thread(target=release.wait, name="forgotten", daemon=True))
        started[-1].start()
        return genuine(assembly, parts)

    monkeypatch.setattr(HostAssembly, "encoder", leaky)
    monkeypatch.setattr("rave_trio.testing.leaks.ENDING", 0.0)
    try:
        found = (await audit())["leaks"]
    finally:
        release.set()
        for thread in started:
            thread.join()
    assert found.level is Level.FAIL
    assert "thread 'forgotten'" in found.message


async def test_a_ledger_that_is_not_at_zero_fails_and_the_suite_goes_on(audit, monkeypatch):
    from rave_trio.memory import Ledger

    def make(limit=None):
        made = Ledger(limit)
        kept.append(made.enter("forgotten", 5))
        return made

    kept = []
    monkeypatch.setattr(job, "Ledger", make)
    found = await audit()
    assert (found["ledger"].level, found["leaks"].level) == (Level.FAIL, Level.FAIL)
    assert list(found) == CODES


async def test_a_gpu_whose_copies_cannot_be_recorded_is_audited_without(audit, monkeypatch):
    async def run(*arguments, audit=False, **options):
        if audit:
            raise errors.AuditUnavailable("cupti-python is missing")
        return await genuine(*arguments, **options)

    genuine = suite.upscale
    monkeypatch.setattr(suite, "upscale", run)
    found = await audit()
    assert (found["copies"].level, found["copies"].message) == (
        Level.WARN,
        "not judged: cupti-python is missing",
    )
    assert found["channels"].level is Level.PASS


async def test_a_stress_test_that_fails_is_a_failure(audit, monkeypatch):
    async def stress(**how):
        return attrs.evolve(await genuine(**how), live_leases=3)

    genuine = suite.stress_test_synthetic
    monkeypatch.setattr(suite, "stress_test_synthetic", stress)
    assert (await audit())["stress"].message == "3 live leases"


# The command


@pytest.fixture
def finding(monkeypatch):
    """Have the suite find one thing."""

    def make(level):
        async def found(*_arguments, **_how):
            return AuditReport((AuditFinding(level, "overlap", "as planted", "encode"),))

        monkeypatch.setattr(suite, "audit_engine", found)

    return make


@pytest.mark.parametrize(
    ("level", "flags", "status"),
    [
        (Level.PASS, [], 0),
        (Level.PASS, ["--fail-on-warn"], 0),
        (Level.WARN, [], 0),
        (Level.WARN, ["--fail-on-warn"], 1),
        (Level.FAIL, [], 1),
    ],
)
def test_the_status_goes_by_the_worst_finding(rave, finding, level, flags, status):
    finding(level)
    result = rave("audit", *flags)
    assert result.status == status
    assert result.stdout == f"overlap  {level}: as planted\nresult   1 {level}\n"


def test_the_command_runs_the_jobs_and_prints_one_object(rave, small, clip):
    result = rave("audit", clip(frames=3), "--quick", "--device", "cpu", "--json")
    assert (result.status, result.stderr) == (0, "")
    assert (result.json["command"], result.json["ok"], result.json["audit"]["level"]) == ("audit", True, "warn")
    assert [each["code"] for each in result.json["audit"]["findings"]] == CODES


def test_the_command_tells_what_it_is_at(rave, light):
    told = rave("audit", "--quick", "--device", "cpu").stderr
    assert "rave-trio: audit: 3 runs of one job ...\n" in told


def test_a_device_that_is_not_there_has_its_own_status(rave):
    assert rave("audit", "--device", "abacus").status == errors.DeviceUnknown.exit_code
