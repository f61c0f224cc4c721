"""The report as a page: whole, readable without network, eyes or colours, and true to the run."""

from __future__ import annotations

import base64
import io
import os
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import av
import numpy as np
import pytest

import rave_trio
from rave_trio.media.crops import take_crops
from rave_trio.media.probe import probe
from rave_trio.observe import svg

EMPTY = {"meta", "img", "br"}
SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """Checks that every element is closed in its turn, and keeps what there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def picture(png: bytes) -> np.ndarray:
    with av.open(io.BytesIO(png)) as file:
        return next(file.decode(video=0)).to_ndarray(format="rgb24")


@pytest.fixture(scope="module")
def made(bunny, tmp_path_factory, nearest_x2) -> tuple[str, rave_trio.PipelineReport]:
    folder = tmp_path_factory.mktemp("page")
    report = rave_trio.upscale_sync(
        bunny, folder / "out.mkv", model=str(nearest_x2), codec="ffv1", report=folder / "report.html"
    )
    assert sorted(p.name for p in folder.iterdir()) == ["out.mkv", "report.html"]
    return (folder / "report.html").read_text(), report


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(made):
    text, _ = made
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}]
    assert not page.all("script") + page.all("link") + page.all("iframe")
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert not re.search(r"https?:|//[a-z]|url\(|@import", re.sub(r'src="data:[^"]*"', "", text))
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")


def test_every_plot_has_a_title_a_description_and_a_table_behind_it(made):
    text, _ = made
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    titles = set()
    for plot in plots:
        root = ElementTree.fromstring(plot)
        title, told = root.find("title"), root.find("desc")
        assert root.get("role") == "img"
        assert root.get("aria-labelledby") == f"{title.get('id')} {told.get('id')}"
        assert title.text
        assert told.text
        titles.add(title.text)
    assert {"Stage utilisation", "Latency of calls"} <= titles
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for section in re.findall(r"<section.*?</section>", text, re.DOTALL):
        assert ("<svg" in section) <= ("<table" in section)
    assert all(image["alt"] for image in Page(text).all("img"))


def test_the_page_says_what_the_report_says(made):
    text, report = made
    for said in (
        "bunny.mkv to out.mkv",
        f"{report.fps:.2f} fps",
        "320x180 to 640x360",
        report.metrics.bottleneck,
        report.fingerprint.plan_hash,
        report.fingerprint.model_sha256,
        "audio aac: copied",
    ):
        assert said in text
    for stage in report.metrics.stages:
        assert f"{100 * stage.busy / report.metrics.elapsed:.1f}%" in text


def test_the_crops_are_the_same_place_before_and_after(made):
    text, _ = made
    before, after = (
        picture(base64.b64decode(data)) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    )
    assert before.shape == (128, 128, 3)
    assert after.shape == (256, 256, 3)
    error = np.abs(after[::2, ::2].astype(int) - before)
    assert np.median(error) <= 2, "the model repeats every pixel; only chroma is converted"
    assert before.std() > 20, "a place with something to see"


@pytest.mark.parametrize("output", ["out.mkv", "out.mp4", "%03d.png"])
@pytest.mark.parametrize("size", [(64, 48), (33, 17)])
def test_crops_are_taken_of_small_frames_and_from_any_container(clip, tmp_path, nearest_x2, output, size):
    source = clip(width=size[0], height=size[1], pixel_format="yuv444p", pts=range(50, 58))
    rave_trio.upscale_sync(source, tmp_path / output, model=str(nearest_x2))
    crops = take_crops(probe(source), tmp_path / output, 0.16, 2)
    assert crops is not None
    before, after = picture(crops.before), picture(crops.after)
    assert before.shape == (size[1], size[0], 3)
    assert after.shape == (2 * size[1], 2 * size[0], 3)
    assert crops.seconds == pytest.approx(0.16, abs=0.001)
    assert np.median(np.abs(after[::2, ::2].astype(int) - before)) <= 3


def test_names_and_notes_are_text_on_the_page(clip, tmp_path, nearest_x2):
    source = clip("<b>&.mkv", frames=2)
    page = tmp_path / "report.html"
    rave_trio.upscale_sync(source, tmp_path / "<i>.mkv", model=str(nearest_x2), report=page)
    text = page.read_text()
    assert "&lt;b&gt;&amp;.mkv to &lt;i&gt;.mkv" in text
    assert "<b>" not in text
    Page(text)


def test_a_name_that_is_no_text_keeps_no_page_from_being_made(clip, tmp_path, nearest_x2):
    page = tmp_path / "report.html"
    report = rave_trio.upscale_sync(
        clip(os.fsdecode(b"\xff.mkv"), frames=1), tmp_path / "out.mkv", model=str(nearest_x2), report=page
    )
    assert report.notes == ()
    assert r"\udcff.mkv to out.mkv" in page.read_text()


def test_a_report_that_cannot_be_written_is_a_note_and_the_result_stands(clip, tmp_path, nearest_x2):
    (tmp_path / "reports").mkdir()

    def watch(progress: rave_trio.Progress) -> None:
        if (tmp_path / "reports").exists():
            (tmp_path / "reports").rmdir()

    report = rave_trio.upscale_sync(
        clip(), tmp_path / "out.mkv", model=str(nearest_x2), report=tmp_path / "reports" / "r.html", on_progress=watch
    )
    assert any("r.html could not be written: No such file or directory" in note for note in report.notes)
    assert (tmp_path / "out.mkv").exists()


def test_a_result_that_has_gone_is_reported_without_pictures(clip, tmp_path, nearest_x2, monkeypatch):
    from rave_trio.observe import page

    report = rave_trio.upscale_sync(clip(), tmp_path / "out.mkv", model=str(nearest_x2))
    (tmp_path / "out.mkv").unlink()
    page.write_report(report, tmp_path / "r.html")
    assert not Page((tmp_path / "r.html").read_text()).all("img")


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0], [1e-9, 1e12], [None, None], [1.0, None, 2.0]])
def test_lines_are_drawn_of_anything(values):
    drawn = svg.lines("t", "d", [float(n) for n in range(len(values))], {"a": values}, str, str)
    ElementTree.fromstring(drawn)
    assert "nan" not in drawn
    for points in re.findall(r'points="([^"]*)"', drawn):
        for x, y in (map(float, point.split(",")) for point in points.split()):
            assert 0 <= x <= svg.WIDTH
            assert 0 <= y <= svg.HEIGHT


def test_a_gap_in_a_line_is_a_gap():
    drawn = svg.lines("t", "d", [0, 1, 2, 3], {"a": [1.0, None, 2.0, 3.0]}, str, str)
    assert [len(points.split()) for points in re.findall(r'points="([^"]*)"', drawn)] == [1, 2]


@pytest.mark.parametrize("rows", [{}, {"a": []}, {"a": [(1e-6, 1)]}, {"a": [(1e-3, 5), (2e3, 1)], "b": [(1.0, 7)]}])
def test_histograms_are_drawn_of_anything(rows):
    drawn = svg.histograms("t", "d", rows, str)
    ElementTree.fromstring(drawn)
    assert drawn.count("<rect") == sum(len(row) for row in rows.values())


def test_bars_are_as_long_as_their_shares():
    drawn = svg.shares("t", "d", {"a": [0.5, 0.25, 0.0]})
    widths = [float(width) for width in re.findall(r'class="c\d" x="[\d.]+" y="\d+" width="([\d.]+)"', drawn)]
    assert widths == [svg.WIDTH / 2, svg.WIDTH / 4, 0]


def test_the_findings_of_an_audit_are_on_the_page(clip, tmp_path, nearest_x2):
    report = rave_trio.upscale_sync(
        clip(), tmp_path / "out.mkv", model=str(nearest_x2), audit=True, report=tmp_path / "r.html"
    )
    text = (tmp_path / "r.html").read_text()
    assert report.audit.findings
    for finding in report.audit.findings:
        assert f"audit {finding.code}" in text
