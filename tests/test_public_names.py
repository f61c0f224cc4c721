"""The public surface: every name exported once, documented and typed."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing

import pytest

import rave_trio

NAMES = [name for name in rave_trio.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_documented(name):
    assert inspect.getdoc(getattr(rave_trio, name)), f"{name} has no docstring"


@pytest.mark.parametrize("name", [n for n in NAMES if inspect.isclass(getattr(rave_trio, n))])
def test_the_public_methods_of_a_public_class_are_typed(name):
    for method_name, method in inspect.getmembers(getattr(rave_trio, name), inspect.isfunction):
        if not method_name.startswith("_"):
            assert "return" in method.__annotations__, f"{name}.{method_name}"


@pytest.mark.parametrize("name", ["upscale", "upscale_sync", "make_plan"])
def test_a_public_function_is_typed(name):
    function = getattr(rave_trio, name)
    assert set(inspect.signature(function).parameters) | {"return"} <= set(function.__annotations__)


def test_what_type_checkers_see_is_what_there_is():
    """The names under TYPE_CHECKING, the lazy table and __all__ are the same."""
    assert sorted([*rave_trio._HOMES, "__version__"]) == sorted(rave_trio.__all__)
    assert sorted(dir(rave_trio)) == sorted(rave_trio.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="downscale"):
        rave_trio.downscale  # noqa: B018


def test_the_options_of_upscale_are_those_of_the_options_class():
    fields = set(typing.get_type_hints(rave_trio.UpscaleOptions))
    assert {"input", "output", "scale", "model", "precision", "codec", "crf", "preset", "tile"} <= fields


def test_importing_the_package_loads_no_library():
    script = "import sys, rave_trio; sys.exit(len({'av', 'openvino', 'numpy', 'trio'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
