"""Profiles: sets of defaults under a name.  A flag, a variable or a file's entry goes before a profile's.

Each is for somebody: ``dev`` for who tries things out, ``fast`` and ``quality`` for who looks at the result,
``production_strict`` for who runs many jobs unattended, ``benchmark`` for who measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from rave_trio.errors import UsageError

OF_THE_COMMAND = ("progress", "verbose")
"""Options of the command line alone."""


def _frozen(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(values))


@attrs.frozen
class ProfilePreset:
    """One profile.  ``options`` are by the names of flags, ``clauses`` by those of a contract's.  A frozen value.

    >>> from rave_trio.profiles import profile_named
    >>> dict(profile_named("quality").options)
    {'effort': 'high', 'precision': 'fp32', 'dither': True}
    """

    name: str
    says: str
    """What it is for, in a line."""
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=_frozen)
    clauses: Mapping[str, Any] = attrs.field(factory=dict, converter=_frozen)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.name, "says": self.says, "options": dict(self.options), "clauses": dict(self.clauses)}


DEFAULT = ProfilePreset("default", "no profile")

PROFILES = {
    profile.name: profile
    for profile in (
        ProfilePreset("dev", "quick tries, and all that the log can tell", {"effort": "fast", "verbose": 2}),
        ProfilePreset(
            "fast",
            "the least time: fp8 where that can be computed, and the encoder makes the least effort",
            {"effort": "fast", "precision": "fastest"},
        ),
        ProfilePreset(
            "quality",
            "the best picture: exact arithmetic, no steps in slight slopes, and the encoder makes a high effort",
            {"effort": "high", "precision": "fp32", "dither": True},
        ),
        ProfilePreset(
            "production_strict",
            "unattended work: damage or a warning of the audit fails a run, and a job gives the same frames again",
            {"strict": True, "audit": True},
            {"deterministic_output": True, "fail_on_audit_warn": True},
        ),
        ProfilePreset(
            "benchmark",
            "measurements: nothing is drawn, and the encoder is in the way as little as can be",
            {"effort": "fast", "progress": "off"},
        ),
    )
}


def profile_named(name: object) -> ProfilePreset:
    """That profile, or the one that does nothing.  Raises UsageError for a name that there is not."""
    if name is None:
        return DEFAULT
    if not isinstance(name, str) or name not in PROFILES:
        raise UsageError(f"there is no profile {name!r}", remedy=f"use --profile {'|'.join(PROFILES)}")
    return PROFILES[name]


def with_profile(options: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of UpscaleOptions with what their ``profile`` has for those that are not there."""
    preset = profile_named(options.get("profile")).options
    below = {} if options.get("graph") is not None else preset
    return {**{name: value for name, value in below.items() if name not in OF_THE_COMMAND}, **options}
