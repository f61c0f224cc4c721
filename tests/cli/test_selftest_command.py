"""``rave-trio selftest``: for people and as JSON."""

from __future__ import annotations

import pytest

from rave_trio.audit import selftest as room
from rave_trio.audit.selftest import Check, NotThereError


@pytest.fixture
def checks(monkeypatch):
    def set_to(**runs):
        monkeypatch.setattr(room, "all_checks", lambda: [Check(name, run) for name, run in runs.items()])

    return set_to


def lacks(_folder):
    raise NotThereError("there is no GPU")


def test_each_check_is_a_line_and_the_last_line_counts_them(rave, checks):
    checks(cpu=lambda folder: "24 frames", gpu=lacks)
    result = rave("selftest")
    assert result.status == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("cpu     pass: 24 frames")
    assert lines[1].startswith("gpu     not there: there is no GPU")
    assert lines[2] == "result  1 pass, 1 not there"
    assert result.stderr == ""


def test_a_failure_is_status_1(rave, checks):
    checks(cpu=lambda folder: 1 / 0)
    result = rave("selftest")
    assert result.status == 1
    assert "fail: ZeroDivisionError" in result.stdout


def test_as_json_it_is_one_object_in_the_usual_envelope(rave, checks):
    checks(cpu=lambda folder: "24 frames", gpu=lacks)
    document = rave("selftest", "--json").json
    assert (document["schema_version"], document["command"], document["ok"]) == (1, "selftest", True)
    assert document["selftest"]["passed"] is True
    assert [(each["name"], each["outcome"]) for each in document["selftest"]["results"]] == [
        ("cpu", "pass"),
        ("gpu", "not there"),
    ]


def test_on_a_machine_without_a_gpu_it_says_so(rave, monkeypatch):
    from rave_trio.audit import upscale_check
    from rave_trio.devices import nvidia

    monkeypatch.setattr(upscale_check, "upscale_on", lambda device, folder: "fine")
    monkeypatch.setattr(nvidia, "probe_nvidia", lambda: nvidia.Nvidia(problem="no NVIDIA driver is installed"))
    result = rave("selftest")
    assert result.status == 0
    assert "gpu     not there: no NVIDIA driver is installed" in result.stdout
