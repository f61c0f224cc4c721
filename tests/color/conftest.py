"""Converters of the CPU as functions, and the reference that the room's tests compare with."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from colour_reference import Reference

from rave_trio.color import SurfaceToTensor, TensorToSurface
from rave_trio.frames import Frame, Surface, Tensor
from rave_trio.memory import HostPool, Ledger


class Planes:
    """Frames from and to the code values of their planes, for planar formats without alpha."""

    @staticmethod
    def frame(codes, surface) -> Frame:
        native = av.VideoFrame(surface.width, surface.height, surface.pixel_format.name)
        for plane, values in zip(native.planes, codes, strict=True):
            rows = np.frombuffer(plane, np.uint8 if surface.pixel_format.bit_depth == 8 else np.uint16)
            rows.reshape(len(values), -1)[:, : values.shape[1]] = values
        return Frame(0, 0, 1, Fraction(1, 25), True, Surface(surface, native))

    @staticmethod
    def codes(frame) -> list[np.ndarray]:
        native, surface = frame.surface.native, frame.surface.descriptor
        found = []
        for plane, (height, width) in zip(native.planes, Reference.shapes(surface), strict=True):
            rows = np.frombuffer(plane, np.uint8 if surface.pixel_format.bit_depth == 8 else np.uint16)
            found.append(rows.reshape(height, -1)[:, :width].astype(int))
        return found

    @staticmethod
    def tensor(array) -> Frame:
        """A frame that holds ``array`` itself."""
        return Frame(0, 0, 1, Fraction(1, 25), True, Tensor(np.asarray(array, np.float32), None))


class Converting:
    """Both converters as functions; what they lease is given back."""

    def __init__(self, pool: HostPool) -> None:
        self.pool = pool

    def to_tensor(self, frame, background=None) -> np.ndarray:
        converter = SurfaceToTensor(frame.surface.descriptor, self.pool, background)
        frame = converter.convert(frame)
        array = frame.tensor.copy()
        frame.close()
        return array

    @staticmethod
    def to_surface(array, surface) -> Frame:
        return TensorToSurface(surface).convert(Planes.tensor(array))

    def there(self, codes, surface) -> np.ndarray:
        return self.to_tensor(Planes.frame(codes, surface))

    def back(self, array, surface) -> list[np.ndarray]:
        return Planes.codes(self.to_surface(array, surface))


@pytest.fixture(scope="session")
def reference():
    return Reference


@pytest.fixture(scope="session")
def planes():
    return Planes


@pytest.fixture(scope="module")
def convert():
    pool = HostPool(Ledger())
    yield Converting(pool)
    assert pool.stats().leased == 0
    pool.close()
