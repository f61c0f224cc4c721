"""The backend ``compact`` on a GPU, for the conformance suite: each set of kernels, whole and in strips."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np
import pytest
from backend_rigs import fail_launches
from cuda_rigs import CudaRig

from rave_trio.inference.compact.backend import CompactBackend
from rave_trio.inference.compact.find import find_compact
from rave_trio.inference.compact.kernels_protocol import MakeKernels
from rave_trio.inference.model import Geometry
from rave_trio.inference.openvino_model import Model


class CompactMmaRig(CudaRig):
    """The kernels for every architecture."""

    dtype = np.float16
    tolerance = 8e-3
    least_decibels = 60
    """Of real frames, against fp32, as pictures of 8 bits."""
    strip: int | None = None

    def fail(self, backend: Any, pieces: Iterable[int]) -> None:
        fail_launches(backend, pieces)

    def kernels(self) -> MakeKernels:
        from rave_trio.inference.compact.mma_kernels import MmaKernels

        return MmaKernels

    def _backend(self, model: Model, geometry: Geometry) -> CompactBackend:
        from rave_trio.devices.copies import copy, copy_from_host
        from rave_trio.devices.graphs import Graphs
        from rave_trio.devices.launcher import CudaLauncher

        return CompactBackend(
            model.metadata,
            find_compact(model.metadata.path),
            attrs.evolve(geometry, strip=self.strip),
            make_kernels=self.kernels(),
            launcher=CudaLauncher(),
            player=Graphs(),
            upload=copy_from_host,
            stream=self.device.stream(),
            pool=self.pool,
            scratch=self.pool,
            copy=copy,
        )


class CompactMmaStripsRig(CompactMmaRig):
    strip = 7


class CompactWgmmaRig(CompactMmaRig):
    """Those for compute capability 9.0."""

    def __init__(self, device: Any) -> None:
        if device.compute_capability != (9, 0):
            pytest.skip("these kernels are for compute capability 9.0")
        super().__init__(device)

    def kernels(self) -> MakeKernels:
        from rave_trio.inference.compact.wgmma_kernels import WgmmaKernels

        return WgmmaKernels


class CompactWgmmaStripsRig(CompactWgmmaRig):
    strip = 7


class Fp8:
    """Trunks in fp8."""

    tolerance = 8e-2
    shipped_tolerance = 0.25
    least_decibels = 46

    def kernels(self) -> MakeKernels:
        return functools.partial(super().kernels(), fp8=True)  # type: ignore[misc]


class CompactFp8Rig(Fp8, CompactWgmmaRig): ...


class CompactMmaFp8Rig(Fp8, CompactMmaRig):
    """From compute capability 8.9 on, also where nothing is won by it."""

    def __init__(self, device: Any) -> None:
        if device.compute_capability < (8, 9):
            pytest.skip("these kernels are for compute capability 8.9 and higher")
        super().__init__(device)


ALL = [CompactMmaRig, CompactMmaStripsRig, CompactMmaFp8Rig, CompactWgmmaRig, CompactWgmmaStripsRig, CompactFp8Rig]
