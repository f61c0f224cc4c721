"""Several measurements of one thing."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

import attrs


@attrs.frozen
class Spread:
    """What was measured, in that order; at least once."""

    values: tuple[float, ...] = attrs.field(validator=attrs.validators.min_len(1))

    @classmethod
    def ratio(cls, over: Spread, under: Spread) -> Spread:
        """Of each round's two."""
        return cls.of(one / other for one, other in zip(over.values, under.values, strict=True))

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def most(self) -> float:
        return max(self.values)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"median": self.median, "least": self.least, "most": self.most, "values": list(self.values)}

    def text(self, unit: str = "") -> str:
        """For people: ``11.3 fps (11.1 to 11.5)``."""
        return f"{self.median:.4g}{unit} ({self.least:.4g} to {self.most:.4g})"
