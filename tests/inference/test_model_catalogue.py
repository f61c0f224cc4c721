"""The shipped models are what the catalogue says, and names and paths find them."""

from __future__ import annotations

import pytest

from rave_trio import errors
from rave_trio.inference.catalogue import catalogue, find_model, model_for_scale, sha256_of
from rave_trio.inference.openvino_model import Model

NAMES = list(catalogue())


@pytest.mark.parametrize("name", NAMES)
class TestEachShippedModel:
    def test_loads_with_the_scale_it_states(self, name):
        assert Model(*find_model(name)).metadata.scale == catalogue()[name].scale

    def test_has_the_sha256_it_states(self, name):
        entry = catalogue()[name]
        assert sha256_of(entry.path) == entry.sha256 == Model(*find_model(name)).metadata.sha256

    def test_is_found_by_its_name(self, name):
        assert find_model(name) == (name, catalogue()[name].path)

    def test_is_found_by_its_scale(self, name):
        entry = catalogue()[name]
        assert model_for_scale(entry.scale) == entry

    def test_states_its_licence_and_source(self, name):
        entry = catalogue()[name]
        assert entry.licence
        assert entry.source


def test_a_scale_that_no_shipped_model_has_is_refused_with_those_that_there_are():
    with pytest.raises(errors.UsageError, match="no shipped model enlarges 7 times") as caught:
        model_for_scale(7)
    assert caught.value.remedy == "use --scale 2, 3, 4, or --model"


def test_a_path_gives_the_file_under_its_stem(tmp_path):
    path = tmp_path / "sharp.v2.onnx"
    path.touch()
    assert find_model(str(path)) == ("sharp.v2", path)


def test_a_shipped_name_wins_over_a_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAMES[0]).touch()
    assert find_model(NAMES[0]) == (NAMES[0], catalogue()[NAMES[0]].path)


@pytest.mark.parametrize("name", ["animevideo-x5", "no/such/file.onnx", "x" * 5000, "nul\0inside"])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(errors.ModelUnknown) as caught:
        find_model(name)
    assert repr(name) in str(caught.value)
    assert str(caught.value).endswith("; shipped are animevideo-x2, animevideo-x3, animevideo-x4")


def test_a_folder_is_refused_as_one(tmp_path):
    with pytest.raises(errors.ModelUnknown, match="is a folder, not an ONNX file"):
        find_model(str(tmp_path))


def test_what_is_neither_file_nor_folder_is_refused():
    with pytest.raises(errors.ModelUnknown, match="/dev/null is not a file"):
        find_model("/dev/null")
