"""The soak sees what grows."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "soak.py"


@pytest.fixture(scope="module")
def soak():
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def samples(soak, **growth):
    """A hundred samples, a second apart, of which some quantity grows by so much in each."""
    base = {"resident": 100_000_000, "descriptors": 10, "threads": 5}
    return [
        soak.Sample(at, **{name: value + growth.get(name, 0) * at for name, value in base.items()}) for at in range(100)
    ]


def test_what_stays_as_it_is_is_flat(soak):
    assert list(soak.grown(samples(soak))) == []


@pytest.mark.parametrize(("name", "growth"), [("resident", 100_000), ("descriptors", 1), ("threads", 1)])
def test_what_grows_is_named(soak, name, growth):
    (said,) = soak.grown(samples(soak, **{name: growth}))
    assert name in said


def test_what_grows_while_it_warms_up_does_not_count(soak):
    taken = samples(soak)
    taken[:20] = [soak.Sample(at, 50_000_000, 5, 2) for at in range(20)]
    assert list(soak.grown(taken)) == []
