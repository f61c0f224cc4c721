"""Fixtures as documents: what they may say, and what is refused with its place."""

from __future__ import annotations

import tomllib

import jsonschema
import pytest

from rave_trio import errors
from rave_trio.validation import read_fixture, updated
from rave_trio.validation.fixture import HASHED, OPTIONS, Hashes, fixture_from, fixture_schema

WHOLE = """\
# by hand
fixture_schema_version = 1
input = "in.mkv"
frames = 6
max_memory = "1GiB"  # enough

[options]
crf = 20
"""

ENTRY = {"device": "a chip", "backend": "openvino", "precision": "fp32", "frames": ["aa", "bb"]}


def made(frames=("cc", "dd"), device="a chip"):
    return Hashes(device=device, backend="openvino", precision="fp32", frames=frames)


def test_a_fixture_is_read_with_its_folder(tmp_path):
    (tmp_path / "a.toml").write_text(WHOLE)
    found = read_fixture(tmp_path / "a.toml")
    assert (found.source, found.frames, found.memory_limit) == (tmp_path / "in.mkv", 6, 1 << 30)
    assert (found.options, found.hashes, found.hashing) == ({"crf": 20}, (), HASHED)


def test_as_many_frames_are_hashed_as_there_are_hashes_or_as_are_asked_for(tmp_path):
    document = {"fixture_schema_version": 1, "input": "in.mkv", "hashes": [ENTRY]}
    assert fixture_from(document, tmp_path).hashing == 2
    assert fixture_from({**document, "hashed_frames": 5}, tmp_path).hashing == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fixture_schema_version": 2}, "fixture_schema_version is 2"),
        ({"fixture_schema_version": True}, "fixture_schema_version is True"),
        ({"inptu": "x"}, "inptu is unknown"),
        ({"input": None}, "input must be text"),
        ({"frames": 0}, "frames must be at least 1"),
        ({"max_memory": "much"}, "max_memory must be an amount of memory"),
        ({"max_seconds": "1"}, "max_seconds must be a number above 0"),
        ({"options": []}, "options must be a table"),
        ({"options": {"output": "x"}}, "options.output is unknown"),
        ({"options": {"strict": 1}}, "options.strict must be true or false"),
        ({"options": {"device": 1}}, "options.device must be text"),
        ({"options": {"crf": [1]}}, "options.crf must be one value"),
        ({"hashes": {}}, "hashes a list"),
        ({"hashes": ["x"]}, r"hashes\[0\] must be a table"),
        ({"hashes": [{"device": "a"}]}, r"hashes\[0\] is not whole"),
        ({"hashes": [{**ENTRY, "frames": "aa"}]}, r"hashes\[0\].frames must be a list of texts"),
        ({"hashes": [ENTRY, ENTRY]}, "hashes has two of one device"),
    ],
)
def test_a_fixture_that_makes_no_sense_is_refused_with_the_place(tmp_path, change, said):
    with pytest.raises(errors.GraphError, match=said) as caught:
        fixture_from({"fixture_schema_version": 1, "input": "in.mkv", **change}, tmp_path)
    assert caught.value.remedy


def test_a_fixture_without_an_input_is_refused(tmp_path):
    with pytest.raises(errors.GraphError, match="input is missing"):
        fixture_from({"fixture_schema_version": 1}, tmp_path)


@pytest.mark.parametrize("text", ["input =", "[1]", None])
def test_a_file_that_is_no_fixture_is_a_usage_error_that_names_it(tmp_path, text):
    if text is not None:
        (tmp_path / "a.toml").write_text(text)
    with pytest.raises(errors.UsageError, match=r"a\.toml"):
        read_fixture(tmp_path / "a.toml")


def test_the_schema_takes_what_we_take():
    valid = jsonschema.Draft202012Validator(fixture_schema()).is_valid
    document = {**tomllib.loads(WHOLE), "hashes": [ENTRY]}
    assert valid(document)
    assert not valid({**document, "inptu": "x"})
    assert not valid({**document, "hashes": [{**ENTRY, "device": 5}]})
    assert not valid({**document, "options": {"output": "x"}})
    assert {"crf", "device", "precision"} <= set(OPTIONS)


# Updating


def test_an_update_adds_hashes_and_keeps_what_was_written_by_hand():
    text = updated(WHOLE, made())
    assert text.startswith(WHOLE.rstrip())
    assert tomllib.loads(text)["hashes"] == [{**ENTRY, "frames": ["cc", "dd"]}]


def test_an_update_replaces_those_of_this_machine_and_leaves_others():
    text = updated(updated(updated(WHOLE, made()), made(("ee",), "another")), made(("ff",)))
    assert [(each["device"], each["frames"]) for each in tomllib.loads(text)["hashes"]] == [
        ("a chip", ["ff"]),
        ("another", ["ee"]),
    ]
    assert updated(text, made(("ff",))) == text


def test_an_update_that_would_lose_something_is_refused():
    text = updated(WHOLE.partition("[options]")[0], made()) + "\n[options]\ncrf = 20\n"
    with pytest.raises(errors.UsageError, match="something else comes after the hashes"):
        updated(text, made())


def test_names_with_quotes_survive_an_update():
    name = 'a "chip" \\ ü'
    assert tomllib.loads(updated(WHOLE, made(device=name)))["hashes"][0]["device"] == name
