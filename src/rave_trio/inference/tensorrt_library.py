"""TensorRT itself, the full one or the one for RTX: which is installed, what it runs on, and what it says.

Both are one interface under two names, so everything else takes a :class:`Library`.  TensorRT uses the logger that it
met first for the whole process, therefore there is one, and it hands each thread what was said in that thread.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import attrs

from rave_trio import errors

log = logging.getLogger("rave_trio.inference")

NAMES = ("tensorrt", "tensorrt_rtx")

PACKAGES = {"tensorrt": "tensorrt-cu13", "tensorrt_rtx": "tensorrt-rtx-cu13"}

LONGEST_REASON = 300
"""Characters of TensorRT's own words in a message."""

NOISE = re.compile(
    r"\s*\bIn \S.*? at /\S+?:\d+"
    r"|I\w+::\w+: Error Code \d+: "
    r"|\[\w+\.cpp::\w+::\d+\] Error Code \d+: "
    r"|\bInvalid Node - \S+"
)
"""What TensorRT's messages contain and a user cannot use."""

AFTERMATH = ("catchCudaError", "While parsing node number", "--- Begin node ---", "--- End node ---")
"""Signs of messages that follow another one, which says more."""

MEMORY_SIGNS = (
    "out of memory",
    "outofmemory",
    "memory allocation",
    "memoryallocation",
    "bad_alloc",
    "mem_alloc_failed",
    "failed to allocate",
    "insufficient memory",
)


@attrs.frozen
class Library:
    """An importable TensorRT.  Building and loading need it; it must be used by modules that exist for it only."""

    name: str
    """``tensorrt`` or ``tensorrt_rtx``."""
    version: str
    module: Any = attrs.field(repr=False)
    logger: Any = attrs.field(repr=False, init=False)
    """What everything of the library's is made with."""

    @logger.default
    def _make_logger(self) -> Any:
        return _logger(self.module)

    @property
    def is_rtx(self) -> bool:
        """Whether kernels are compiled where they run, so that engines can be built without a GPU."""
        return self.name == "tensorrt_rtx"

    def capabilities(self) -> tuple[tuple[int, int], ...]:
        """The compute capabilities it can build for by name, in order; none but for RTX."""
        if not self.is_rtx:
            return ()
        members = self.module.ComputeCapability.__members__
        return tuple(sorted(divmod(int(name[2:]), 10) for name in members if re.fullmatch(r"SM\d+", name)))

    def refusal(self, capability: tuple[int, int]) -> str | None:
        """Why engines cannot be run on a GPU of this compute capability, in words for a user; None if nothing is known
        against it.
        """
        if not self.is_rtx or capability in self.capabilities():
            return None
        known = ", ".join(spelled(each) for each in self.capabilities())
        return (
            f"TensorRT-RTX {self.version} runs on GPUs of compute capability {known}, "
            f"and this one has {spelled(capability)}"
        )


@cache
def load_library(name: str) -> Library:
    """Import ``tensorrt`` or ``tensorrt_rtx``.  Raises DeviceUnknown if it is not installed or does not load."""
    if name not in NAMES:
        raise ValueError(f"{name} is not one of {', '.join(NAMES)}")
    module: Any
    try:
        if name == "tensorrt_rtx":
            import tensorrt_rtx

            module = tensorrt_rtx
        else:
            import tensorrt

            module = tensorrt
    except (ImportError, OSError) as error:
        missing = isinstance(error, ModuleNotFoundError)
        raise errors.DeviceUnknown(
            f"{name} is not installed" if missing else f"{name} cannot be loaded: {error}",
            remedy=f"pip install {PACKAGES[name]}, or use --device cpu",
        ) from error
    return Library(name, str(module.__version__), module)


def spelled(capability: tuple[int, int]) -> str:
    """A compute capability as NVIDIA writes it, such as ``8.9``."""
    return f"{capability[0]}.{capability[1]}"


_heard = threading.local()


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """What TensorRT reports as errors in this thread meanwhile, in order."""
    outer: list[str] | None = getattr(_heard, "errors", None)
    heard: list[str] = []
    _heard.errors = heard
    try:
        yield heard
    finally:
        _heard.errors = outer


def said(severity: str, message: str) -> None:
    """Take one message of TensorRT's, of the severity of that name; any thread."""
    if severity in ("VERBOSE", "INFO"):
        return
    log.debug("TensorRT: %s", message)
    heard: list[str] | None = getattr(_heard, "errors", None)
    if heard is not None and severity != "WARNING":
        heard.append(message)


def reason(messages: list[str]) -> str:
    """What of TensorRT's messages says why, on one line."""
    telling = [message for message in messages if not any(sign in message for sign in AFTERMATH)]
    cleaned = (" ".join(NOISE.sub("", message).split()) for message in telling or messages)
    return "; ".join(dict.fromkeys(filter(None, cleaned)))[:LONGEST_REASON] or "it does not say why"


def is_out_of_memory(messages: list[str]) -> bool:
    """Whether messages say that an allocation failed, on the GPU or the host."""
    return any(sign in message.lower() for message in messages for sign in MEMORY_SIGNS)


def _logger(module: Any) -> Any:
    base: type[Any] = module.ILogger

    class Logger(base):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            said(severity.name, message)

    return Logger()
