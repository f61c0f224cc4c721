"""Graphs as JSON and TOML: what is read, what is written, and where in a document something is wrong."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rave_trio import errors
from rave_trio.contract import contract_from
from rave_trio.graph import (
    DecodeStage,
    DeinterlaceStage,
    EncodeStage,
    EnhanceStage,
    ResizeStage,
    StageGraph,
    as_json,
    as_toml,
    graph_from,
    read_graph,
)

ROOT = Path(__file__).resolve().parents[2]

EVERYTHING = StageGraph(
    [
        DecodeStage(video_stream=1, frame_rate="24000/1001", background="#00ff00", strict=True),
        DeinterlaceStage(mode="bwdif"),
        EnhanceStage(model='a "quoted" name \\ é', scale=1, precision="fp32", tile=128),
        EnhanceStage(scale=2),
        ResizeStage(width=1920, square_pixels=False),
        EncodeStage(codec="libx265", crf=0, preset="slow", effort="fast", pixel_format="yuv420p10le"),
    ]
)


def document(*stages: dict, version: object = 1) -> dict:
    """A graph of these stages, between a decode and an encode."""
    return {"graph_schema_version": version, "stages": [{"kind": "decode"}, *stages, {"kind": "encode"}]}


@pytest.mark.parametrize(("name", "text"), [("g.json", as_json(EVERYTHING)), ("g.toml", as_toml(EVERYTHING))])
def test_a_graph_that_is_written_is_read_as_the_same_graph(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_graph(tmp_path / name) == EVERYTHING


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"kind": "enhance", "scale": "two"}], r"stages\[1\].scale must be a whole number, not 'two'"),
        ([{"kind": "enhance"}, {"kind": "enhance", "scale": 0}], r"stages\[2\].scale must be at least 1"),
        ([{"kind": "enhance", "sale": 2}], r"stages\[1\].sale is unknown"),
        ([{"kind": "sharpen"}], r"stages\[1\].kind is 'sharpen'"),
        ([{"scale": 2}], r"stages\[1\].kind is missing"),
        ([{"kind": ["enhance"]}], r"stages\[1\].kind is \['enhance'\]"),
        (["enhance"], r"stages\[1\] must be an object, not 'enhance'"),
        ([{"kind": "resize"}], r"stages\[1\] resizes to no size"),
        ([{"kind": "enhance", "model": None}], r"stages\[1\].model must be text, not None"),
        ([{"kind": "enhance", "model": ["x"]}], r"stages\[1\].model must be text"),
        ([{"kind": "resize", "width": 10.5}], r"stages\[1\].width must be a whole number, not 10.5"),
    ],
)
def test_what_is_wrong_in_a_document_is_told_with_its_path(stages, said):
    with pytest.raises(errors.GraphError, match=said) as caught:
        graph_from(document(*stages))
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "graph_schema_version is missing"),
        ({"graph_schema_version": 1}, "stages is missing"),
        ({"graph_schema_version": 1, "stages": {}}, "stages must be a list"),
        ({"graph_schema_version": 1, "stages": [], "stage": []}, "stage is unknown"),
        (document({"kind": "enhance"}, version=7), "graph_schema_version is 7"),
        (document({"kind": "enhance"}, version="1"), "graph_schema_version is '1'"),
        (document({"kind": "enhance"}, version=True), "graph_schema_version is True"),
    ],
)
def test_a_document_of_another_form_is_refused(found, said):
    with pytest.raises(errors.GraphError, match=said):
        graph_from(found)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("g.json", b"{", "g.json: it is no JSON"),
        ("g.toml", b"stages = [", "g.toml: it is no TOML"),
        ("g.json", b"\xff\xfe", "g.json: it cannot be read: it is no text"),
        ("g.json", b"[]", "g.json: it is no object"),
        ("g.json", b"[" * 100_000, "g.json: it is "),
    ],
)
def test_files_that_are_no_graphs_are_refused_by_name(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(errors.GraphError, match=said):
        read_graph(tmp_path / name)


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(errors.GraphError, match=r"none\.json: it cannot be read: No such file"):
        read_graph(tmp_path / "none.json")
    with pytest.raises(errors.GraphError, match="cannot be read"):
        read_graph(tmp_path)


def test_models_are_found_from_the_documents_folder(tmp_path, monkeypatch, nearest_x2):
    folder = tmp_path / "graphs"
    folder.mkdir()
    (folder / "mine.onnx").write_bytes(nearest_x2.read_bytes())
    (folder / "g.json").write_text(json.dumps(document({"kind": "enhance", "model": "mine.onnx"})))
    monkeypatch.chdir(tmp_path)
    stage = read_graph(Path("graphs/g.json")).stages[1]
    assert Path(stage.model).resolve() == folder / "mine.onnx"


patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A machine that is busy is no failure."""

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["kind", "stages", "graph_schema_version", "scale", "width", "frame_rate", "max_memory", "model"]
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@patient
@given(st.dictionaries(st.sampled_from(["graph_schema_version", "stages", "$schema", "max_memory"]), values))
def test_whatever_is_in_a_document_it_is_a_graph_or_refused(found):
    for read in (graph_from, contract_from):
        try:
            read(found)
        except errors.GraphError as error:
            assert error.remedy


@patient
@given(st.dictionaries(st.text(max_size=12), values, max_size=4))
def test_whatever_is_in_a_stage_it_is_a_stage_or_refused(stage):
    try:
        graph_from(document({"kind": "enhance"}, {**stage, "kind": "resize"}))
    except errors.GraphError as error:
        assert "stages[2]" in str(error)


def schemas():
    spec = importlib.util.spec_from_file_location("schemas", ROOT / "scripts" / "schemas.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", schemas().MADE)
def test_the_published_schema_is_what_the_classes_say(name):
    module = schemas()
    assert module.published(name) == module.text(name), "run scripts/schemas.py --write"
    jsonschema.Draft202012Validator.check_schema(module.MADE[name]())


def test_no_schema_of_something_that_is_gone_is_published():
    module = schemas()
    assert {path.stem for path in module.FOLDER.glob("*.json")} == set(module.MADE)


def valid(found: dict) -> bool:
    return jsonschema.Draft202012Validator(schemas().MADE["graph"]()).is_valid(found)


def test_the_schema_takes_what_we_take():
    assert valid(json.loads(as_json(EVERYTHING)))
    assert valid(document({"kind": "enhance", "scale": 2}))


@pytest.mark.parametrize(
    "found",
    [
        document({"kind": "enhance", "scale": 0}),
        document({"kind": "enhance", "sale": 2}),
        document({"kind": "resize"}),
        document({"kind": "sharpen"}),
        document({"kind": "decode"}),
        document({"kind": "enhance"}, version=2),
        {"graph_schema_version": 1, "stages": [{"kind": "enhance"}, {"kind": "enhance"}, {"kind": "encode"}]},
        {"graph_schema_version": 1, "stages": [{"kind": "decode"}, {"kind": "enhance"}, {"kind": "enhance"}]},
    ],
)
def test_what_the_schema_refuses_we_refuse(found):
    assert not valid(found)
    with pytest.raises(errors.GraphError):
        graph_from(found)
