"""The CUDA driver's calls, with its errors in the words of :mod:`rave_trio.devices.interface`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from cuda.bindings import driver

from rave_trio.devices.interface import LaunchError

OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"


def check(result: tuple[Any, ...]) -> Any:
    """The value of a call of ``cuda.bindings.driver``, which returns its status before it; None if it has none.

    Raises MemoryError where there is not enough memory, and LaunchError for any other status than success.
    """
    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        raise _failure(_described(status))
    return values[0] if values else None


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Let what ``cuda.core`` raises inside the block come out as :func:`check` would have it."""
    try:
        yield
    except Exception as error:
        if any(kind.__name__ == "CUDAError" for kind in type(error).__mro__):  # it has no public home
            raise _failure(str(error)) from error
        if isinstance(error, RuntimeError) and str(error).startswith("Failed to create CUDA"):  # it hides the status
            (status,) = driver.cuStreamQuery(0)
            raise _failure(f"{_described(status)} ({error})") from error
        raise


def _failure(text: str) -> Exception:
    if text.startswith(OUT_OF_MEMORY):
        return MemoryError(text)
    return LaunchError(f"work on the device failed: {text}")


def _described(status: Any) -> str:
    name = getattr(status, "name", str(status))
    _, text = driver.cuGetErrorString(status)
    return f"{name}: {text.decode()}" if text else name
