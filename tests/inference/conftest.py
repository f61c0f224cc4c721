"""A way to put a picture through a model on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pytest

from rave_trio.frames import Frame, Tensor
from rave_trio.inference.openvino_backend import OpenVinoBackend
from rave_trio.inference.openvino_model import Model
from rave_trio.memory import HostPool, Ledger


@pytest.fixture
def pool() -> Iterator[HostPool]:
    """A pool that must have everything back at the end of the test."""
    ledger = Ledger()
    pool = HostPool(ledger)
    yield pool
    assert pool.stats().leased == 0
    pool.close()
    assert ledger.stats().current == 0


@pytest.fixture
def frame(pool: HostPool) -> Callable[..., Frame]:
    """A maker of frames whose tensor is leased, as in a run: ``frame(picture, index=0)``."""

    def make(picture: np.ndarray, index: int = 0) -> Frame:
        lease = pool.lease(4 * picture.size)
        array = lease.array(picture.shape, np.float32)
        array[:] = picture
        return Frame(index, index, 1, Fraction(1, 25), False, Tensor(array, lease))

    return make


@pytest.fixture
def enlarge(pool: HostPool, frame: Callable[..., Frame]) -> Callable[..., np.ndarray]:
    """Put one picture (3 x H x W in [0, 1]) through a model: ``enlarge(model, picture, tile=None)``."""

    def run(model: Model, picture: np.ndarray, tile: int | None = None, precision: str = "fp32") -> np.ndarray:
        geometry = model.geometry(*picture.shape[1:], tile)
        backend = OpenVinoBackend(model, geometry, precision=precision, streams=1, threads=1, pool=pool)
        try:
            backend.submit(frame(picture))
            result = backend.collect()
            enlarged = result.tensor.copy()
            result.close()
            return enlarged
        finally:
            backend.close()

    return run
