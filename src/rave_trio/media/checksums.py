"""Checksums that codecs carry and libav's decoders only log: whether a packet is as it was written."""

from __future__ import annotations

import zlib

FOOTER = 8
"""Bytes at the end of an FFV1 slice with error detection: its size (3), a status (1), a CRC-32 (4); RFC 9043, 4.9."""

REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
"""Bytes with their bits the other way round: zlib's CRC-32 is the reflected one, FFV1's is not."""


class Ffv1Checksums:
    """Checks FFV1 packets, if the first one shows that the stream has checksums.  One caller at a time."""

    def __init__(self) -> None:
        self._present: bool | None = None

    def holds(self, packet: bytes) -> bool:
        """Whether every slice of the packet agrees with its checksum; true too where there is none."""
        if self._present is None:
            self._present = _slices_agree(packet)
        return not self._present or _slices_agree(packet)


def _slices_agree(packet: bytes) -> bool:
    """Walk the slices from the last to the first, as their sizes stand at their ends."""
    end = len(packet)
    while end > 0:
        if end < FOOTER:
            return False
        begin = end - FOOTER - int.from_bytes(packet[end - FOOTER : end - FOOTER + 3], "big")
        # Over a slice with its own checksum a CRC that begins at 0 is 0; zlib inverts before and after.
        if begin < 0 or zlib.crc32(packet[begin:end].translate(REVERSED), 0xFFFFFFFF) != 0xFFFFFFFF:
            return False
        end = begin
    return True
