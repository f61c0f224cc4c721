"""Copies between the host and a simulated device, as rave_trio.devices.copies makes them on CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np

from rave_trio.devices.arrays import DeviceArray
from rave_trio.testing.tensorrt import samples


def to_host(stream: Any, source: DeviceArray, host: np.ndarray) -> None:
    assert (source.shape, source.dtype) == (host.shape, host.dtype)
    stream.launch(_to_host, source, host, source.memory)


def from_host(stream: Any, host: np.ndarray, target: DeviceArray) -> None:
    assert (target.shape, target.dtype) == (host.shape, host.dtype)
    stream.launch(_from_host, host, target, target.memory)


def _to_host(source: DeviceArray, host: np.ndarray, _memory: object) -> None:
    host[...] = samples(source)


def _from_host(host: np.ndarray, target: DeviceArray, _memory: object) -> None:
    samples(target)[...] = host
