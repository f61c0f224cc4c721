"""Image sequences: numbered pictures named by a pattern such as ``frames/%05d.png``."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import attrs

from rave_trio import errors

NUMBER = re.compile(r"%(0?)(\d*)d")


@attrs.frozen
class ImageSequence:
    """Numbered files in one folder: ``prefix``, the number with at least ``digits`` digits, ``suffix``."""

    folder: Path
    prefix: str
    digits: int
    suffix: str

    @classmethod
    def of(cls, path: Path) -> ImageSequence | None:
        """The sequence that ``path`` is a pattern of; None if it is the name of one file."""
        found = NUMBER.findall(path.name)
        if len(found) != 1 or path.is_file():
            return None
        prefix, zero, width, suffix = NUMBER.split(path.name)
        return cls(path.parent, prefix, int(width or 1) if zero else 1, suffix)

    def path(self, number: int) -> Path:
        """The file of one number."""
        return self.folder / f"{self.prefix}{number:0{self.digits}}{self.suffix}"

    def numbers(self) -> list[int]:
        """The numbers of the files that exist, rising."""
        name = re.compile(f"{re.escape(self.prefix)}([0-9]{{{self.digits},}}){re.escape(self.suffix)}")
        try:
            matches = (name.fullmatch(entry.name) for entry in self.folder.iterdir())
            numbers = {int(match[1]) for match in matches if match}
        except OSError:
            return []
        return sorted(number for number in numbers if self.path(number).is_file())

    @property
    def libav_pattern(self) -> str:
        """The pattern as libav's image2 demuxer takes it: absolute, with every other percent sign doubled."""
        folder, prefix, suffix = (
            text.replace("%", "%%") for text in (f"{self.folder.absolute()}/", self.prefix, self.suffix)
        )
        return f"{folder}{prefix}%0{self.digits}d{suffix}"


def check_sequence(sequence: ImageSequence, pattern: Path) -> list[int]:
    """The numbers of the sequence's files.  Raises the InputError that fits if there are none or some are missing."""
    numbers = sequence.numbers()
    if not numbers:
        raise errors.InputNotFound(f"there is no file that {pattern} names")
    for number, following in itertools.pairwise(numbers):
        if following != number + 1:
            raise errors.InputTruncated(
                f"{sequence.path(number + 1)} is missing between {sequence.path(number).name} and "
                f"{sequence.path(following).name}",
                remedy="add the missing picture or give the parts by themselves",
            )
    empty = next((number for number in numbers if not sequence.path(number).stat().st_size), None)
    if empty is not None:  # libav takes it for the end
        raise errors.InputEmpty(f"{sequence.path(empty)} is empty", remedy="make that picture again")
    return numbers
