"""What was found wrong, or out of the ordinary, in an input while it was read."""

from __future__ import annotations

from typing import Any

import attrs

LISTED = 100
"""Times of damage that are listed one by one; beyond that they are only counted."""


@attrs.define
class Findings:
    """Counts over one reading of an input; grows until the reading ends."""

    unusable_packets: int = 0
    """Packets before the first whole picture that could not be decoded."""
    repeated_frames: int = 0
    """Frames that were damaged or missing and show the picture before them again."""
    repeated_at: list[float] = attrs.Factory(list)
    """When, in seconds: the first hundred."""
    repaired_times: int = 0
    """Frames whose time did not follow the one before and was replaced."""
    interlaced_frames: int = 0
    """Frames that were flagged interlaced."""
    deinterlaced: bool = False
    late_streams: bool = False
    """Whether streams began so late in the file that they are not known of."""
    captioned_frames: int = 0
    """Frames that carry closed captions."""
    captions_lost: int = 0
    """Frames whose closed captions the decoder does not give out."""

    def repeated(self, seconds: float) -> None:
        """Count one frame that was repeated."""
        self.repeated_frames += 1
        if len(self.repeated_at) < LISTED:
            self.repeated_at.append(round(seconds, 6))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return attrs.asdict(self)

    def notes(self) -> list[str]:
        """The same for people; empty if all was well."""
        notes = []
        if self.unusable_packets:
            notes.append(f"{self.unusable_packets} packets before the first whole picture were left out")
        if self.repeated_frames:
            times = ", ".join(f"{seconds:.2f}" for seconds in self.repeated_at[:5])
            more = ", ..." if self.repeated_frames > 5 else ""
            notes.append(
                f"{self.repeated_frames} damaged frames show the picture before them again (at {times}{more} s)"
            )
        if self.repaired_times:
            notes.append(f"{self.repaired_times} frames had a time before their predecessor's and were moved behind it")
        if self.late_streams:
            notes.append("streams that begin late in the file are left out: nothing announced them")
        if self.captions_lost:
            notes.append(f"the closed captions of {self.captions_lost} frames are left out: NVDEC does not give them")
        if self.interlaced_frames:
            what = "deinterlaced" if self.deinterlaced else "left as they are"
            notes.append(f"{self.interlaced_frames} interlaced frames were {what}")
        return notes
