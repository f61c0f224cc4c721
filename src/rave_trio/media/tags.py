"""Tags of files and streams, as each container family calls them, and what of them a container keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping

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
"""Tags of a file that MP4 players know, and libav's muxer writes for them."""

QUICKTIME_KEYS = {
    "title",
    "artist",
    "album",
    "date",
    "comment",
    "genre",
    "copyright",
    "creation_time",
    "timecode",
}
"""The same of MOV."""

KNOWN_KEYS = {"mp4": ITUNES_KEYS, "mov": QUICKTIME_KEYS}
"""By libav muxer."""

NUMBERED = re.compile(r"[1-9]\d*(/[1-9]\d*)?")
"""What MP4 has a place for in the tags track and disc."""

TRACK_KEYS = {"title", "language", "creation_time", "timecode", "handler_name", "vendor_id"}
"""Tags of a stream that MP4 and MOV have a place for."""

FILE_KEYS = {"filename", "mimetype"}
"""Tags of cover art and attachments that say what file each is."""

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

_TWO_LETTERS = """
aa/aar ab/abk ae/ave af/afr ak/aka am/amh an/arg ar/ara as/asm av/ava ay/aym az/aze ba/bak be/bel bg/bul bi/bis bm/bam
bn/ben bo/bod br/bre bs/bos ca/cat ce/che ch/cha co/cos cr/cre cs/ces cu/chu cv/chv cy/cym da/dan de/deu dv/div dz/dzo
ee/ewe el/ell en/eng eo/epo es/spa et/est eu/eus fa/fas ff/ful fi/fin fj/fij fo/fao fr/fra fy/fry ga/gle gd/gla gl/glg
gn/grn gu/guj gv/glv ha/hau he/heb hi/hin ho/hmo hr/hrv ht/hat hu/hun hy/hye hz/her ia/ina id/ind ie/ile ig/ibo ii/iii
ik/ipk io/ido is/isl it/ita iu/iku ja/jpn jv/jav ka/kat kg/kon ki/kik kj/kua kk/kaz kl/kal km/khm kn/kan ko/kor kr/kau
ks/kas ku/kur kv/kom kw/cor ky/kir la/lat lb/ltz lg/lug li/lim ln/lin lo/lao lt/lit lu/lub lv/lav mg/mlg mh/mah mi/mri
mk/mkd ml/mal mn/mon mr/mar ms/msa mt/mlt my/mya na/nau nb/nob nd/nde ne/nep ng/ndo nl/nld nn/nno no/nor nr/nbl nv/nav
ny/nya oc/oci oj/oji om/orm or/ori os/oss pa/pan pi/pli pl/pol ps/pus pt/por qu/que rm/roh rn/run ro/ron ru/rus rw/kin
sa/san sc/srd sd/snd se/sme sg/sag si/sin sk/slk sl/slv sm/smo sn/sna so/som sq/sqi sr/srp ss/ssw st/sot su/sun sv/swe
sw/swa ta/tam te/tel tg/tgk th/tha ti/tir tk/tuk tl/tgl tn/tsn to/ton tr/tur ts/tso tt/tat tw/twi ty/tah ug/uig uk/ukr
ur/urd uz/uzb ve/ven vi/vie vo/vol wa/wln wo/wol xh/xho yi/yid yo/yor za/zha zh/zho zu/zul
"""

THREE_LETTERS = dict(pair.split("/") for pair in _TWO_LETTERS.split())
"""Languages by their code in ISO 639-1: the one in ISO 639-2, which MP4 and MOV want."""

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


def three_letters(language: str) -> str | None:
    """The code of ISO 639-2 for a language as BCP 47 writes it, without script and region; None if there is none."""
    first = re.split("[-_]", language.lower())[0]
    return THREE_LETTERS.get(first) or (first if re.fullmatch("[a-z]{3}", first) else None)


def stream_tags(tags: Mapping[str, str], container: Container) -> dict[str, str]:
    """The tags of a stream that say something of its content, as ``container`` wants them."""
    kept = own_tags(tags)
    if container.muxer in KNOWN_KEYS and "language" in kept:
        language = three_letters(kept.pop("language"))
        if language is not None:
            kept["language"] = SAME_LANGUAGE.get(language, language) if container.muxer == "mov" else language
    return kept


def needs_free_names(tags: Mapping[str, str], container: Container) -> bool:
    """Whether ``container`` keeps some of these tags of a file only under free names, which fewer players read."""
    return any(_is_unknown(key, value, container) for key, value in tags.items())


def lost_file_tags(tags: Mapping[str, str], container: Container, *, covered: bool) -> list[str]:
    """What of a file's tags the container has no place for, in words.

    ``covered``: it gets cover art, for which MP4 has a place among the names that players know alone.
    """
    if not covered:
        return []
    return [f"the tag {key}" for key, value in file_tags(tags).items() if _is_unknown(key, value, container)]


def _is_unknown(key: str, value: str, container: Container) -> bool:
    known = KNOWN_KEYS.get(container.muxer)
    if known is None or key.lower() in known:
        return False
    return not (container.muxer == "mp4" and key.lower() in ("track", "disc") and NUMBERED.fullmatch(value))


def lost_tags(tags: Mapping[str, str], container: Container, *, of_cover: bool = False) -> list[str]:
    """What of a stream's tags the container has no place for, in words.  Cover art in MP4 has no tags at all."""
    if container.any_tags:
        return []
    kept = stream_tags(tags, container)
    if of_cover:
        return [f"the tag {key}" for key in kept if key.lower() not in FILE_KEYS]
    lost = [f"the tag {key}" for key in kept if key.lower() not in TRACK_KEYS]
    said, code = tags.get("language", "und"), kept.get("language", "und")
    if said != "und" and (code == "und" or (container.muxer == "mov" and code not in MOV_LANGUAGES)):
        lost.append(f"the language {said}")
    elif re.search("[-_]", said):
        lost.append(f"all of the language {said} (it becomes {code})")
    return lost
