"""Every cell of the table of what each container keeps: the file is made and compared with its input."""

from __future__ import annotations

import tomllib
from pathlib import Path

import av
import pytest

import rave_trio
from rave_trio import errors

TABLE = tomllib.loads(Path(__file__).with_name("kept.toml").read_text())
CELLS = [
    pytest.param(row["case"], container, cell, id=f"{row['case']}-{container}")
    for row in TABLE["row"]
    for container, cell in zip(TABLE["containers"], row["cells"], strict=True)
]
CONVERTED = ("mov_text", "subrip", "webvtt")


def target_in(folder: Path, container: str) -> Path:
    return folder / ("out-%03d.png" if container == "png" else f"out.{container}")


@pytest.fixture
def upscale(nearest_x2):
    def run(source, target, **options):
        preset = {".webm": "12", ".png": None}.get(target.suffix, "ultrafast")
        return rave_trio.upscale_sync(source, target, model=str(nearest_x2), preset=preset, **options)

    return run


@pytest.mark.parametrize(("case", "container", "cell"), CELLS)
def test_the_table_says_what_comes_out(made, upscale, tmp_path, case, container, cell):
    source, target = made(case), target_in(tmp_path, container)
    if cell == "refused":
        with pytest.raises(errors.ContainerRejectsStream, match="cannot hold"):
            upscale(source, target)
        assert list(tmp_path.iterdir()) == []
        upscale(source, target, drop_unsupported=True)
        if container != "png":
            found = rave_trio.compare(source, target)
            assert found.differences, "what was refused is there after all"
        return
    report = upscale(source, target)
    if container == "png" and cell in ("none", "converted"):
        return
    found = rave_trio.compare(source, target)
    if cell == "none":
        assert found.differences
        return
    if cell == "noted":
        assert found.differences
        assert any("has no place for" in note for note in report.plan.notes)
        return
    assert found.differences == ()
    assert report.frames == found.frames
    converted = [c.codec for c in report.plan.carriage if c.fate == "converted"]
    if cell in CONVERTED:
        assert set(converted) == {cell}
        with av.open(target) as result:
            assert {s.codec_context.codec.canonical_name for s in result.streams.subtitles} == {cell}
    else:
        assert not converted
    if cell == "kept":
        rounded = "matroska" in report.plan.media.format or container in ("mkv", "webm")
        assert found.largest_time_error <= (0.001 if rounded else 0)


def test_the_table_has_a_row_for_every_case_and_a_cell_for_every_container():
    cases = [row["case"] for row in TABLE["row"]]
    assert len(cases) == len(set(cases))
    assert all(len(row["cells"]) == len(TABLE["containers"]) for row in TABLE["row"])
