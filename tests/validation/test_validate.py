"""``rave-trio validate``: fixtures are run, and what comes of them is held against what they say."""

from __future__ import annotations

import tomllib

import attrs
import pytest

from rave_trio import errors
from rave_trio.audit.findings import Level
from rave_trio.validation import Fixture, Outcome, judge, read_fixture
from rave_trio.validation.fixture import Hashes

HERE = Hashes(device="a chip", backend="openvino", precision="fp32", frames=("aa", "bb"))
FIXTURE = Fixture(input="in.mkv", frames=6, hashes=(HERE,))
LATENCIES = {"inference_p95_ms": 1.0, "inference_ms": 2.0, "frame_p95_ms": 3.0, "frame_ms": 4.0}
OUTCOME = Outcome(HERE, 6, 1.5, 1000, LATENCIES)


def levels(fixture, outcome):
    return {finding.code: finding.level for finding in judge(fixture, outcome)}


def test_what_is_as_expected_passes_and_what_is_not_spoken_of_is_not_judged():
    assert levels(FIXTURE, OUTCOME) == {"frames": Level.PASS, "hashes": Level.PASS}


def test_another_number_of_frames_fails():
    assert levels(FIXTURE, attrs.evolve(OUTCOME, frames=5))["frames"] is Level.FAIL


def test_another_frame_fails_with_its_number():
    other = attrs.evolve(OUTCOME, hashes=attrs.evolve(HERE, frames=("aa", "xx")))
    (found,) = [each for each in judge(FIXTURE, other) if each.code == "hashes"]
    assert found.level is Level.FAIL
    assert found.message.startswith("1 of 2 frames are others, from frame 1 on")


def test_fewer_hashes_than_expected_fail():
    fewer = attrs.evolve(OUTCOME, hashes=attrs.evolve(HERE, frames=("aa",)))
    assert levels(FIXTURE, fewer)["hashes"] is Level.FAIL


@pytest.mark.parametrize("change", [{"device": "b"}, {"backend": "compact"}, {"precision": "fp16"}])
def test_hashes_of_another_device_backend_or_precision_are_not_comparable(change):
    elsewhere = attrs.evolve(OUTCOME, hashes=attrs.evolve(HERE, frames=("xx", "yy"), **change))
    (found,) = [each for each in judge(FIXTURE, elsewhere) if each.code == "hashes"]
    assert found.level is Level.WARN
    assert found.message.startswith("not comparable: there are hashes of a chip, openvino, fp32; this is ")


@pytest.mark.parametrize(
    ("limit", "code", "most"),
    [
        ("max_seconds", "seconds", 1.5),
        ("max_memory", "memory", 1000),
        *((f"max_{name}", name, most) for name, most in LATENCIES.items()),
    ],
)
def test_a_limit_holds_up_to_itself_and_fails_beyond(limit, code, most):
    assert levels(attrs.evolve(FIXTURE, **{limit: most}), OUTCOME)[code] is Level.PASS
    assert levels(attrs.evolve(FIXTURE, **{limit: most * 9 // 10 or 0.9}), OUTCOME)[code] is Level.FAIL


# The command


@pytest.fixture
def fixture(clip, nearest_x2, tmp_path):
    """A fixture's file for a clip of six frames, with further lines."""
    clip("in.mkv", frames=6)

    def write(*lines, model=nearest_x2, name="a.toml"):
        head = ["fixture_schema_version = 1", 'input = "in.mkv"', f'model = "{model}"', "hashed_frames = 4"]
        tables = ["[options]", 'device = "cpu"', 'precision = "fp32"']
        path = tmp_path / name
        path.write_text("\n".join([*head, *lines, *tables]) + "\n")
        return path

    return write


def test_without_hashes_a_fixture_holds_with_a_warning_that_can_be_made_to_fail(rave, fixture):
    path = fixture("frames = 6")
    result = rave("validate", path)
    assert result.status == 0
    assert "hashes  warn: there are none to compare with" in result.stdout
    assert rave("validate", path, "--fail-on-warn").status == 1


def test_an_updated_fixture_holds_and_says_where(rave, fixture):
    path = fixture("frames = 6")
    updated = rave("validate", path, "--update", "--json")
    assert updated.status == 0
    (found,) = updated.json["validation"]["fixtures"]
    assert (found["written"], found["level"], found["passed"]) == (True, "pass", True)
    (entry,) = read_fixture(path).hashes
    assert (entry.backend, entry.precision, len(entry.frames)) == ("openvino", "fp32", 4)
    again = rave("validate", path, "--fail-on-warn")
    assert again.status == 0
    assert f"4 frames are the same, on {entry.device}, openvino, fp32" in again.stdout


def test_a_job_that_gives_other_frames_fails(rave, fixture):
    path = fixture()
    rave("validate", path, "--update")
    path.write_text(path.read_text().replace("[options]", '[options]\npixel_format = "yuv444p"'))
    result = rave("validate", path)
    assert result.status == 1
    assert "hashes  fail: 4 of 4 frames are others, from frame 0 on" in result.stdout
    assert "does not hold" in result.stdout


def test_a_wrong_count_and_a_broken_limit_fail_by_name(rave, fixture):
    document = rave("validate", fixture("frames = 7", 'max_memory = "1KB"'), "--json")
    assert document.status == 1
    findings = document.json["validation"]["fixtures"][0]["findings"]
    assert {each["code"] for each in findings if each["level"] == "fail"} == {"frames", "memory"}


def test_a_run_that_fails_is_a_finding_and_the_others_are_run(rave, fixture, tmp_path):
    good, bad = fixture("frames = 6"), fixture(model="none", name="b.toml")
    document = rave("validate", bad, good, "--json")
    assert document.status == 1
    failed, held = document.json["validation"]["fixtures"]
    assert (failed["findings"][0]["code"], failed["findings"][0]["figures"]["kind"]) == ("run", "model_unknown")
    assert (failed["outcome"], held["passed"]) == (None, True)


def test_nothing_is_run_if_one_fixture_makes_no_sense(rave, fixture, tmp_path):
    (tmp_path / "b.toml").write_text("fixture_schema_version = 1\n")
    result = rave("validate", fixture(), tmp_path / "b.toml", "--update")
    assert result.status == errors.UsageError.exit_code
    assert "b.toml: input is missing" in result.stderr
    assert not read_fixture(fixture()).hashes


def test_a_graph_and_a_model_are_found_from_the_fixtures_folder(rave, fixture, tmp_path, nearest_x2, monkeypatch):
    (tmp_path / "near.onnx").write_bytes(nearest_x2.read_bytes())
    assert rave("validate", fixture(model="near.onnx")).status == 0
    graph = ["graph_schema_version = 1", '[[stages]]\nkind = "decode"', '[[stages]]\nkind = "enhance"']
    graph += ['model = "near.onnx"', '[[stages]]\nkind = "encode"']
    (tmp_path / "g.toml").write_text("\n".join(graph))
    path = tmp_path / "c.toml"
    path.write_text('fixture_schema_version = 1\ninput = "in.mkv"\ngraph = "g.toml"\nframes = 6\n')
    result = rave("validate", path, "--device", "cpu")
    assert result.status == 0, result.stdout


def test_a_fixture_leaves_nothing_beside_its_input(rave, fixture, tmp_path):
    path = fixture()
    rave("validate", path, "--update")
    assert {each.name for each in tmp_path.iterdir()} == {"in.mkv", "a.toml"}


def test_json_is_not_updated(rave, fixture, tmp_path):
    import json

    path = tmp_path / "a.json"
    path.write_text(json.dumps(tomllib.loads(fixture().read_text())))
    assert rave("validate", path).status == 0
    result = rave("validate", path, "--update")
    assert (result.status, "only TOML is updated" in result.stderr) == (2, True)
