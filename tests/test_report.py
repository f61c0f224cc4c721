"""The JSON of a report is as its published schema says, for runs of every kind."""

from __future__ import annotations

import json

import jsonschema
import pytest

import rave_trio
from rave_trio.report import SCHEMA, SCHEMA_VERSION

VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


def test_the_schema_is_a_schema_of_this_version():
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)
    assert VALIDATOR.schema["properties"]["schema_version"] == {"const": SCHEMA_VERSION}


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ({}, {}),
        ({"audio": True, "subtitle": "one", "chapters": True}, {"codec": "libx265", "vram_limit": "500MB"}),
        ({"width": 33, "height": 17, "pixel_format": "yuv444p"}, {"tile": 16, "precision": "fp32", "audit": True}),
    ],
)
def test_a_written_report_keeps_to_the_schema(clip, tmp_path, nearest_x2, what, options):
    path = tmp_path / "report.json"
    report = rave_trio.upscale_sync(clip(**what), tmp_path / "out.mkv", model=str(nearest_x2), report=path, **options)
    written = json.loads(path.read_text(), parse_constant=pytest.fail)
    VALIDATOR.validate(written)
    assert written["frames"] == report.frames == 8
    assert written == json.loads(json.dumps(report.as_dict(), default=str))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "out.mkv", "report.json"]


def test_the_commands_json_has_the_same_report(rave, clip, tmp_path, nearest_x2):
    VALIDATOR.validate(rave("upscale", clip(), tmp_path / "out.mkv", "-m", nearest_x2, "--json").json["report"])


def test_every_field_of_a_report_is_described(clip, tmp_path, nearest_x2):
    """A field that the schema does not know would never be checked."""
    report = rave_trio.upscale_sync(clip(), tmp_path / "out.mkv", model=str(nearest_x2), audit=True).as_dict()
    properties, definitions = VALIDATOR.schema["properties"], VALIDATOR.schema["$defs"]
    assert set(report) == set(properties)
    assert set(report["input"]) == set(properties["input"]["properties"])
    assert set(report["pool"]) == set(properties["pool"]["properties"])
    assert set(report["metrics"]["stages"][0]) == set(definitions["stage"]["properties"])
    assert set(report["fingerprint"]) == set(definitions["fingerprint"]["properties"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda report: report.pop("frames"),
        lambda report: report.update(schema_version=2),
        lambda report: report["metrics"]["stages"][0].pop("latency"),
        lambda report: report["fingerprint"].update(user="me"),
        lambda report: report["plan"]["carriage"][0].update(fate="lost"),
        lambda report: report["plan"].update(batch=0),
        lambda report: report["plan"].update(tuning={"speeds": [{"batch": 1}], "failure": None}),
    ],
)
def test_the_schema_refuses_what_is_wrong(clip, tmp_path, nearest_x2, spoil):
    report = rave_trio.upscale_sync(clip(frames=1), tmp_path / "out.mkv", model=str(nearest_x2)).as_dict()
    report = json.loads(json.dumps(report, default=str))
    VALIDATOR.validate(report)
    spoil(report)
    assert not VALIDATOR.is_valid(report)
