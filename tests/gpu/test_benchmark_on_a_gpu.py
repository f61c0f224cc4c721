"""The benchmark, a sweep and batches with a deadline on a real GPU."""

from __future__ import annotations

import json

import jsonschema
import pytest
from cuda_rigs import open_gpu

import rave_trio
from rave_trio.bench.axes import read_axes
from rave_trio.bench.benchmark import prepared, run_benchmark
from rave_trio.bench.report import Settings
from rave_trio.bench.schema import benchmark_schema
from rave_trio.bench.sweep import run_sweep

VALIDATOR = jsonschema.Draft202012Validator(benchmark_schema())


@pytest.fixture
def options(bunny, tmp_path, monkeypatch):
    open_gpu().close()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return rave_trio.UpscaleOptions(bunny, tmp_path / "out.mkv", device="cuda", backend="onnxruntime")


@pytest.mark.parametrize("encode", [False, True])
def test_the_pipeline_is_measured_beside_its_network(options, encode, record_property):
    settings = Settings(frames=24, repeat=2, warm_up=1, encode=encode)
    with prepared(options, settings) as job:
        report = run_benchmark(job, settings)
    VALIDATOR.validate(json.loads(json.dumps(report.as_dict(), default=str)))
    assert report.plan.gpu is not None
    assert report.typical.metrics.frames_encoded == 24
    record_property("ratio", report.ratio.text())


def test_auto_takes_what_a_sweep_found(options):
    settings = Settings(frames=12, repeat=1, warm_up=1, encode=False)
    with prepared(options, settings) as job:
        report = run_sweep(job, settings, read_axes("batch=1,2,streams=1,2"))
    VALIDATOR.validate(json.loads(json.dumps(report.as_dict(), default=str)))
    assert [point.failure for point in report.points] == [None] * 4
    (kept,) = report.kept
    plan, _ = rave_trio.make_plan(options)
    assert plan.tuning is not None
    assert plan.tuning.speeds == kept.speeds
    assert (plan.batch, plan.streams) == (plan.tuning.best.batch, plan.tuning.best.streams)


def test_a_run_with_a_deadline_for_batches_gives_every_frame(options, tmp_path):
    how = {"device": "cuda", "backend": "onnxruntime", "batch": 4, "streams": 1}
    report = rave_trio.upscale_sync(options.input, tmp_path / "out.mkv", batch_deadline_ms=20, **how)
    assert report.frames == 96
    assert report.plan.fit.pipeline.batch_frames == 4
