"""``rave-trio compare``: one line and notes for people, one object for programs, a status as of cmp and diff."""

from __future__ import annotations

import av
import pytest


@pytest.fixture
def pair(clip):
    """A clip, and what it would be at twice the size."""
    return clip(frames=3, title="A film"), clip("out.mkv", frames=3, width=128, height=96, title="A film")


def test_compare_says_same_in_one_line_and_returns_0(rave, pair):
    result = rave("compare", *pair)
    assert result.status == 0
    assert result.stdout == "same: 3 frames, x2, largest time error 0 s\n"
    assert result.stderr == ""


def test_compare_lists_what_differs_and_returns_1(rave, clip, pair):
    other = clip("other.mkv", frames=2, width=128, height=96)
    result = rave("compare", pair[0], other)
    assert result.status == 1
    first, *rest = result.stdout.splitlines()
    assert first == "different: 2 frames, x2, largest time error 0 s"
    assert [line.split("  ")[0] for line in rest] == ["video frames", "tag title"]
    assert rest[0].endswith("3 -> 2")
    assert rest[1].endswith("A film -> nothing")


def test_compare_adds_what_is_worth_knowing(rave, clip, pair):
    result = rave("compare", pair[0], clip("out.mp4", frames=3, width=128, height=96, codec="libx265", title="A film"))
    assert result.status == 0
    assert "note: video codec: h264 became hevc" in result.stdout


def test_compare_prints_exactly_one_json_object(rave, clip, pair):
    same = rave("compare", *pair, "--json")
    assert same.status == 0
    document = same.json
    assert (document["command"], document["ok"], document["same"], document["scale"]) == ("compare", True, True, 2)
    assert (document["differences"], document["information"]) == ([], [])
    other = rave("compare", pair[0], clip("other.mkv", frames=3, title="B"), "--json")
    assert other.status == 1
    assert other.json["ok"] is True
    assert other.json["differences"] == [{"what": "tag title", "source": "A film", "result": "B"}]


def test_compare_takes_the_number_of_the_video(rave, pair):
    assert rave("compare", *pair, "--video-stream", "0").status == 0
    wrong = rave("compare", *pair, "--video-stream", "4")
    assert wrong.status == 2
    assert "stream #4" in wrong.stderr


@pytest.mark.parametrize("missing", [0, 1])
def test_compare_returns_the_errors_own_status_for_a_file_that_cannot_be_used(rave, pair, tmp_path, missing):
    files = [*pair]
    files[missing] = tmp_path / "missing.mkv"
    result = rave("compare", *files)
    assert result.status == 10
    assert "missing.mkv" in result.stderr
    assert result.stdout == ""
    assert rave("compare", *files, "--json").json["error"]["kind"] == "input_not_found"


def test_compare_says_in_its_help_what_the_status_means(rave):
    said = " ".join(rave("compare", "--help").stdout.split())
    assert "The exit status is 0 if they are the same, 1 if they differ" in said
    assert "1 compare found differences" in " ".join(rave("--help").stdout.split())


def test_comparing_changes_neither_file(rave, pair):
    before = [path.read_bytes() for path in pair]
    rave("compare", *pair)
    assert [path.read_bytes() for path in pair] == before
    with av.open(pair[0]) as container:
        assert container.streams.video[0].width == 64
