"""Two benchmarks: what their ratios are, and when they differ."""

from __future__ import annotations

import json

import pytest

from rave_trio import errors
from rave_trio.bench.compare import Figure, compare_benchmarks
from rave_trio.bench.spread import Spread


def document(values=(10.0, 11.0, 12.0), **how):
    spread = {"values": list(values)}
    return {
        "schema_version": 1,
        "kind": "benchmark",
        "settings": {"frames": 48, "encode": True},
        "pipeline_fps": spread,
        "network_fps": spread,
        "ratio": spread,
        "memory": {"peak": 1_000_000},
        "fingerprint": {"rave_trio": "1.0", "libraries": {"numpy": "2.0"}, "gpus": [], "driver": None},
        **how,
    }


@pytest.fixture
def compared(tmp_path):
    def compare(one, other):
        paths = tmp_path / "a.json", tmp_path / "b.json"
        for path, found in zip(paths, (one, other), strict=True):
            path.write_text(found if isinstance(found, str) else json.dumps(found))
        return compare_benchmarks(*paths)

    return compare


def test_a_ratio_is_the_seconds_median_over_the_firsts():
    figure = Figure("speed", Spread((10.0, 8.0, 12.0)), Spread((20.0, 24.0, 16.0)))
    assert (figure.ratio, figure.least, figure.most) == (2.0, pytest.approx(16 / 12), 3.0)
    assert figure.differs


@pytest.mark.parametrize(
    ("first", "second", "differs"),
    [
        ((10.0, 11.0), (11.1, 12.0), True),
        ((10.0, 11.0), (9.0, 9.9), True),
        ((10.0, 11.0), (11.0, 12.0), False),
        ((10.0, 11.0), (10.5, 10.6), False),
        ((10.0, 11.0), (5.0, 20.0), False),
    ],
)
def test_they_differ_where_every_run_of_one_was_faster(first, second, differs):
    assert Figure("speed", Spread(first), Spread(second)).differs is differs


def test_what_a_figure_says():
    slow, fast = Spread((10.0, 11.0)), Spread((20.0, 21.0))
    assert "more" in Figure("speed", slow, fast).text()
    assert "less" in Figure("speed", fast, slow).text()
    assert "no difference" in Figure("speed", fast, fast).text()


def test_one_run_is_no_ground_for_a_verdict():
    for first, second in (((10.0,), (20.0, 21.0)), ((10.0, 11.0), (20.0,))):
        figure = Figure("speed", Spread(first), Spread(second))
        assert not figure.differs
        assert "not judged" in figure.text()


def test_the_same_differs_in_nothing(compared):
    found = compared(document(), document())
    assert not any(figure.differs for figure in found.figures)
    assert found.differences == ()
    assert ("the same", "settings, versions, hardware, model and plan") in found.rows()


def test_differences_of_settings_and_fingerprints_are_named(compared):
    other = document(
        settings={"frames": 96, "encode": True},
        fingerprint={"rave_trio": "1.0", "libraries": {"numpy": "2.1", "torch": "3"}, "gpus": ["one"], "driver": None},
    )
    assert set(map(str, compared(document(), other).differences)) == set(
        map(
            str,
            [
                ("settings.frames", 48, 96),
                ("fingerprint.libraries.numpy", "2.0", "2.1"),
                ("fingerprint.libraries.torch", None, "3"),
                ("fingerprint.gpus", [], ["one"]),
            ],
        )
    )


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "[" * 100_000,
        "[]",
        "{}",
        '"benchmark"',
        document(kind="sweep"),
        document(schema_version=2),
        document(values=()),
        document(values=(0.0,)),
        document(values=("fast",)),
        document(ratio={"values": "123"}),
        document(ratio=None),
        document(memory={}),
        document(memory=None),
        document(fingerprint=None),
        {"command": "benchmark", "ok": False, "error": {}},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_what_is_no_benchmark_is_a_usage_error_that_names_the_file(compared, wrong):
    with pytest.raises(errors.UsageError, match=r"b\.json cannot be compared"):
        compared(document(), wrong)


def test_a_file_that_is_not_there_has_its_own_status(rave, tmp_path):
    found = rave("benchmark", "compare", tmp_path / "a.json", tmp_path / "b.json")
    assert found.status == 10
    assert rave("benchmark", "compare", tmp_path, tmp_path).status == 12


def test_a_ratio_of_spreads_is_taken_round_by_round():
    assert Spread.ratio(Spread((10.0, 20.0)), Spread((5.0, 40.0))).values == (2.0, 0.5)
    assert Spread((3.0, 1.0, 2.0)).text(" fps") == "2 fps (1 to 3)"
