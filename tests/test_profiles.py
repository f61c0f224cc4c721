"""Profiles: what each sets, and that everything else goes before it."""

from __future__ import annotations

import json

import pytest

import rave_trio
from rave_trio import DecodeStage, EncodeStage, EnhanceStage, StageGraph, errors
from rave_trio.intent import contract_of, graph_of
from rave_trio.options import UpscaleOptions
from rave_trio.profiles import PROFILES, profile_named, with_profile


@pytest.fixture(autouse=True)
def settled(tmp_path, monkeypatch):
    """No configuration but what the test writes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def encoder(bunny, **options) -> dict:
    how = with_profile({"input": bunny, "output": "out.mkv", **options})
    return dict(rave_trio.make_plan(UpscaleOptions(**how))[0].encoder.options)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_says_what_it_is_for_and_makes_a_plan(bunny, name):
    plan, _ = rave_trio.make_plan(UpscaleOptions(**with_profile({"input": bunny, "output": "o.mkv", "profile": name})))
    assert plan.as_dict()["profile"] == name
    assert profile_named(name).says


@pytest.mark.parametrize("name", PROFILES)
def test_show_lists_what_a_profile_sets_and_prints_the_graph_alone_on_stdout(rave, name):
    done = rave("graph", "show", "--profile", name)
    json.loads(done.stdout)
    profile = PROFILES[name]
    for setting in [*profile.options, *profile.clauses]:
        assert f"  {setting}" in done.stderr
    shown = rave("graph", "show", "--profile", name, "--json").json
    assert shown["profile"] == profile.as_dict()


def test_efforts_are_the_encoders_own(bunny):
    assert encoder(bunny) == {"crf": "17", "preset": "medium"}
    assert encoder(bunny, profile="fast") == {"crf": "17", "preset": "veryfast"}
    assert encoder(bunny, profile="quality") == {"crf": "14", "preset": "slow"}
    assert encoder(bunny, profile="quality", codec="libsvtav1") == {"crf": "19", "preset": "4"}
    assert "preset" not in encoder(bunny, profile="quality", codec="ffv1")
    assert encoder(bunny, profile="fast", preset="slower")["preset"] == "slower"


def test_a_flag_beats_a_variable_beats_a_file_beats_the_profile(rave, tmp_path, monkeypatch):
    def effort(*flags):
        graph = rave("graph", "show", "--profile", "fast", *flags).stdout
        return json.loads(graph)["stages"][-1]["effort"]

    assert effort() == "fast"
    (tmp_path / "rave-trio.toml").write_text('[upscale]\neffort = "high"\n')
    assert effort() == "high"
    monkeypatch.setenv("RAVE_TRIO_EFFORT", "normal")
    assert effort() == "normal"
    assert effort("--effort", "fast") == "fast"


def test_the_default_that_is_asked_for_beats_the_profile(rave):
    shown = rave("graph", "show", "--profile", "quality", "-p", "auto").stdout
    assert all("precision" not in stage for stage in json.loads(shown)["stages"])
    assert with_profile({"profile": "quality", "precision": "auto"})["precision"] == "auto"


@pytest.mark.parametrize("where", ["variable", "file"])
def test_a_profile_may_be_named_by_a_variable_or_a_file(rave, tmp_path, monkeypatch, where):
    if where == "variable":
        monkeypatch.setenv("RAVE_TRIO_PROFILE", "fast")
    else:
        (tmp_path / "rave-trio.toml").write_text('[upscale]\nprofile = "fast"\n')
    assert json.loads(rave("graph", "show").stdout)["stages"][-1] == {"kind": "encode", "effort": "fast"}


@pytest.mark.parametrize(("value", "told"), [("0", False), ("1", True), ("2", True)])
def test_how_much_is_logged_may_be_said_by_a_variable(rave, clip, nearest_x2, monkeypatch, value, told):
    monkeypatch.setenv("RAVE_TRIO_VERBOSE", value)
    done = rave("upscale", clip(frames=2), "a.mkv", "-m", nearest_x2)
    assert done.status == 0
    assert ('logger=rave_trio.job message="plan: ' in done.stderr) == told
    monkeypatch.setenv("RAVE_TRIO_VERBOSE", "much")
    assert rave("models").status == 2


def test_a_profile_fills_what_a_graph_leaves_open(rave, clip, tmp_path):
    graph = StageGraph([DecodeStage(), EnhanceStage(precision="bf16"), EncodeStage(crf=30)])
    options = UpscaleOptions("a.mkv", "b.mkv", graph=graph, profile="quality")
    assert graph_of(options).stages == (
        DecodeStage(),
        EnhanceStage(precision="bf16"),
        EncodeStage(crf=30, effort="high", dither=True),
    )
    (tmp_path / "g.json").write_text(json.dumps(graph.as_dict()))
    plan = rave("plan", clip(frames=1), "out.mkv", "--graph", "g.json", "--profile", "fast", "--json").json["plan"]
    assert plan["output"]["encoder_options"] == {"crf": "30", "preset": "veryfast"}


def test_a_profile_that_there_is_not_is_refused(rave, bunny):
    assert rave("plan", bunny, "out.mkv", "--profile", "slow").status == 2
    with pytest.raises(errors.UsageError, match="no profile 'slow'"):
        rave_trio.upscale_sync(bunny, "out.mkv", profile="slow")


def test_the_library_takes_profiles_too_and_what_is_given_goes_before(clip):
    report = rave_trio.upscale_sync(clip(frames=2), "out.mkv", scale=2, profile="fast", crf=25)
    assert dict(report.plan.encoder.options) == {"crf": "25", "preset": "veryfast"}


def test_production_strict_ends_at_damage_and_binds_the_output(clip):
    options = UpscaleOptions(**with_profile({"input": "a.mkv", "output": "b.mkv", "profile": "production_strict"}))
    assert graph_of(options).decode.strict is True
    assert contract_of(options) == rave_trio.RunContract(deterministic_output=True, fail_on_audit_warn=True)
    loose = rave_trio.RunContract(deterministic_output=False, fail_on_audit_warn=False)
    assert contract_of(UpscaleOptions("a", "b", profile="production_strict", contract=loose)) == loose


def test_benchmark_draws_nothing_and_dev_tells_everything(rave, clip, nearest_x2):
    source = clip(frames=2)
    quiet = rave("upscale", source, "a.mkv", "-m", nearest_x2, "--profile", "benchmark")
    assert (quiet.status, quiet.stderr) == (0, "")
    loud = rave("upscale", source, "b.mkv", "-m", nearest_x2, "--profile", "dev")
    assert loud.status == 0
    assert 'logger=rave_trio.job message="plan: ' in loud.stderr


@pytest.mark.parametrize("name", ["fast", "quality"])
def test_a_precision_in_one_stage_of_a_graph_goes_before_a_profiles_in_all(name):
    stages = DecodeStage(), EnhanceStage(model="animevideo-x2"), EnhanceStage(precision="fp16"), EncodeStage()
    graph = graph_of(UpscaleOptions("in.mkv", "out.mkv", graph=StageGraph(stages), profile=name))
    assert graph.precision == "fp16"
    assert graph.encode.effort == profile_named(name).options["effort"]
