"""``rave-trio audit stress``: a table for people, one object for programs, and a status that says whether all holds."""

from __future__ import annotations

import pytest

from rave_trio.audit import stress


@pytest.fixture
def small(monkeypatch):
    """Frames of sizes that take no time."""
    defaults = {**stress.stress_test_synthetic.__kwdefaults__, "sizes": ((64, 32), (96, 64))}
    monkeypatch.setattr(stress.stress_test_synthetic, "__kwdefaults__", defaults)


def test_audit_stress_says_that_all_promises_hold_and_returns_0(rave, small):
    result = rave("audit", "stress", "--frames", "40")
    assert result.status == 0
    assert "frames    56 of 56 in 1 runs" in result.stdout
    assert result.stdout.endswith("result    all promises hold\n")
    assert result.stderr == ""


def test_audit_stress_prints_exactly_one_json_object(rave, small):
    document = rave("audit", "stress", "--frames", "4", "--json").json
    assert (document["command"], document["ok"]) == ("audit", True)
    assert (document["stress"]["passed"], document["stress"]["frames_encoded"]) == (True, 20)


def test_audit_stress_names_the_promise_that_does_not_hold_and_returns_1(rave, small, monkeypatch):
    monkeypatch.setattr(stress, "WANTED_HIT_RATE", 1.01)
    monkeypatch.setattr(stress, "ENOUGH_REQUESTS", 1)
    result = rave("audit", "stress", "--frames", "40")
    assert result.status == 1
    assert "failed    a hit rate of" in result.stdout
    assert "result    not all promises hold" in result.stdout
    document = rave("audit", "stress", "--frames", "40", "--json").json
    assert document["stress"]["passed"] is False
    assert len(document["stress"]["failures"]) == 1


def test_audit_stress_refuses_no_frames(rave):
    result = rave("audit", "stress", "--frames", "0")
    assert result.status == 2
    assert "at least one frame" in result.stderr


def test_audit_stress_heeds_its_variable(rave, small, monkeypatch):
    monkeypatch.setenv("RAVE_TRIO_FRAMES", "7")
    assert rave("audit", "stress", "--json").json["stress"]["frames_encoded"] == 23


def test_the_help_says_what_the_status_means(rave):
    said = " ".join(rave("audit", "stress", "--help").stdout.split())
    assert "The exit status is 0 if all of it holds, 1 if something does not" in said
    assert "or audit a promise that does not hold" in " ".join(rave("--help").stdout.split())


# upscale --audit


@pytest.fixture
def upscaling(rave, clip, nearest_x2, tmp_path):
    source = clip("in.mkv", frames=4)
    return lambda *more: rave(
        "upscale", source, tmp_path / "out.mkv", "-m", nearest_x2, "--device", "cpu", "--audit", *more
    )


@pytest.fixture
def forgetful(monkeypatch):
    """A run whose ledger is not at zero at its end."""
    from rave_trio import job
    from rave_trio.memory import Ledger

    def make(limit=None):
        ledger = Ledger(limit)
        made.append(ledger.enter("forgotten", 5))
        return ledger

    made = []
    monkeypatch.setattr(job, "Ledger", make)


def test_upscale_audit_shows_each_check_under_the_summary(upscaling):
    result = upscaling()
    assert result.status == 0
    lines = result.stdout.splitlines()
    assert "out.mkv: 4 frames" in lines[0]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["audit", name, "pass:"] for name in ("counts", "pool", "ledger", "copies")
    ]


def test_upscale_audit_is_part_of_the_json_report(upscaling):
    audit = upscaling("--json").json["report"]["audit"]
    assert audit["level"] == "pass"
    assert {"level", "code", "message", "figures"} <= audit["findings"][0].keys()


def test_an_audit_that_fails_has_a_status_of_its_own_and_the_film_stays(upscaling, forgetful, tmp_path):
    result = upscaling()
    assert result.status == 53
    assert "audit ledger  fail: not at zero after the run: forgotten 5 B" in result.stderr
    assert "out.mkv is complete, but its audit failed" in result.stderr
    assert (tmp_path / "out.mkv").exists()


def test_an_audit_that_fails_gives_its_report_with_the_error(upscaling, forgetful):
    document = upscaling("--json").json
    assert document["ok"] is False
    assert (document["error"]["kind"], document["error"]["code"]) == ("audit_failed", 601)
    assert document["error"]["report"]["audit"]["level"] == "fail"
    assert document["error"]["report"]["frames"] == 4
