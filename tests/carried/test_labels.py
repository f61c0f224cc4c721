"""Chapters, tags and languages in containers that know others: what comes out, and what is said of the rest."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
from av.packet import Packet

import rave_trio
from rave_trio.media import chapters
from rave_trio.media.containers import CONTAINERS
from rave_trio.media.tags import THREE_LETTERS, lost_file_tags, lost_tags, needs_free_names, stream_tags, three_letters

MP4, MOV, MKV = (CONTAINERS[extension] for extension in (".mp4", ".mov", ".mkv"))

SIMPLE = {"preset": "ultrafast"}
"""Frames in the order of their times."""


def copied(source, target, change):
    """A copy of ``source`` that ``change`` may alter before anything is written; it returns further packets."""
    with av.open(source) as before, av.open(target, "w") as after:
        copies = [after.add_stream_from_template(stream, opaque=True) for stream in before.streams]
        further = change(after) or []
        packets = [packet for packet in before.demux() if packet.size]
        for packet in packets:
            packet.stream = copies[packet.stream.index]
            packet.dts = packet.pts if packet.dts is None else packet.dts
        for packet in [*packets, *further]:
            after.mux_one(packet)
    return target


@pytest.fixture
def upscaled(tmp_path, nearest_x2):
    def run(source, extension):
        target = tmp_path / f"out.{extension}"
        rave_trio.upscale_sync(source, target, model=str(nearest_x2), preset="ultrafast", drop_unsupported=True)
        return target

    return run


def chapter(start, end, title=None, number=1):
    named = {} if title is None else {"title": title}
    return {"id": number, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": named}


def told(found):
    """Starts and ends in milliseconds, and titles."""
    times = [[c[name] * c["time_base"] * 1000 for name in ("start", "end")] for c in found]
    return [(*when, c["metadata"].get("title")) for when, c in zip(times, found, strict=True)]


def chapters_of(path):
    with av.open(path) as container:
        return told(container.chapters())


LATE = [chapter(300, 500), chapter(500, 1000, "Second")]
GAPS = [chapter(0, 200, "One"), chapter(400, 600, "Two"), chapter(600, 700), chapter(700, 800, "Four")]


@pytest.mark.parametrize("extension", ["mp4", "mov"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (LATE, [(0, 300, ""), (300, 500, ""), (500, 1000, "Second")]),
        (GAPS, [(0, 200, "One"), (200, 400, ""), (400, 600, "Two"), (600, 700, ""), (700, 800, "Four")]),
        ([chapter(0, 500), chapter(500, 1000)], [(0, 500, ""), (500, 1000, "")]),
        ([chapter(0, 600, "A"), chapter(500, 1000, "B")], [(0, 500, "A"), (500, 1000, "B")]),
    ],
    ids=["late", "gaps", "untitled", "overlapping"],
)
def test_chapters_keep_their_starts_and_titles_where_there_may_be_no_gaps(
    clip, tmp_path, upscaled, extension, given, expected
):
    source = copied(clip(frames=25, options=SIMPLE), tmp_path / "chapters.mkv", lambda out: out.set_chapters(given))
    target = upscaled(source, extension)
    assert chapters_of(target) == expected
    assert rave_trio.compare(source, target).differences == ()


def test_chapters_are_left_alone_where_there_may_be_gaps(clip, tmp_path, upscaled):
    source = copied(clip(frames=25, options=SIMPLE), tmp_path / "chapters.mkv", lambda out: out.set_chapters(GAPS))
    assert chapters_of(upscaled(source, "mkv")) == told(GAPS)
    assert chapters.notes(GAPS, MKV) == []


def test_what_changes_about_chapters_is_said():
    for given in (LATE, GAPS):
        assert chapters.notes(given, MP4) == [
            ".mp4 cannot hold times without a chapter: there are untitled ones in their place"
        ]
    assert chapters.notes([chapter(0, 600, "A"), chapter(500, 1000, "B")], MOV) == [
        ".mov cannot hold chapters that overlap: each ends where the next begins"
    ]
    assert chapters.notes([chapter(0, 500, "A"), chapter(500, 1000, "B")], MP4) == []
    assert chapters.notes([], MP4) == []


def test_another_container_without_the_chapters_titles_is_told_apart(clip, tmp_path):
    one, other = (
        copied(clip(frames=25, options=SIMPLE), tmp_path / name, lambda out, found=found: out.set_chapters(found))
        for name, found in [("one.mkv", LATE), ("other.mp4", chapters.joined([chapter(300, 500, "x"), LATE[1]]))]
    )
    assert [d.what for d in rave_trio.compare(one, other).differences if "chapter" in d.what] == ["chapter 2 title"]


COMMON = {"title": "A film", "artist": "Somebody", "comment": "Good", "date": "2020", "genre": "Drama"}
RARER = dict.fromkeys(
    ["album_artist", "composer", "description", "synopsis", "lyrics", "grouping", "keywords", "show", "network"], "Text"
)


@pytest.mark.parametrize("extension", ["mp4", "mov"])
@pytest.mark.parametrize("tags", [COMMON, {**COMMON, **RARER}, {"track": "3/9", "disc": "1"}, {"Mood": "merry"}])
def test_tags_of_the_file_come_out_whatever_they_are_called(clip, tmp_path, upscaled, extension, tags):
    source = copied(clip(frames=5, options=SIMPLE), tmp_path / "tagged.mkv", lambda out: out.metadata.update(tags))
    assert rave_trio.compare(source, upscaled(source, extension)).differences == ()


def test_free_names_are_taken_only_where_a_container_needs_them():
    assert not needs_free_names(COMMON, MP4)
    assert not needs_free_names(COMMON, MOV)
    assert not needs_free_names({**COMMON, **RARER, "track": "3/9"}, MP4)
    assert needs_free_names(RARER, MOV)
    assert needs_free_names({"track": "B2"}, MP4)
    assert needs_free_names({"mood": "merry"}, MP4)


def test_what_cover_art_leaves_no_place_for_is_known(clip, tmp_path, upscaled, image):
    def change(out):
        out.metadata.update({"title": "A film", "mood": "merry"})
        out.add_attachment("cover.jpg", "image/jpeg", image)

    source = copied(clip(frames=5, options=SIMPLE), tmp_path / "covered.mkv", change)
    found = rave_trio.compare(source, upscaled(source, "mp4"))
    assert [(d.what, d.result) for d in found.differences] == [("tag mood", None)]
    assert lost_file_tags({"title": "A film", "mood": "merry"}, MP4, covered=True) == ["the tag mood"]
    assert lost_file_tags({"mood": "merry"}, MP4, covered=False) == []
    assert lost_file_tags({"mood": "merry"}, MKV, covered=True) == []
    found = rave_trio.compare(source, upscaled(source, "mov"))  # which holds no cover, but every tag
    assert [d.what for d in found.differences] == ["cover art"]


@pytest.fixture
def image():
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 32, 32, "yuvj420p", Fraction(1, 25)
    frame = av.VideoFrame(32, 32, "yuvj420p")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def test_what_is_said_of_a_cover_and_of_an_attachment_stays(clip, tmp_path, upscaled, image):
    def described(description):
        def change(out):
            for name, kind, data in (("cover.jpg", "image/jpeg", image), ("notes.txt", "text/plain", b"read me")):
                out.add_attachment(name, kind, data).metadata.update(description)

        return copied(clip(frames=5, options=SIMPLE), tmp_path / f"described{len(description)}.mkv", change)

    source = described({"title": "Front", "comment": "by me"})
    assert rave_trio.compare(source, upscaled(source, "mkv")).differences == ()
    found = rave_trio.compare(source, described({}))
    assert [d.what for d in found.differences] == ["attachment notes.txt", "cover art"]
    assert "title 'Front'" in found.differences[1].source
    tags = {"filename": "cover.jpg", "mimetype": "image/jpeg", "title": "Front"}
    assert lost_tags(tags, MP4, of_cover=True) == ["the tag title"]


@pytest.mark.parametrize(
    ("language", "mp4", "mov", "lost"),
    [
        ("deu", "deu", "ger", None),
        ("ENG", "eng", "eng", None),
        ("en", "eng", "eng", None),
        ("en-US", "eng", "eng", "all of the language en-US (it becomes eng)"),
        ("zh-Hans", "zho", "chi", "all of the language zh-Hans (it becomes zho)"),
        ("x-klingon", None, None, "the language x-klingon"),
        ("english", None, None, "the language english"),
        ("und", None, None, None),
    ],
)
def test_a_language_is_written_as_the_container_wants_it(language, mp4, mov, lost):
    tags = {"language": language}
    found = [stream_tags(tags, container).get("language") for container in (MP4, MOV, MKV)]
    assert [None if code == "und" else code for code in found[:2]] == [mp4, mov]
    assert found[2] == language
    assert lost_tags(tags, MP4) == ([lost] if lost else [])
    assert lost_tags(tags, MKV) == []


def test_languages_have_one_code_each():
    assert len(THREE_LETTERS) == 183
    assert all(len(two) == 2 and three_letters(two) == three for two, three in THREE_LETTERS.items())


@pytest.mark.parametrize("extension", ["mp4", "mov"])
def test_languages_of_two_letters_come_out(clip, tmp_path, upscaled, extension):
    def change(out):
        packets = []
        for language in ("en", "de-AT", "fr"):
            text = out.add_mux_stream("subrip")
            text.time_base = Fraction(1, 1000)
            text.metadata["language"] = language
            packet = Packet(b"Hello " + language.encode())
            packet.stream, packet.time_base, packet.pts, packet.dts, packet.duration = text, text.time_base, 40, 40, 100
            packets.append(packet)
        return packets

    source = copied(clip(frames=5, options=SIMPLE), tmp_path / "spoken.mkv", change)
    target = upscaled(source, extension)
    assert rave_trio.compare(source, target).differences == ()
    with av.open(target) as result:
        languages = [stream.metadata["language"] for stream in result.streams.subtitles]
    assert languages == ["eng", "ger" if extension == "mov" else "deu", "fra"]
