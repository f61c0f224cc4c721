"""Which libraries are installed."""

from __future__ import annotations

from rave_trio.devices.libraries import installed


def test_what_this_project_needs_is_installed_and_is_found_by_its_metadata():
    versions = {library.name: library.version for library in installed()}
    assert versions["openvino"]


def test_a_library_is_found_by_any_of_its_distributions(tmp_path, monkeypatch):
    folder = tmp_path / "tensorrt_rtx-9.8.7.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorrt-rtx\nVersion: 9.8.7\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert {library.name: library.version for library in installed()}["tensorrt_rtx"]
