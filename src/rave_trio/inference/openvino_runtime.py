"""OpenVINO itself: the one core of the process, what this CPU computes, and its messages made readable."""

from __future__ import annotations

import re
from functools import cache

import openvino as ov

from rave_trio import errors

PRECISIONS = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16, "fp16": ov.Type.f16}
CAPABILITY = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}

LONGEST_REASON = 300
"""Characters of OpenVINO's own words in a message."""

NOISE = re.compile(
    r"(Caught exception: )?Exception from \S+"
    r"|Check '.*' failed at \S+"
    r"|FrontEnd API failed with \w+:"
    r"|Loading input model"
    r"|Model wasn't fully converted\..*"
    r"|Summary:"
    r"|While validating .*"
    r"|.* with a message:"
)
"""What OpenVINO's messages contain and a user cannot use."""


@cache
def core() -> ov.Core:
    return ov.Core()


def native_precisions() -> tuple[str, ...]:
    """Precisions that this CPU computes natively, fastest first."""
    capabilities = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name in ("bf16", "fp16", "fp32") if CAPABILITY[name] in capabilities)


def choose_precision(asked: str) -> str:
    """The precision to run in.  ``auto`` and ``fastest`` are bf16 where it is native, else fp32.

    Raises PrecisionUnsupported for one that the CPU would only emulate.
    """
    native = native_precisions()
    if asked in ("auto", "fastest"):
        return "bf16" if "bf16" in native else "fp32"
    if asked not in native:
        raise errors.PrecisionUnsupported(
            f"this CPU does not compute {asked} natively, only {' and '.join(native)}",
            remedy=f"use --precision {' or '.join(native)}",
        )
    return asked


def reason(error: BaseException) -> str:
    """The part of OpenVINO's many-lined messages that says something, on one line."""
    lines = (NOISE.sub("", line).strip(" .").removeprefix("-- ") for line in str(error).splitlines())
    return "; ".join(filter(None, lines))[:LONGEST_REASON] or type(error).__name__


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of OpenVINO's says that an allocation failed: it has no type of its own for that."""
    return any(sign in str(error) for sign in ("bad_alloc", "bad alloc", "out of memory", "allocate memory"))
