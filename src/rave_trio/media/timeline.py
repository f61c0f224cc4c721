"""When frames are shown: rising times, and the packets whose frames have not come.  Knows nothing of decoding."""

from __future__ import annotations

import heapq
import math
from fractions import Fraction
from typing import Any

from av.packet import Packet

NEW_BEGINNING = 1
"""Seconds by which times must go back to be a new beginning and not a slip."""

SMALLEST_STEP = Fraction(1, 1000)
"""Seconds between frames whose times are repaired: what Matroska can tell apart."""

TRUE_TIMES = ("matroska", "mov", "mpeg", "flv", "ogg", "ivf", "nut", "image2", "gif")
"""Beginnings of the names of demuxers whose packets have the presentation times that a muxer was given."""


class Owed:
    """The packets that have been decoded and whose frames have not come."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self.known = 0
        """Frames of which the decoder has said that they are lost."""

    def add(self, packet: Packet[Any]) -> None:
        if packet.pts is not None:
            heapq.heappush(self._heap, (packet.pts, packet.duration or 0))

    def before(self, pts: int | None, *, at_end: bool) -> list[tuple[int, int]]:
        """Times and durations of the packets before ``pts`` that have given no frame; they owe none from now on."""
        missing = []
        while self._heap and (at_end or (pts is not None and self._heap[0][0] <= pts)):
            packet = heapq.heappop(self._heap)
            if packet[0] != pts:
                missing.append(packet)
        return missing


class Clock:
    """Rising times from whatever the container and the decoder give.

    Containers without presentation times (AVI) make libav's pts wrong where frames are reordered; the decode times of
    the frames, which leave in presentation order, are right then.  The one that misbehaved less often is believed.
    """

    def __init__(self, start: int) -> None:
        self.repaired = 0
        self.next = start
        """When the next frame is due."""
        self._previous: int | None = None
        self._shift = 0
        self.shifts: list[int] = []
        """The shift after each new beginning."""
        self._faults = {"pts": 0, "dts": 0}
        self._seen: dict[str, int] = {}

    @property
    def believes_pts(self) -> bool:
        """Whether presentation times have been right so far."""
        return self._faults["pts"] == 0

    def time(self, pts: int | None, dts: int | None, duration: int, time_base: Fraction) -> int:
        """The time of the next frame: above that of the one before."""
        for name, value in (("pts", pts), ("dts", dts)):
            if value is not None:
                self._faults[name] += value <= self._seen.get(name, value - 1)
                self._seen[name] = value
        believed = pts if pts is not None and self._faults["pts"] <= self._faults["dts"] else dts
        found = self.next if believed is None else believed + self._shift
        if self._previous is not None and found <= self._previous:
            self.repaired += 1
            if (self._previous - found) * time_base > NEW_BEGINNING:  # as in recordings that were joined
                self._shift += self.next - found
                self.shifts.append(self._shift)
                found = self.next
            else:
                found = self._previous + max(1, min(duration, math.ceil(SMALLEST_STEP / time_base)))
        self._previous, self.next = found, found + duration
        return found
