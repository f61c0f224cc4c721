"""One benchmark against another: whether they differ by more than each does by itself, and what else does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import attrs

from rave_trio.bench.report import SCHEMA_VERSION
from rave_trio.bench.spread import Spread
from rave_trio.errors import InputNotFound, InputUnreadable, UsageError

FIGURES = {"pipeline_fps": "pipeline, fps", "network_fps": "network alone, fps", "ratio": "pipeline / network"}


@attrs.frozen
class Figure:
    """One figure of both."""

    name: str
    first: Spread
    second: Spread

    @property
    def ratio(self) -> float:
        """The second's median over the first's."""
        return self.second.median / self.first.median

    @property
    def least(self) -> float:
        """The ratio at the least, if each was what it was in its least favourable run."""
        return self.second.least / self.first.most

    @property
    def most(self) -> float:
        return self.second.most / self.first.least

    @property
    def differs(self) -> bool:
        """Whether every run of the one was above every run of the other.  One run alone tells nothing."""
        return self._spread_is_known and (self.least > 1 or self.most < 1)

    @property
    def _spread_is_known(self) -> bool:
        return min(len(self.first.values), len(self.second.values)) > 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "first": self.first.as_dict(),
            "second": self.second.as_dict(),
            "ratio": self.ratio,
            "least": self.least,
            "most": self.most,
            "differs": self.differs,
        }

    def text(self) -> str:
        """One line for people."""
        verdict = "no difference beyond the spread" if self._spread_is_known else "not judged: one run has no spread"
        if self.differs:
            verdict = "more" if self.ratio > 1 else "less"
        spread = f"{self.ratio:.4g} ({self.least:.4g} to {self.most:.4g})"
        return f"{self.first.median:.4g} -> {self.second.median:.4g}, ratio {spread}: {verdict}"


@attrs.frozen
class BenchmarkComparison:
    """Two benchmarks; ratios are the second's over the first's."""

    figures: tuple[Figure, ...]
    memory: tuple[int, int]
    """Peaks by the ledger, in bytes."""
    differences: tuple[tuple[str, Any, Any], ...]
    """Of settings and fingerprints: what, and its value in either; None for what is not there."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "figures": [figure.as_dict() for figure in self.figures],
            "memory": list(self.memory),
            "differences": [{"what": what, "first": one, "second": other} for what, one, other in self.differences],
        }

    def rows(self) -> list[tuple[str, str]]:
        """For people."""
        one, other = self.memory
        rows = [(figure.name, figure.text()) for figure in self.figures]
        rows.append(("memory, peak", f"{one / 1e6:,.1f} MB -> {other / 1e6:,.1f} MB"))
        rows += [
            ("differs", f"{what}: {_shown(first)} -> {_shown(second)}") for what, first, second in self.differences
        ]
        if not self.differences:
            rows.append(("the same", "settings, versions, hardware, model and plan"))
        return rows


def compare_benchmarks(first: Path, second: Path) -> BenchmarkComparison:
    """Read what ``--json-out`` or ``--json`` wrote.  Raises an InputError or UsageError for what is no benchmark."""
    one, other = _read(first), _read(second)
    figures = tuple(Figure(name, _spread(one, key), _spread(other, key)) for key, name in FIGURES.items())
    differences = [
        (what, here, there)
        for part in ("settings", "fingerprint")
        for what, here, there in _differences(one[part], other[part], part)
    ]
    return BenchmarkComparison(figures, (one["memory"]["peak"], other["memory"]["peak"]), tuple(differences))


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputNotFound(f"there is no file {path}") from None
    except OSError as error:
        raise InputUnreadable(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _unfit(path, "it is not JSON that can be read") from error
    if isinstance(document, dict) and document.get("command") == "benchmark":
        document = document.get("benchmark") or document.get("sweep")
    if not isinstance(document, dict) or document.get("kind") not in ("benchmark", "sweep"):
        raise _unfit(path, "no benchmark wrote it")
    if document["kind"] == "sweep":
        raise _unfit(path, "it is a sweep")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise _unfit(path, f"its schema_version is {document.get('schema_version')!r}, not {SCHEMA_VERSION}")
    try:
        for key in FIGURES:
            _spread(document, key)
        whole = all(isinstance(document[part], dict) for part in ("settings", "fingerprint"))
        whole = whole and isinstance(document["memory"]["peak"], int)
    except (KeyError, TypeError, ValueError) as error:
        raise _unfit(path, "something is missing from it") from error
    if not whole:
        raise _unfit(path, "something is missing from it")
    return document


def _unfit(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{path} cannot be compared: {why}", remedy="give two files that rave-trio benchmark --json-out wrote"
    )


def _spread(document: dict[str, Any], key: str) -> Spread:
    found = document[key]["values"]
    if not isinstance(found, list):
        raise TypeError(key)
    values = Spread.of(map(float, found))
    if not all(0 < value < math.inf for value in values.values):
        raise ValueError(key)
    return values


def _differences(one: Any, other: Any, what: str) -> list[tuple[str, Any, Any]]:
    """What differs, by its path, from the outside in."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [(what, one, other)]
    found = []
    for key in dict.fromkeys((*one, *other)):
        found += _differences(one.get(key), other.get(key), f"{what}.{key}")
    return found


def _shown(value: Any) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
