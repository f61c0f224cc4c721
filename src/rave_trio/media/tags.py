"""Tags of files and streams, as each container family calls them, and what of them a container keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rave_trio.media.containers import Container

WRITTEN_BY_MUXERS = {"major_brand", "minor_version", "compatible_brands", "encoder", "software"}
"""Of the file: each muxer writes its own.  The last is AVI's word for the program that wrote it."""

STALE = ("duration", "encoder", "bps", "number_of_frames", "number_of_bytes", "_statistics")
"""Beginnings of stream tags that describe the old file's bits, not its content."""

DEFAULT_HANDLERS = {"videohandler", "soundhandler", "subtitlehandler", "datahandler"}
"""What libav writes where it was told nothing."""

ITUNES_KEYS = {
    "title",
    "artist",
    "album_artist",
    "composer",
    "album",
    "date",
    "comment",
    "genre",
    "copyright",
    "grouping",
    "lyrics",
    "description",
    "synopsis",
    "show",
    "episode_id",
    "network",
    "keywords",
    "creation_time",
    "timecode",
}
"""Tags of a file that MP4 and MOV players know, and libav's muxer writes for them."""

TRACK_KEYS = {"title", "language", "creation_time", "timecode", "handler_name", "vendor_id"}
"""Tags of a stream that MP4 and MOV have a place for."""


_MOV_LANGUAGES = """
alb amh ara arm asm aym aze baq bel ben bul bur cat ces chi dan dut dzo eng epo est fin fra geo ger gre grn guj heb hin
hun ice ind ita jav jpn kan kas kaz khm kin kir kor kur lao lat lav lit mac mal mar may mlg mlt mon nep nor nya ori orm
per pol por pus que ron run rus san sin slk slv snd som spa swa tam tat tel tgk tgl tha tib tir tuk tur uig ukr urd uzb
vie wel yid
"""
_TWO_CODES = """
sqi/alb hye/arm eus/baq mya/bur zho/chi cze/ces nld/dut fre/fra kat/geo deu/ger ell/gre isl/ice mkd/mac msa/may fas/per
rum/ron slo/slk bod/tib cym/wel
"""

MOV_LANGUAGES = frozenset(_MOV_LANGUAGES.split())
"""Languages (ISO 639-2) for which libav's MOV muxer has a code of QuickTime's; others it leaves out."""

SAME_LANGUAGE = dict(pair.split("/") for pair in _TWO_CODES.split())
"""Where ISO 639-2 has two codes for a language: the one that MOV does not know, and the one it does."""


def file_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a file that say something of its content, known ones in the case that every muxer looks for."""
    return {
        key.lower() if key.lower() in ITUNES_KEYS else key: value
        for key, value in tags.items()
        if key.lower() not in WRITTEN_BY_MUXERS
    }


def own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The same of a stream, under the names that every muxer takes: MP4's and MOV's ``name`` is the title."""
    kept = {}
    for key, value in tags.items():
        name = key.lower()
        if name.startswith(STALE) or name == "vendor_id":
            continue
        if name == "handler_name" and value.strip().lower() in DEFAULT_HANDLERS:
            continue
        kept["title" if name == "name" and "title" not in tags else key] = value
    return kept


def stream_tags(tags: Mapping[str, str], container: Container) -> dict[str, str]:
    """The tags of a stream that say something of its content, as ``container`` wants them."""
    kept = own_tags(tags)
    if container.muxer == "mov" and "language" in kept:
        kept["language"] = SAME_LANGUAGE.get(kept["language"], kept["language"])
    return kept


def needs_free_names(tags: Iterable[str]) -> bool:
    """Whether MP4 and MOV keep these tags of a file only under free names, which fewer players read."""
    return any(key.lower() not in ITUNES_KEYS for key in tags)


def lost_tags(tags: Mapping[str, str], container: Container) -> list[str]:
    """What of a stream's tags the container has no place for, in words."""
    if container.any_tags:
        return []
    kept = stream_tags(tags, container)
    lost = [f"the tag {key}" for key in kept if key.lower() not in TRACK_KEYS]
    language = kept.get("language", "und")
    if container.muxer == "mov" and language != "und" and language not in MOV_LANGUAGES:
        lost.append(f"the language {language}")
    return lost
