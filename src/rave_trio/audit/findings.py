"""What an audit says: findings, each with a level, a code that stays and figures, and the report that they make."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import attrs


class Level(IntEnum):
    """How a check came out, the worst last, so that levels can be compared; ``str`` gives what reports say."""

    PASS = 0
    WARN = 1
    """Something that a person should look at, or that could not be judged."""
    FAIL = 2
    """A promise that did not hold."""

    def __str__(self) -> str:
        return self.name.lower()


@attrs.frozen
class AuditFinding:
    """One check's outcome."""

    level: Level
    code: str
    """Names the check, and stays: programs may match on it."""
    message: str
    """One line for people."""
    stage: str | None = None
    """Of the pipeline, where one is to blame."""
    figures: dict[str, Any] = attrs.field(factory=dict)
    """What was counted, as plain values for JSON; bytes unless the name says otherwise."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        described = {"level": str(self.level), "code": self.code, "message": self.message, "figures": self.figures}
        return described if self.stage is None else {**described, "stage": self.stage}


@attrs.frozen
class AuditReport:
    """What all checks of one run came to."""

    findings: tuple[AuditFinding, ...]

    @property
    def level(self) -> Level:
        """That of the worst finding."""
        return max((finding.level for finding in self.findings), default=Level.PASS)

    def of(self, level: Level) -> tuple[AuditFinding, ...]:
        """The findings of that level."""
        return tuple(finding for finding in self.findings if finding.level == level)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"level": str(self.level), "findings": [finding.as_dict() for finding in self.findings]}

    def rows(self) -> list[tuple[str, str]]:
        """Name and text of each finding, for a table."""
        return [(f"audit {finding.code}", f"{finding.level}: {finding.message}") for finding in self.findings]


def mebibytes(nbytes: int) -> str:
    """For people, to a tenth."""
    return f"{nbytes / 2**20:.1f} MiB"


def listed(items: Iterable[str], most: int = 4) -> str:
    """The first few, and how many more there are."""
    texts = list(items)
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
