"""``rave-trio benchmark`` with real decoders, encoders and small models, and what it writes."""

from __future__ import annotations

import errno
import json

import av
import jsonschema
import pytest

import rave_trio
from rave_trio import files, tuning
from rave_trio.bench.schema import benchmark_schema

VALIDATOR = jsonschema.Draft202012Validator(benchmark_schema())


@pytest.fixture
def bench(rave, nearest_x2, monkeypatch, tmp_path):
    """The command with a small model on the CPU, in a folder of its own; sweeps measure for a moment only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuning, "SECONDS", 0.01)
    monkeypatch.setattr(tuning, "WARM_UP", 0.0)

    def call(*arguments):
        return rave("benchmark", *arguments, "-m", nearest_x2, "-d", "cpu", "--preset", "ultrafast")

    return call


def test_measures_the_pipeline_beside_its_network(bench, bunny, tmp_path):
    found = bench(bunny, "--frames", 6, "--repeat", 2, "--json")
    assert found.status == 0, found.stderr
    report = found.json["benchmark"]
    VALIDATOR.validate(report)
    assert report["frames"] == 6
    assert report["settings"]["encode"] is True
    for figure in ("pipeline_fps", "network_fps", "ratio"):
        assert len(report[figure]["values"]) == 2
        assert 0 < report[figure]["least"] <= report[figure]["median"] <= report[figure]["most"]
    ratios = [
        one / other
        for one, other in zip(report["pipeline_fps"]["values"], report["network_fps"]["values"], strict=True)
    ]
    assert report["ratio"]["values"] == pytest.approx(ratios)
    stages = {stage["name"]: stage for stage in report["stages"]}
    assert list(stages) == ["decode", "preprocess", "inference", "encode"]
    assert stages[report["bottleneck"]]["busy"] == max(stage["busy"] for stage in stages.values())
    for stage in stages.values():
        assert 0 < stage["busy"] + stage["waiting_for_input"] + stage["waiting_for_output"] <= 1
    assert stages["preprocess"]["latency"]["calls"] == 6
    assert report["memory"]["peak"] > 0
    assert report["fingerprint"]["model_sha256"] == report["plan"]["stages"][0]["model"]["sha256"]
    assert list(tmp_path.iterdir()) == []


def test_without_an_input_makes_a_clip_of_the_size_that_was_asked_for(bench):
    report = bench("--input-size", "64x48", "--frames", 5, "--repeat", 1, "--skip-encode", "--json").json["benchmark"]
    VALIDATOR.validate(report)
    assert (report["plan"]["output"]["width"], report["plan"]["output"]["height"]) == (128, 96)
    assert report["settings"]["synthetic"] == [64, 48]
    assert report["settings"]["encode"] is False
    assert report["frames"] == 5


def test_the_table_names_the_bottleneck_and_each_stage(bench, clip):
    text = bench(clip(), "--frames", 4, "--repeat", 1, "--warm-up", 0, "--skip-encode").stdout
    rows = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert rows["pipeline"].count("fps") == 1
    assert {"network", "ratio", "memory", "pool", "decode", "preprocess", "inference", "encode"} <= set(rows)
    assert "busy" in rows["bottleneck"]
    assert "discarded" in rows["pictures"]


def test_an_input_that_is_shorter_is_measured_whole_and_a_note_says_so(bench, clip):
    report = bench(clip(frames=3), "--frames", 9, "--repeat", 1, "--json").json["benchmark"]
    assert report["frames"] == 3
    assert any("3 frames" in note for note in report["notes"])


def test_the_file_holds_what_json_prints(bench, clip, tmp_path):
    out = tmp_path / "out.json"
    printed = bench(clip(), "--frames", 3, "--repeat", 1, "--json", "--json-out", out).json["benchmark"]
    written = json.loads(out.read_text())
    VALIDATOR.validate(written)
    assert written == printed


def test_job_flags_go_into_the_plan(bench, clip):
    report = bench(
        *(clip(), "--frames", 2, "--repeat", 1, "--tile", 32, "--precision", "fp32", "--profile", "benchmark"),
        *("--codec", "ffv1", "--json", "--vram-limit", "500MB"),
    )
    assert report.status == 2  # ffv1 has no presets
    report = bench(clip(), "--frames", 2, "--repeat", 1, "--tile", 32, "--precision", "fp32", "--json").json
    plan = report["benchmark"]["plan"]
    assert plan["precision"] == "fp32"
    assert plan["stages"][0]["tiles"]["tiles"] > 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--frames", 0], "--frames must be at least 1"),
        (["--repeat", 0], "--repeat must be at least 1"),
        (["--warm-up", -1], "--warm-up must be at least 0"),
        (["--input-size", "64"], "no size for a clip"),
        (["--input-size", "65x48"], "no size for a clip"),
        (["--input-size", "9000x48"], "no size for a clip"),
        (["--report", "r.json"], "not watched"),
        (["--sweep", "speed"], "cannot vary 'speed'"),
        (["--sweep", ""], "cannot vary ''"),
        (["--sweep", "batch=0"], "batch cannot be '0'"),
        (["--sweep", "streams=auto"], "streams cannot be 'auto'"),
        (["--sweep", "batch,batch"], "batch twice"),
        (["--sweep", "tile", "--tile", 64], "--tile is set"),
        (["--sweep", "streams=1,2,3,4,5,6,7,8,9,batch,tile"], "72 combinations"),
        (["--batch-deadline-ms", 5], "on the CPU"),
    ],
)
def test_what_makes_no_sense_is_refused(bench, arguments, said):
    found = bench(*arguments)
    assert found.status == 2
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(bench, clip, tmp_path):
    out = tmp_path / "out.json"
    out.write_text("mine")
    how = [clip(), "--frames", 2, "--repeat", 1, "--json-out", out]
    assert bench(*how).status == 20
    assert out.read_text() == "mine"
    assert bench(*how, "--overwrite").status == 0
    VALIDATOR.validate(json.loads(out.read_text()))


def test_a_place_where_no_file_can_be_is_refused_before_anything_is_measured(bench, clip, tmp_path):
    assert bench(clip(), "--json-out", tmp_path / "none" / "out.json").status == 21
    assert bench(tmp_path / "in.mkv", "--json-out", tmp_path / "in.mkv", "-y").status == 29


def full(*_arguments, **_options):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_figures_that_cannot_be_written_in_the_end_are_told(bench, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "write_whole", full)
    found = bench(clip(), "--frames", 2, "--repeat", 1, "--warm-up", 0, "--json-out", tmp_path / "out.json")
    assert found.status == 23
    assert "bottleneck" in found.stderr
    assert "no space left while writing" in found.stderr.splitlines()[-1]


def test_a_disk_without_room_for_the_clip_has_its_own_status(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(av, "open", full)
    found = bench("--input-size", "64x48", "--frames", 2)
    assert (found.status, found.stderr.count("\n")) == (23, 1)


def test_an_input_that_is_not_there_has_its_own_status(bench):
    assert bench("nothing.mkv").status == 10


def test_a_damaged_input_fails_with_its_reason(bench, clip):
    source = clip(frames=30, codec="ffv1")
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    found = bench(source, "--repeat", 1)
    assert found.status == 16


def test_a_sweep_measures_every_combination(bench, clip, tmp_path):
    out = tmp_path / "sweep.json"
    how = ("--frames", 3, "--repeat", 1, "--warm-up", 0, "--skip-encode")
    found = bench(clip(), *how, "--sweep", "streams=1,2,depth=1,3,tile=auto,32", "--json-out", out)
    assert found.status == 0, found.stderr
    report = json.loads(out.read_text())
    VALIDATOR.validate(report)
    assert [point["values"] for point in report["points"]] == [
        {"streams": streams, "depth": depth, "tile": tile}
        for streams in (1, 2)
        for depth in (1, 3)
        for tile in (None, 32)
    ]
    assert all(point["failure"] is None for point in report["points"])
    fastest = max(point["pipeline_fps"]["median"] for point in report["points"])
    assert report["points"][report["best"]]["pipeline_fps"]["median"] == fastest
    assert [kept["reason"] for kept in report["kept"]] == ["on the CPU auto goes by the cores"] * 2
    assert "nothing was remembered for auto" in found.stdout


def test_a_combination_that_cannot_be_is_told_in_its_place(bench, clip):
    how = ("--frames", 2, "--repeat", 1, "--warm-up", 0)
    report = bench(clip(), *how, "--sweep", "batch=1,2", "--json").json["sweep"]
    VALIDATOR.validate(report)
    one, two = report["points"]
    assert one["failure"] is None
    assert "one by one" in two["failure"]
    assert two["pipeline_fps"] is None


def test_a_sweep_of_which_nothing_can_be_measured_fails_as_its_first(bench, clip):
    found = bench(clip(), "--sweep", "batch=2,4")
    assert found.status == 2
    assert "one by one" in found.stderr


def test_benchmarks_are_compared(bench, rave, clip, tmp_path):
    how = [clip(), "--frames", 3, "--repeat", 2, "--warm-up", 0]
    assert bench(*how, "--json-out", tmp_path / "a.json").status == 0
    (tmp_path / "b.json").write_text(bench(*how, "--skip-encode", "--json").stdout)
    found = rave("benchmark", "compare", tmp_path / "a.json", tmp_path / "b.json", "--json").json["comparison"]
    assert [figure["name"] for figure in found["figures"]] == [
        "pipeline, fps",
        "network alone, fps",
        "pipeline / network",
    ]
    assert found["differences"] == [{"what": "settings.encode", "first": True, "second": False}]


def test_the_schema_refuses_what_is_wrong(bench, clip):
    report = bench(clip(), "--frames", 2, "--repeat", 1, "--warm-up", 0, "--json").json["benchmark"]
    VALIDATOR.validate(report)
    for spoil in ({"schema_version": 2}, {"kind": "sweep"}, {"ratio": 1.0}, {"plan": {}}, {"stages": None}):
        assert not VALIDATOR.is_valid({**report, **spoil}), spoil


def test_the_library_has_what_the_command_uses(clip, tmp_path, nearest_x2):
    from rave_trio.bench.benchmark import prepared, run_benchmark
    from rave_trio.bench.report import Settings

    job = rave_trio.UpscaleOptions(clip(), tmp_path / "out.mkv", model=str(nearest_x2), device="cpu")
    settings = Settings(frames=2, repeat=1, warm_up=0, encode=False)
    with prepared(job, settings) as options:
        report = run_benchmark(options, settings)
    assert report.typical.metrics.frames_encoded == 2
    assert not (tmp_path / "out.mkv").exists()
