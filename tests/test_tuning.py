"""Batches and streams on a GPU: asked for, or measured once and remembered.

The GPUs and their speeds are made up; tests/gpu measures a real one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

import attrs
import jsonschema
import pytest
from made_up_gpus import Speeds, gpu, machine

import rave_trio
from rave_trio import errors, tuning
from rave_trio.report import SCHEMA
from rave_trio.tuning import Speed, Tuning, search

__all__ = ["machine"]

FLAT = {(1, 1): 40.0, (2, 1): 40.5, (1, 2): 40.9}
"""Of a GPU that one picture keeps busy."""

STEEP = {(1, 1): 100.0, (2, 1): 180.0, (4, 1): 300.0, (8, 1): 305.0, (4, 2): 400.0}
"""Of one that waits for launches."""


@pytest.fixture
def plan(bunny, tmp_path):
    def make(**options):
        backend = "auto" if options.get("device") == "cpu" else "onnxruntime"  # our own kernels are not measured
        how = {"backend": backend, **options}
        return rave_trio.make_plan(rave_trio.UpscaleOptions(bunny, tmp_path / "out.mkv", **how))[0]

    return make


def chosen(plan):
    return plan.batch, plan.streams


class TestSearch:
    @staticmethod
    def tried(rates, batches=tuning.BATCHES, streams=tuning.STREAMS):
        found = search(lambda streams, batch: rates[batch, streams], batches, streams)
        return [(speed.batch, speed.streams) for speed in found.speeds], (found.best.batch, found.best.streams)

    def test_ends_with_the_first_that_does_not_gain(self):
        assert self.tried(FLAT) == ([(1, 1), (2, 1), (1, 2)], (1, 1))

    def test_goes_on_while_batches_gain_and_then_tries_streams_with_the_best(self):
        assert self.tried(STEEP) == ([(1, 1), (2, 1), (4, 1), (8, 1), (4, 2)], (4, 2))

    def test_takes_what_gives_three_hundredths_more_for_no_gain(self):
        assert self.tried({(1, 1): 100.0, (2, 1): 103.0, (1, 2): 103.01})[1] == (1, 2)

    def test_does_not_go_on_where_one_picture_keeps_the_gpu_busy_for_long(self):
        assert self.tried({(1, 1): 3.9}) == ([(1, 1)], (1, 1))

    def test_keeps_to_what_was_asked_for(self):
        assert self.tried({(4, 1): 30.0, (4, 2): 33.0}, batches=(4,)) == ([(4, 1), (4, 2)], (4, 2))
        assert self.tried({(1, 2): 30.0, (2, 2): 20.0}, streams=(2,)) == ([(1, 2), (2, 2)], (1, 2))

    def test_leaves_out_what_there_is_no_memory_for(self):
        rates = {(1, 1): 10.0, (2, 1): None, (1, 2): 20.0}
        assert self.tried(rates) == ([(1, 1), (1, 2)], (1, 2))


class TestAuto:
    def test_measures_once_and_then_remembers(self, machine, plan):
        speeds = machine(gpu(0), speeds=Speeds(STEEP))
        first = plan()
        assert chosen(first) == (4, 2)
        assert len(speeds.asked) == 5
        assert plan() == first
        assert len(speeds.asked) == 5

    def test_measures_the_plans_tiles(self, machine, plan):
        speeds = machine(gpu(0), speeds=Speeds(FLAT))
        plan(tile=96)
        assert speeds.shapes == {(96, 96)}

    @pytest.mark.parametrize(
        "other",
        [{"scale": 4}, {"precision": "fp32"}, {"tile": 96}, {"batch": 2}, {"streams": 1}, {"backend": "tensorrt"}],
        ids=str,
    )
    def test_measures_again_for_anything_else(self, machine, plan, other):
        speeds = machine(gpu(0), speeds=Speeds(dict.fromkeys(STEEP, 10.0) | {(2, 2): 10.0, (1, 2): 10.0}))
        plan()
        before = len(speeds.asked)
        plan(**other)
        assert len(speeds.asked) > before

    @pytest.mark.parametrize("change", ["gpu", "driver", "library"])
    def test_measures_again_on_another_gpu_driver_or_library(self, machine, plan, monkeypatch, change):
        speeds = machine(gpu(0), speeds=Speeds(FLAT))
        plan()
        if change == "gpu":
            machine(gpu(1), speeds=speeds)
        elif change == "driver":
            monkeypatch.setattr(tuning, "driver_version", lambda: "590.1")
        else:
            monkeypatch.setattr(tuning, "library_version", lambda backend: "9.9")
        plan()
        assert len(speeds.asked) == 2 * len(FLAT)

    @pytest.mark.parametrize(
        "damage",
        [
            "",
            "{}",
            "[1, 2]",
            '{"speeds": []}',
            '{"speeds": [[1, 1]]}',
            '{"speeds": [[1, 1, "fast"]]}',
            '{"speeds": [[1, 1, NaN]]}',
            '{"speeds": [[3, 1, 50.0]]}',
            '{"speeds": [[1, 1, -1.0]]}',
            b"\xff\xfe",
        ],
    )
    def test_a_record_that_makes_no_sense_is_measured_again(self, machine, plan, tmp_path, damage):
        speeds = machine(gpu(0), speeds=Speeds(STEEP))
        plan()
        (record,) = (tmp_path / "cache" / "rave-trio" / "tuning").iterdir()
        whole = record.read_text()
        record.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
        assert chosen(plan()) == (4, 2)
        assert len(speeds.asked) == 10
        assert record.read_text() == whole

    def test_the_record_says_what_it_is_of(self, machine, plan, tmp_path):
        machine(gpu(0), speeds=Speeds(FLAT))
        made = plan()
        (record,) = (tmp_path / "cache" / "rave-trio" / "tuning").iterdir()
        key = json.loads(record.read_text())["key"]
        assert (key["gpu"], key["driver"], key["backend"], key["precision"]) == (
            "GPU number 0",
            "580.1",
            "onnxruntime",
            "fp16",
        )
        assert key["model_sha256"] == made.models[0].sha256

    def test_a_folder_that_cannot_be_written_is_done_without(self, machine, plan, tmp_path):
        machine(gpu(0), speeds=Speeds(STEEP))
        (tmp_path / "cache").write_text("a file")
        assert chosen(plan()) == chosen(plan()) == (4, 2)

    @pytest.mark.parametrize("at", [(1, 1), (4, 1), (4, 2)])
    @pytest.mark.parametrize("error", [errors.OutOfMemory("no room"), MemoryError("no room"), RuntimeError("no room")])
    def test_where_something_fails_it_is_one_by_one_and_nothing_is_remembered(self, machine, plan, tmp_path, at, error):
        speeds = machine(gpu(0), speeds=Speeds(STEEP | {at: error}))
        made = plan()
        assert chosen(made) == (1, 1)
        assert made.tuning.failure == "no room"
        assert not (tmp_path / "cache" / "rave-trio" / "tuning").exists()
        speeds.rates = STEEP
        assert chosen(plan()) == (4, 2)

    def test_what_does_not_fit_is_not_tried_and_the_rest_not_remembered(self, machine, plan, tmp_path):
        speeds = machine(gpu(0), speeds=Speeds(STEEP | {(1, 2): 110.0, (2, 2): 110.0}))
        least = plan(batch=2, streams=1).fit.memory
        made = plan(vram_limit=least)
        assert chosen(made) == (2, 1)
        assert (4, 1) not in speeds.asked
        assert made.fit.memory <= least
        assert not (tmp_path / "cache" / "rave-trio" / "tuning").exists()

    def test_what_was_remembered_gives_way_to_a_limit(self, machine, plan):
        machine(gpu(0), speeds=Speeds(STEEP))
        roomy = plan()
        tight = plan(vram_limit=roomy.fit.memory - 1)
        assert chosen(roomy) == (4, 2)
        assert chosen(tight) == (1, 1)

    def test_tensorrt_varies_its_streams_alone(self, machine, plan):
        speeds = machine(gpu(0), speeds=Speeds({(1, 1): 10.0, (1, 2): 12.0}))
        assert chosen(plan(backend="tensorrt")) == (1, 2)
        assert speeds.asked == [(1, 1), (1, 2)]

    def test_a_model_that_mixes_pictures_gets_streams_alone(self, machine, plan, graph):
        speeds = machine(gpu(0), speeds=Speeds({(1, 1): 10.0, (1, 2): 10.0}))
        plan(model=str(mixing(graph)))
        assert speeds.asked == [(1, 1), (1, 2)]

    def test_a_plan_says_what_was_measured(self, machine, rave, bunny, tmp_path, monkeypatch):
        machine(gpu(0), speeds=Speeds(STEEP))
        made = rave_trio.make_plan(rave_trio.UpscaleOptions(bunny, tmp_path / "out.mkv", backend="onnxruntime"))[0]
        document = json.loads(json.dumps(made.as_dict(), default=str))
        assert (document["batch"], document["streams"]) == (4, 2)
        assert document["tuning"]["speeds"][0] == {"batch": 1, "streams": 1, "per_second": 100.0}
        schema = json.loads(SCHEMA.read_text())["$defs"]["plan"]["properties"]["tuning"]
        jsonschema.validate(document["tuning"], schema)
        assert "4 x 2: 400" in made.tuning.text()

    def test_costs_a_plan_for_the_cpu_nothing(self, bunny, tmp_path):
        script = (
            "import sys, rave_trio; "
            f"options = rave_trio.UpscaleOptions({str(bunny)!r}, {str(tmp_path / 'o.mkv')!r}, device='cpu'); "
            "rave_trio.make_plan(options); print('rave_trio.tuning' in sys.modules)"
        )
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "False"


class TestAskedFor:
    def test_batch_and_streams_are_taken_without_measuring(self, machine, plan):
        speeds = machine(gpu(0), speeds=Speeds({}))
        made = plan(batch=4, streams=2)
        assert (chosen(made), made.tuning, speeds.asked) == ((4, 2), None, [])

    def test_where_nothing_is_left_to_choose_nothing_is_measured(self, machine, plan):
        speeds = machine(gpu(0), speeds=Speeds({}))
        made = plan(streams=2, backend="tensorrt")
        assert (chosen(made), made.tuning, speeds.asked) == ((1, 2), None, [])

    def test_one_of_them_leaves_the_other_to_be_measured(self, machine, plan):
        machine(gpu(0), speeds=Speeds({(4, 1): 10.0, (4, 2): 20.0, (1, 2): 10.0, (2, 2): 20.0}))
        assert chosen(plan(batch=4)) == (4, 2)
        assert chosen(plan(streams=2)) == (2, 2)

    def test_more_at_once_takes_more_memory_and_deeper_queues(self, machine, plan):
        machine(gpu(0), speeds=Speeds({}))
        one, four, eight = (plan(batch=batch, streams=streams) for batch, streams in [(1, 1), (4, 1), (4, 2)])
        assert one.fit.network < four.fit.network < eight.fit.network
        assert one.fit.tensors < four.fit.tensors < eight.fit.tensors
        assert [each.depth for each in (one, four, eight)] == [3, 9, 17]
        assert [each.fit.pipeline.preprocessed_capacity for each in (one, four, eight)] == [2, 4, 8]

    def test_a_batch_of_tiles_needs_no_more_frames(self, machine, plan):
        machine(gpu(0), speeds=Speeds({}))
        assert plan(tile=96, batch=1, streams=1).geometries[0].tiles >= 8
        assert plan(tile=96, batch=8, streams=1).depth == plan(tile=96, batch=1, streams=1).depth

    @pytest.mark.parametrize(
        ("asked", "named"), [({"batch": 8, "streams": 1}, "--batch"), ({"batch": 1, "streams": 8}, "--streams")]
    )
    def test_what_cannot_fit_a_limit_is_refused_with_the_least_that_would_do(self, machine, plan, asked, named):
        machine(gpu(0), speeds=Speeds({}))
        limit = plan(batch=1, streams=1).fit.memory
        with pytest.raises(errors.OutOfMemory, match="needs at least") as caught:
            plan(vram_limit=limit, tile=4096, **asked)
        assert f"or {named}" in caught.value.remedy
        enough = re.search(r"--vram-limit (\d+MiB)", caught.value.remedy)[1]
        made = plan(vram_limit=enough, tile=4096, **asked)
        assert chosen(made) == (asked["batch"], asked["streams"])
        assert made.fit.memory <= made.options.vram_limit

    def test_tiles_make_room_for_a_batch_that_was_asked_for(self, machine, plan):
        machine(gpu(0), speeds=Speeds({}))
        whole = plan(batch=8, streams=1)
        made = plan(batch=8, streams=1, vram_limit=whole.fit.memory - 1)
        assert chosen(made) == (8, 1)
        assert made.geometries[0].tiles > whole.geometries[0].tiles

    def test_a_model_that_may_mix_pictures_is_refused_a_batch(self, machine, plan, graph):
        machine(gpu(0), speeds=Speeds({}))
        with pytest.raises(errors.UsageError, match="may not compute several pictures") as caught:
            plan(model=str(mixing(graph)), batch=2)
        assert "--batch 1" in caught.value.remedy

    def test_on_the_cpu_a_batch_is_refused(self, plan):
        with pytest.raises(errors.UsageError, match="one by one") as caught:
            plan(device="cpu", batch=2)
        assert "--streams" in caught.value.remedy
        assert plan(device="cpu", batch=1).batch == 1

    def test_on_the_cpu_streams_are_openvinos(self, plan):
        assert plan(device="cpu", streams=1).streams == 1

    def test_on_the_cpu_more_streams_than_cores_are_refused(self, plan):
        cores = plan(device="cpu").host.cores
        with pytest.raises(errors.UsageError, match=f"{cores} cores cannot keep 64 streams busy"):
            plan(device="cpu", streams=64)

    @pytest.mark.parametrize("field", ["batch", "streams"])
    @pytest.mark.parametrize("value", [0, -1, "0", "many", "", "1.5", 65, True, 2.0])
    def test_what_is_no_number_is_a_usage_error(self, field, value):
        with pytest.raises(errors.UsageError, match=rf"^{field} cannot be"):
            rave_trio.UpscaleOptions("a", "b", **{field: value})

    @pytest.mark.parametrize(("value", "meant"), [("auto", None), (None, None), ("4", 4), (1, 1), (64, 64)])
    def test_numbers_and_auto_are_understood(self, value, meant):
        options = rave_trio.UpscaleOptions("a", "b", batch=value, streams=value)
        assert (options.batch, options.streams) == (meant, meant)
        assert attrs.evolve(options) == options


def test_the_first_that_was_measured_stays_the_best_of_its_equals():
    assert Tuning((Speed(1, 1, 10.0), Speed(2, 1, 10.2), Speed(4, 1, 10.4))).best == Speed(4, 1, 10.4)
    assert Tuning((Speed(1, 1, 10.0), Speed(2, 1, 10.2), Speed(4, 1, 10.2))).best == Speed(1, 1, 10.0)


def mixing(graph):
    """A model that subtracts the mean of everything, all pictures of a batch included."""
    net = graph("mixing")
    mean = net.op("ReduceMean", net.input, keepdims=0)
    return net.save(net.shuffle(net.conv(net.op("Sub", net.input, mean), 3, 12), 2))


class TestNotMeasured:
    """Where batch and streams are one, as nothing is to depend on a measurement, or none would say what to take."""

    def test_where_the_output_has_to_be_the_same_in_every_run(self, machine, plan):
        speeds = machine(gpu(0), speeds=Speeds(STEEP))
        contract = rave_trio.RunContract(deterministic_output=True)
        assert chosen(plan(contract=contract)) == (1, 1)
        assert chosen(plan(contract=contract, batch=2)) == (2, 1)
        assert speeds.asked == []

    def test_with_several_models(self, machine, plan, upscaler):
        speeds = machine(gpu(0), speeds=Speeds(STEEP))
        models = [rave_trio.EnhanceStage(model=str(upscaler(f"x{scale}", scale=scale))) for scale in (1, 2)]
        graph = rave_trio.StageGraph([rave_trio.DecodeStage(), *models, rave_trio.EncodeStage()])
        made = plan(graph=graph)
        assert chosen(made) == (1, 1)
        assert made.depth == 6
        assert speeds.asked == []
        twice = plan(graph=graph, batch=2, streams=2)
        assert chosen(twice) == (2, 2)
        assert twice.fit.network > made.fit.network

    def test_but_with_one_model_and_a_size(self, machine, plan):
        machine(gpu(0), speeds=Speeds(STEEP))
        assert chosen(plan(size="600x400")) == (4, 2)


class TestBatchDeadline:
    """Of a plan: how long the first frame of a batch may wait for others."""

    def test_is_in_the_plan_with_the_frames_that_fill_the_batches(self, machine, plan):
        machine(gpu(0), speeds=Speeds({}))
        made = plan(batch=4, streams=2, batch_deadline_ms=20)
        assert (made.fit.pipeline.batch_deadline, made.fit.pipeline.batch_frames) == (0.02, 8)
        assert made.as_dict()["channels"]["batch_deadline"] == 0.02
        assert not [note for note in made.notes if "batch-deadline" in note]

    def test_is_in_the_plan_of_what_was_measured(self, machine, plan):
        machine(gpu(0), speeds=Speeds(STEEP))
        made = plan(batch_deadline_ms=20)
        assert chosen(made) == (4, 2)
        assert (made.fit.pipeline.batch_deadline, made.fit.pipeline.batch_frames) == (0.02, 8)

    def test_is_none_unless_asked_for(self, machine, plan):
        machine(gpu(0), speeds=Speeds({}))
        assert plan(batch=4, streams=1).fit.pipeline.batch_deadline == 0

    @pytest.mark.parametrize("how", [{"batch": 4, "streams": 1, "tile": 96}, {}], ids=["tiles", "one by one"])
    def test_a_note_says_where_it_has_no_effect(self, machine, plan, how):
        machine(gpu(0), speeds=Speeds(FLAT))
        made = plan(batch_deadline_ms=20, **how)
        assert made.fit.pipeline.batch_frames == 1
        assert "no effect" in " ".join(made.notes)

    @pytest.mark.parametrize(("how", "where"), [({"device": "cpu"}, "on the CPU"), ({"batch": 1}, "with --batch 1")])
    def test_is_refused_where_pictures_are_computed_one_by_one(self, machine, plan, how, where):
        machine(gpu(0), speeds=Speeds(FLAT))
        with pytest.raises(errors.UsageError, match=where) as caught:
            plan(batch_deadline_ms=20, **how)
        assert "--batch-deadline-ms" in caught.value.remedy

    def test_is_refused_where_a_call_would_be_given_up_before(self, machine, plan):
        machine(gpu(0), speeds=Speeds(FLAT))
        with pytest.raises(errors.UsageError, match="as long as a call may hang"):
            plan(batch=4, batch_deadline_ms=2000, stall_timeout=2)

    @pytest.mark.parametrize("value", [-1, 10_001, float("nan"), float("inf"), "soon", None, True])
    def test_what_is_no_number_of_milliseconds_is_a_usage_error(self, value):
        with pytest.raises(errors.UsageError, match="batch_deadline_ms must be a number"):
            rave_trio.UpscaleOptions("a", "b", batch_deadline_ms=value)
