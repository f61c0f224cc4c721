"""What a sweep on a GPU leaves for ``auto``.  The GPUs and their speeds are made up."""

from __future__ import annotations

import attrs
import pytest
from made_up_gpus import Speeds, gpu, machine

import rave_trio
from rave_trio import errors
from rave_trio.bench.axes import USUAL, combinations, read_axes
from rave_trio.bench.report import Settings
from rave_trio.bench.spread import Spread
from rave_trio.bench.sweep import run_sweep

__all__ = ["machine"]

FAST_TOGETHER = {(1, 1): 100.0, (2, 1): 90.0, (4, 1): 200.0, (8, 1): 150.0} | {
    (batch, 2): 95.0 for batch in (1, 2, 4, 8)
}
"""Where a climb would end with the second; only who tries everything finds that 4 is best."""

SETTINGS = Settings(frames=2, repeat=1, warm_up=0, encode=False)


def pipeline(plan, steps, settings):
    """Stands in for running a pipeline on a GPU that is not there."""
    return Spread((float(plan.batch + plan.streams),))


@pytest.fixture
def options(bunny, tmp_path):
    return rave_trio.UpscaleOptions(bunny, tmp_path / "out.mkv", backend="onnxruntime")


def swept(options, axes):
    return run_sweep(options, SETTINGS, read_axes(axes), pipeline)


def chosen(options):
    plan, _ = rave_trio.make_plan(options)
    return plan.batch, plan.streams


def test_auto_takes_the_best_of_a_sweep_without_measuring_again(machine, options):
    speeds = machine(gpu(0), speeds=Speeds(FAST_TOGETHER))
    report = swept(options, "batch,streams")
    asked = len(speeds.asked)
    assert asked == 8
    assert chosen(options) == (4, 1)
    assert len(speeds.asked) == asked
    (kept,) = report.kept
    assert kept.as_dict()["chosen"] == {"batch": 4, "streams": 1, "per_second": 200.0}
    assert "auto takes batch 4 and streams 1 for animevideo-x2 at 320x180, onnxruntime fp16" in report.text()


def test_a_sweep_replaces_what_auto_had_found(machine, options):
    machine(gpu(0), speeds=Speeds(FAST_TOGETHER))
    assert chosen(options) == (1, 1)
    swept(options, "batch,streams")
    assert chosen(options) == (4, 1)


def test_the_fastest_pipeline_is_named_beside_what_the_network_alone_is_chosen_by(machine, options):
    machine(gpu(0), speeds=Speeds(FAST_TOGETHER))
    report = swept(options, "batch,streams")
    assert report.best.values == {"batch": 8, "streams": 2}
    (line,) = [line for line in report.text().splitlines() if line.endswith("best")]
    assert line.split()[:2] == ["8", "2"]


def test_one_axis_keeps_to_what_was_asked_for_of_the_other(machine, options):
    machine(gpu(0), speeds=Speeds({(4, 1): 10.0, (4, 2): 20.0}))
    given = attrs.evolve(options, batch=4)
    swept(given, "streams")
    assert chosen(given) == (4, 2)


def test_each_size_of_tiles_has_a_record_of_its_own(machine, options):
    speeds = machine(gpu(0), speeds=Speeds(FAST_TOGETHER))
    report = swept(options, "batch=1,4,streams=1,2,tile=auto,96")
    assert len(report.kept) == 2
    assert all(kept.speeds for kept in report.kept)
    asked = len(speeds.asked)
    assert chosen(options) == chosen(attrs.evolve(options, tile=96)) == (4, 1)
    assert len(speeds.asked) == asked


def test_a_sweep_of_tiles_or_depth_alone_changes_nothing_for_auto(machine, options):
    speeds = machine(gpu(0), speeds=Speeds(FAST_TOGETHER))
    given = attrs.evolve(options, batch=1, streams=1)
    assert swept(given, "depth=1,8,tile=auto,96").kept == ()
    before = len(speeds.asked)
    chosen(options)
    assert len(speeds.asked) > before


def test_depth_is_that_of_the_queues(machine, options):
    machine(gpu(0), speeds=Speeds(FAST_TOGETHER))
    report = swept(attrs.evolve(options, batch=1, streams=1), "depth=1,8")
    shallow, deep = (point.plan.fit for point in report.points)
    assert (shallow.pipeline.decoded_capacity, deep.pipeline.decoded_capacity) == (1, 8)
    assert shallow.memory < deep.memory


def test_what_does_not_fit_is_told_and_then_nothing_is_remembered(machine, options):
    speeds = machine(gpu(0), speeds=Speeds(FAST_TOGETHER | {(8, 1): errors.OutOfMemory("no room")}))
    report = swept(options, "batch,streams=1")
    assert [point.failure for point in report.points] == [None, None, None, "no room"]
    assert [kept.reason for kept in report.kept] == ["not every combination could be measured"]
    before = len(speeds.asked)
    chosen(options)
    assert len(speeds.asked) > before


def test_only_what_auto_may_choose_is_remembered(machine, options):
    machine(gpu(0), speeds=Speeds({(1, 1): 10.0, (3, 1): 900.0}))
    (kept,) = swept(options, "batch=1,3,streams=1").kept
    assert [speed.batch for speed in kept.speeds] == [1]


@pytest.mark.parametrize(
    ("how", "axes", "reason"),
    [
        ({"backend": "compact"}, "streams=1", "nothing to choose"),
        ({"backend": "onnxruntime"}, "batch=3,streams=1", "auto chooses among"),
    ],
)
def test_where_nothing_can_be_remembered_the_reason_is_told(machine, options, how, axes, reason):
    machine(gpu(0), speeds=Speeds({(1, 1): 10.0, (3, 1): 10.0}))
    report = swept(attrs.evolve(options, **how), axes)
    (kept,) = report.kept
    assert reason in kept.reason
    assert kept.reason in report.text()


def test_a_folder_that_cannot_be_written_is_told(machine, options, tmp_path):
    machine(gpu(0), speeds=Speeds(FAST_TOGETHER))
    (tmp_path / "cache").write_text("a file")
    (kept,) = swept(options, "batch,streams").kept
    assert "cannot be written" in kept.reason


def test_an_axis_that_is_set_as_well_is_refused(machine, options):
    machine(gpu(0), speeds=Speeds({}))
    with pytest.raises(errors.UsageError, match="--batch is set, and --sweep varies it"):
        swept(attrs.evolve(options, batch=2), "batch")


class TestAxes:
    def test_have_usual_values_or_those_that_are_given(self):
        assert read_axes("batch,streams") == {"batch": USUAL["batch"], "streams": USUAL["streams"]}
        assert read_axes("batch=1,2,4") == {"batch": (1, 2, 4)}
        assert read_axes("tile=auto, 256,depth,batch=2") == {
            "tile": (None, 256),
            "depth": USUAL["depth"],
            "batch": (2,),
        }

    def test_all_at_once_with_usual_values_are_within_reason(self):
        assert len(list(combinations(read_axes("batch,streams,depth,tile")))) == 48

    def test_take_a_value_once(self):
        assert read_axes("batch=2,2") == {"batch": (2,)}

    @pytest.mark.parametrize("text", ["batch,1", "batch=", "1", "batch=1.5", "batch=-1", "depth=auto", "batch=1,=2"])
    def test_what_makes_no_sense_is_a_usage_error(self, text):
        with pytest.raises(errors.UsageError, match="--sweep"):
            read_axes(text)
