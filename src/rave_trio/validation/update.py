"""The hashes of a fixture's file, brought up to date.  What was written by hand stays as it is, comments included."""

from __future__ import annotations

import json
import re
import tomllib

from rave_trio.errors import UsageError
from rave_trio.validation.fixture import Hashes


def updated(text: str, made: Hashes) -> str:
    """A fixture's TOML with the hashes ``made`` here, in place of those of the same device, backend and precision.

    Tables ``[[hashes]]`` are the end of the file: from the first of them on it is written anew.  Raises UsageError if
    something else comes after.
    """
    before = tomllib.loads(text)
    entries = [Hashes(**{**each, "frames": tuple(each["frames"])}) for each in before.get("hashes", [])]
    at = next((at for at, each in enumerate(entries) if each.made_on == made.made_on), len(entries))
    entries[at : at + 1] = [made]
    by_hand = re.split(r"^[ \t]*\[\[[ \t]*hashes[ \t]*\]\]", text, maxsplit=1, flags=re.MULTILINE)[0].rstrip()
    result = "\n\n".join([by_hand, *map(_table, entries)]) + "\n"
    try:
        kept = tomllib.loads(by_hand)
    except tomllib.TOMLDecodeError:
        kept = {}
    if kept != {name: value for name, value in before.items() if name != "hashes"}:
        raise UsageError(
            "something else comes after the hashes, which would be lost", remedy="move [[hashes]] to the file's end"
        )
    return result


def _table(hashes: Hashes) -> str:
    frames = "".join(f'    "{digest}",\n' for digest in hashes.frames or ())
    named = {"device": hashes.device, "backend": hashes.backend, "precision": hashes.precision}
    # JSON's texts are TOML's too.
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in named.items()]
    return "\n".join(["[[hashes]]", *lines, f"frames = [\n{frames}]"])
