"""Tests that need a GPU: they skip where there is none, and fail instead where RAVE_TRIO_REQUIRE_GPU=1 promises one."""

from __future__ import annotations

import os

import pytest


def require_gpu() -> None:
    """Skip, or fail, unless CUDA can be used."""
    try:
        from rave_trio.devices.cuda import CudaDevice

        CudaDevice(0).close()
    except Exception as error:
        reason = f"no GPU: {error}"
    else:
        return
    if os.environ.get("RAVE_TRIO_REQUIRE_GPU") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cuda():
    """The first GPU, shared by all tests: what a test allocates it gives back."""
    require_gpu()
    from rave_trio.devices.cuda import CudaDevice

    device = CudaDevice(0)
    yield device
    device.close()
    assert device.used == device.pinned == 0
