"""JSON Schema from classes: what ``attrs.asdict`` and ``json`` make of one, with nothing else allowed."""

from __future__ import annotations

import ast
import enum
import inspect
import textwrap
import types
import typing
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
AMOUNT: Schema = {"type": "number", "minimum": 0}
TEXTS: Schema = {"type": "array", "items": TEXT}

PLAIN: dict[Any, Schema] = {
    str: TEXT,
    Path: TEXT,
    Fraction: TEXT,
    bool: FLAG,
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    Any: {},
}


def closed(properties: dict[str, Schema], *, optional: tuple[str, ...] = (), says: str = "") -> Schema:
    """An object of these properties and no others, all required but the ``optional`` ones."""
    described = {"description": says} if says else {}
    required = [name for name in properties if name not in optional]
    return {
        **described,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def listed(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def nullable(shape: Schema) -> Schema:
    """The shape, or null."""
    if isinstance(shape.get("type"), str) and "enum" not in shape:
        return {**shape, "type": [shape["type"], "null"]}
    return {"anyOf": [shape, {"type": "null"}]}


def shape_of(kind: Any, plain: dict[Any, Schema] | None = None) -> Schema:
    """The schema of values of a type; ``plain`` says how some types are written differently from ``PLAIN``."""
    known = {**PLAIN, **(plain or {})}
    if isinstance(kind, str):  # a name that only type checkers see
        raise TypeError(f"{kind} is not known here")
    if kind in known:
        return known[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        shapes = [shape_of(each, plain) for each in arguments if each is not type(None)]
        whole = shapes[0] if len(shapes) == 1 else _either(shapes)
        return nullable(whole) if type(None) in arguments else whole
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is tuple and arguments[-1] is not Ellipsis:
        parts = [shape_of(each, plain) for each in arguments]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}
    if origin in (tuple, list):
        return listed(shape_of(arguments[0], plain))
    if origin is dict:
        return {"type": "object", "additionalProperties": shape_of(arguments[1], plain)}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind], "description": _summary(kind)}
    if attrs.has(kind):
        return closed(fields_of(kind, plain), says=_summary(kind))
    raise TypeError(f"no schema for {kind!r}")


def fields_of(kind: type, plain: dict[Any, Schema] | None = None) -> dict[str, Schema]:
    """The properties of a class's instances, described as their docstrings do."""
    hints, docs = typing.get_type_hints(kind), field_docs(kind)
    return {
        field.name: {
            **shape_of(hints[field.name], plain),
            **({"description": docs[field.name]} if field.name in docs else {}),
        }
        for field in attrs.fields(kind)
    }


def field_docs(kind: type) -> dict[str, str]:
    """The docstrings below a class's fields, which Python does not keep, each as one line."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError):
        return {}
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[ast.unparse(field.target)] = " ".join(str(below.value.value).split())
    return found


def _either(shapes: list[Schema]) -> Schema:
    if all(set(shape) == {"type"} for shape in shapes):
        return {"type": [shape["type"] for shape in shapes]}
    return {"anyOf": shapes}


def _summary(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
