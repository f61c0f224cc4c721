"""What the backend ``compact`` makes of surfaces, held against converters around its tensors, wherever kernels run.

A machine is as device_colours.py has it; ``make(net, geometry, ends)`` makes a backend on its stream and its pool.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from compact_rigs import random_net
from device_colours import Converting, noise

from rave_trio.color.cuda.planes import ROW_ALIGNMENT
from rave_trio.frames import Frame, SurfaceDescriptor
from rave_trio.inference.compact.backend import CompactBackend
from rave_trio.inference.compact.kernels_protocol import Resampling
from rave_trio.inference.compact.net import CompactNet
from rave_trio.inference.compact.surfaces import Ends
from rave_trio.inference.model import Geometry, ModelMetadata

Make = Callable[[CompactNet, Geometry, Ends], CompactBackend]


FEW = 200
"""Samples that may well be alike, of a tiny picture."""


@attrs.frozen
class Case:
    """Surfaces, and a network between them."""

    source: str = "nv12"
    target: str = "nv12"
    location: str = "LEFT"
    size: tuple[int, int] = (37, 29)
    features: int = 16
    factor: int = 2
    resampling: Resampling | None = None
    clip: bool = False
    skip: bool = True
    matrix: int = 1
    full: bool = False
    dither: bool = False
    strip: int | None = None
    alignment: int = ROW_ALIGNMENT

    @property
    def net(self) -> CompactNet:
        return random_net(self.features, 1, self.factor, self.resampling, clip=self.clip, skip=self.skip)

    @property
    def geometry(self) -> Geometry:
        width, height = self.size
        return Geometry(height, width, overlap=0, tiles=1, strip=self.strip)

    def ends(self, reference: Any) -> Ends:
        colour = self.matrix, self.full, self.location
        width, height = (side * self.net.scale for side in self.size)
        return Ends(
            source=reference.descriptor(self.source, *self.size, *colour),
            target=reference.descriptor(self.target, width, height, *colour),
            dither=self.dither,
            alignment=self.alignment,
        )


def metadata_of(net: CompactNet) -> ModelMetadata:
    return ModelMetadata("net", Path("net.onnx"), "", net.scale, "x", "y", 3, 3, None, None)


def backend_on(machine: Any, net: CompactNet, geometry: Geometry, ends: Ends | None, **how: Any) -> CompactBackend:
    """On a machine's stream and pool."""
    pools = {"pool": machine.pool, "scratch": machine.pool}
    return CompactBackend(metadata_of(net), net, geometry, stream=machine.stream, ends=ends, **pools, **how)


def shapes_of(surface: SurfaceDescriptor, reference: Any) -> list[tuple[int, int]]:
    shapes: list[tuple[int, int]] = reference.shapes(surface)
    return [shapes[0]] * 3 if surface.pixel_format.is_rgb else shapes


def through(backend: CompactBackend, frame: Frame) -> Frame:
    backend.submit(frame)
    return backend.collect()


def check(machine: Any, make: Make, reference: Any, case: Case) -> None:
    """Both ways give the same codes, to the last."""
    ends, converting = case.ends(reference), Converting(machine)
    backend = make(case.net, case.geometry, ends)
    codes, shapes = noise(reference, ends.source), shapes_of(ends.target, reference)

    def taken(frame: Frame) -> list[np.ndarray]:
        try:
            return converting.codes(frame, ends.target, shapes)
        finally:
            frame.close()

    found = taken(through(backend, converting.frame(codes, ends.source)))
    tensor = converting.reader(ends.source, np.float16).convert(converting.frame(codes, ends.source))
    expected = taken(converting.writer(ends.target, np.float16, dither=case.dither).convert(through(backend, tensor)))
    backend.close()
    for component, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert other.size < FEW or len(np.unique(other)) > 20
        np.testing.assert_array_equal(one, other, f"component {component} of {case}")
