"""How long a file says it is, from the outermost framing of its container, without reading what is inside."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

EBML = b"\x1a\x45\xdf\xa3"
SEGMENT = b"\x18\x53\x80\x67"
FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}
BOXES = FIRST_BOXES | {
    b"udta",
    b"meta",
    b"uuid",
    b"moof",
    b"mfra",
    b"sidx",
    b"ssix",
    b"styp",
    b"pnot",
    b"prft",
    b"emsg",
}
"""What stands at the top level of an MP4 or MOV file; anything else after it was put there by another hand."""


def declared_size(path: Path) -> int | None:
    """Bytes that an MP4, MOV or Matroska file should have; None for other formats and open-ended files."""
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] == EBML:
            return _matroska_size(file)
        if head[4:8] in FIRST_BOXES:
            return _boxes_size(file, path.stat().st_size)
    return None


def is_cut_short(path: Path) -> bool:
    """Whether the file ends before it says it does."""
    declared = declared_size(path)
    return declared is not None and path.stat().st_size < declared


def _boxes_size(file: BinaryIO, size: int) -> int | None:
    """Walk the boxes (ISO/IEC 14496-12: each opens with its size and type) to the end of the last one."""
    at = 0
    while at < size:
        file.seek(at)
        header = file.read(16)
        if header[4:8] not in BOXES:
            break
        length = int.from_bytes(header[:4], "big")
        if length == 1:  # the 64-bit size follows the type
            length = int.from_bytes(header[8:16], "big")
        if length == 0:  # to the end of the file, wherever that is
            return None
        at += max(length, 8)
    return at


def _matroska_size(file: BinaryIO) -> int | None:
    """The end of the segment, which follows the EBML header (RFC 8794: a variable-length size after a four-byte id)."""
    file.seek(4)
    header = _read_size(file)
    if header is None:
        return None
    file.seek(header, 1)
    if file.read(4) != SEGMENT:
        return None
    segment = _read_size(file)
    return None if segment is None else file.tell() + segment


def _read_size(file: BinaryIO) -> int | None:
    """An EBML variable-length size; None if it is the reserved 'unknown'."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] ^ (1 << (8 - length))]) + file.read(length - 1), "big")
    return None if value == (1 << (7 * length)) - 1 else value
