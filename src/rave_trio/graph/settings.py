"""Settings of stages and clauses of contracts: what each may be, said once for checks, schemas and documents."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Protocol

import attrs

from rave_trio.errors import UsageError
from rave_trio.values import as_bytes, as_rate


class Rule(Protocol):
    """What a setting may be."""

    def problem(self, value: Any) -> str | None:
        """What is wrong with ``value``, as the end of a sentence that begins with the setting's name, if anything."""

    def schema(self) -> dict[str, Any]:
        """The same in JSON Schema's words."""


@attrs.frozen
class Whole:
    """A whole number from ``least`` to ``most``."""

    least: int = 0
    most: int | None = None

    def problem(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"must be a whole number, not {value!r}"
        if value < self.least:
            return f"must be at least {self.least}, not {value}"
        if self.most is not None and value > self.most:
            return f"must be at most {self.most}, not {value}"
        return None

    def schema(self) -> dict[str, Any]:
        most = {} if self.most is None else {"maximum": self.most}
        return {"type": "integer", "minimum": self.least, **most}


@attrs.frozen
class Above:
    """A number above 0."""

    def problem(self, value: Any) -> str | None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if number and value > 0 else f"must be a number above 0, not {value!r}"

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "exclusiveMinimum": 0}


@attrs.frozen
class OneOf:
    """One of a few words."""

    choices: tuple[str, ...]

    def problem(self, value: Any) -> str | None:
        return None if value in self.choices else f"must be one of {', '.join(self.choices)}, not {value!r}"

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.choices)}


@attrs.frozen
class Text:
    """Some text."""

    def problem(self, value: Any) -> str | None:
        return None if isinstance(value, str) and value else f"must be text, not {value!r}"

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


@attrs.frozen
class Switch:
    """True or false."""

    def problem(self, value: Any) -> str | None:
        return None if isinstance(value, bool) else f"must be true or false, not {value!r}"

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@attrs.frozen
class Texts:
    """A list of texts."""

    def problem(self, value: Any) -> str | None:
        whole = isinstance(value, tuple) and all(isinstance(each, str) and each for each in value)
        return None if whole else f"must be a list of texts, not {value!r}"

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string", "minLength": 1}}


@attrs.frozen
class Rate:
    """Frames per second, as a number or as text such as 24000/1001."""

    def problem(self, value: Any) -> str | None:
        try:
            as_rate(value)
        except UsageError:
            return f"must be frames per second such as 24, 23.976 or 24000/1001, not {value!r}"
        return None

    def schema(self) -> dict[str, Any]:
        return {"type": ["number", "string"]}


@attrs.frozen
class Bytes:
    """An amount of memory, in bytes or as text such as 2GiB."""

    def problem(self, value: Any) -> str | None:
        try:
            as_bytes(value)
        except UsageError:
            return f"must be an amount of memory such as 2GiB or 800MB, not {value!r}"
        return None

    def schema(self) -> dict[str, Any]:
        return {"type": ["integer", "string"]}


def setting(rule: Rule, says: str) -> Any:
    """An attrs field that is None where it is left open, and else as ``rule`` has it."""

    def check(_owner: object, field: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and (problem := rule.problem(value)):
            raise UsageError(f"{field.name} {problem}", remedy=f"{field.name}: {says}")

    return attrs.field(default=None, validator=check, metadata={"rule": rule, "says": says})


def settings_of(kind: type) -> dict[str, attrs.Attribute[Any]]:
    """The settings of a stage or contract class, by name."""
    return {field.name: field for field in attrs.fields(kind) if "rule" in field.metadata}


def schema_of(kind: type) -> dict[str, Any]:
    """JSON Schema's properties for them."""
    return {
        name: {**field.metadata["rule"].schema(), "description": field.metadata["says"]}
        for name, field in settings_of(kind).items()
    }


def given(value: Any) -> dict[str, Any]:
    """What of a stage or contract is not left open, as plain values."""
    found = {name: getattr(value, name) for name in settings_of(type(value))}
    return {name: _plain(each) for name, each in found.items() if each is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Fraction):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
