"""The README's table of what each container keeps, from the data that the tests check cell by cell.

    python scripts/kept_table.py [--write]

Prints the table, or writes it into the README between its markers.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "carried" / "kept.toml"
README = ROOT / "README.md"
BEGIN, END = "<!-- kept-table -->\n", "<!-- end of kept-table -->\n"

WORDS = {"refused": "refused", "mov_text": "as mov_text", "subrip": "as SRT", "webvtt": "as WebVTT", "none": "no"}


def table() -> str:
    """The table in Markdown."""
    data = tomllib.loads(DATA.read_text())
    lines = ["| | " + " | ".join(f"`.{name}`" for name in data["containers"]) + " |"]
    lines.append("| --- " * (1 + len(data["containers"])) + "|")
    lines += [f"| {row['what']} | " + " | ".join(WORDS.get(c, c) for c in row["cells"]) + " |" for row in data["row"]]
    return "\n".join(lines) + "\n"


def with_table(readme: str) -> str:
    """The README with the table as it should be."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        README.write_text(with_table(README.read_text()))
    else:
        sys.stdout.write(table())
