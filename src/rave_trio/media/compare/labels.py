"""What streams and files say about themselves, in words that containers share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rave_trio.media.compare.contents import Labels

MUXER_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "software", "handler_name", "vendor_id"}
"""Tags that muxers write by themselves: brands, and who wrote the file; ``software`` is AVI's word for that."""

MUXER_TAG_BEGINNINGS = ("duration", "bps", "number_of_", "_statistics")
"""Beginnings of the tags in which Matroska muxers count a stream's bits."""

LANGUAGES = {
    "alb": "sqi",
    "arm": "hye",
    "baq": "eus",
    "bur": "mya",
    "chi": "zho",
    "cze": "ces",
    "dut": "nld",
    "fre": "fra",
    "geo": "kat",
    "ger": "deu",
    "gre": "ell",
    "ice": "isl",
    "mac": "mkd",
    "mao": "mri",
    "may": "msa",
    "per": "fas",
    "rum": "ron",
    "slo": "slk",
    "tib": "bod",
    "wel": "cym",
}
"""ISO 639-2's two codes for one language: bibliographic and terminological."""


def lower_keys(tags: Mapping[str, str]) -> dict[str, str]:
    """The same tags with their keys in lower case, as containers do not agree about case."""
    return {key.lower(): value for key, value in tags.items()}


def labels_of(stream: Any, container_tags: Mapping[str, str]) -> Labels:
    """The labels of a libav stream in a container with these tags.

    MP4 and MOV put the file's time of creation into every track, and call a track's title its name.
    """
    tags = lower_keys(stream.metadata)
    tags.pop("timecode", None)
    if tags.get("creation_time") == lower_keys(container_tags).get("creation_time"):
        tags.pop("creation_time", None)
    name = tags.pop("name", None)
    title = tags.pop("title", None)
    language = tags.pop("language", None)
    return Labels(
        language=None if language == "und" else language,
        title=title or name,
        disposition=frozenset(flag.name for flag in type(stream.disposition) if stream.disposition & flag),
        tags=tags,
    )


def own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that are no muxer's; MP4 gives some of them twice, once with a language behind the key."""
    return {
        key: value
        for key, value in tags.items()
        if key not in MUXER_TAGS
        and not key.startswith(MUXER_TAG_BEGINNINGS)
        and ("-" not in key or tags.get(key.rpartition("-")[0]) != value)
    }


def same_tag(key: str, one: str | None, other: str | None) -> bool:
    """Whether two values of a tag are the same; times of creation may be written in different ways."""
    return one == other or (key == "creation_time" and _instant(one) == _instant(other))


def _instant(text: str | None) -> datetime | str | None:
    """Without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return text
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def same_language(one: str | None, other: str | None) -> bool:
    """Whether two codes mean the same language."""
    return LANGUAGES.get(one or "", one) == LANGUAGES.get(other or "", other)
