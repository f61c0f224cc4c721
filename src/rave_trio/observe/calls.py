"""The log's finest level: a line for every call of every stage."""

from __future__ import annotations

import logging

LEVEL = 5
"""Below logging.DEBUG."""

log = logging.getLogger("rave_trio.calls")


class CallLog:
    """An Observer of the pipeline that logs every call when it is back."""

    @staticmethod
    def wanted() -> bool:
        """Whether anybody reads that much."""
        return log.isEnabledFor(LEVEL)

    def span(self, stage: str, activity: str, start: float, end: float, frame: int | None) -> None:
        if activity == "busy":
            log.log(LEVEL, "%s", stage, extra={"frame": frame, "seconds": round(end - start, 6)})

    def depth(self, channel: str, depth: int) -> None:
        """Not logged: the trace shows it."""
