"""What a kernel is before it is compiled."""

from __future__ import annotations

from typing import Protocol

import attrs


class Source(Protocol):
    """The CUDA C++ source of one kernel, which includes no header."""

    @property
    def name(self) -> str:
        """The function's, with C linkage."""

    @property
    def code(self) -> str:
        """The whole text."""


@attrs.frozen
class KernelSource:
    """A :class:`Source` as plain text."""

    name: str
    code: str = attrs.field(repr=False)
