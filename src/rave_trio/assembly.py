"""What a plan is carried out with: decoder, converters, backend and encoder, on the host or on a GPU."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rave_trio.color import SurfaceToTensor, TensorToSurface
from rave_trio.color.hashes import surface_hash
from rave_trio.fit import Fit, Geometries, Work, retreats
from rave_trio.frames import Closable, Surface, SurfaceDescriptor, Tensor
from rave_trio.inference.chain import ChainedBackend
from rave_trio.inference.model import Geometry
from rave_trio.inference.openvino_backend import OpenVinoBackend
from rave_trio.inference.retreat import Backend, RetreatingBackend
from rave_trio.media.containers import IMAGES
from rave_trio.media.decoder import LibavDecoder, VideoDecoder
from rave_trio.media.images import ImageEncoder
from rave_trio.media.parts import PartEncoder, PartsFolder, PartWriter
from rave_trio.memory import HostPool, Ledger, LedgerStats, PoolStats, Waiting
from rave_trio.pipeline import Converter
from rave_trio.plan import EnginePlan
from rave_trio.resizing.host import HostResizer
from rave_trio.steps import Enhancing, Resizing, Step


class Workshop(Closable, Protocol):
    """Makes what computes; that is to be closed before it is.  Blocking calls, any thread."""

    def network(self, step: Enhancing, geometry: Geometry, streams: int, batch: int) -> Backend:
        """A bare backend of that size for one model: ``batch`` pictures at a time on each of ``streams`` streams."""

    def resizer(self, step: Resizing) -> Backend:
        """What brings tensors to an exact size."""

    def tensor(self, samples: npt.NDArray[np.float32]) -> Tensor:
        """C x H x W samples where the network finds them, in its dtype."""

    def samples(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """A tensor's samples on the host, as an array of their own.  Waits for them."""

    def pool_stats(self) -> PoolStats:
        """What the pool has done so far."""


class Assembly(Workshop, Protocol):
    """Makes all parts of one run."""

    def decoder(self) -> VideoDecoder:
        """The input's frames."""

    def to_tensor(self) -> Converter:
        """Between decoder and backend."""

    def backend(self) -> RetreatingBackend:
        """The network, which makes way for a smaller one when memory runs out."""

    def to_surface(self) -> Converter:
        """Between backend and encoder."""

    def encoder(self, parts: PartsFolder) -> PartWriter:
        """Into a part in ``parts``."""

    def hash_of(self, surface: Surface) -> str:
        """SHA-256 of an output surface's samples; see :mod:`rave_trio.color.hashes`.  Waits for them."""

    def page_locked(self) -> LedgerStats:
        """The host's memory that a GPU copies to, of which the ledger with the limit knows nothing."""


def assemble(plan: EnginePlan, steps: tuple[Step, ...], ledger: Ledger, waiting: Waiting) -> Assembly:
    """Where the plan says.  Raises DeviceUnknown or OutOfMemory if the GPU cannot be used after all."""
    if plan.gpu is None:
        return HostAssembly(plan, steps, ledger, waiting)
    from rave_trio.gpu.assembly import GpuAssembly

    return GpuAssembly(plan, plan.gpu, steps, ledger, waiting)


class Computing(Protocol):
    """Of a plan, what the parts that compute are made by."""

    @property
    def backend(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def threads(self) -> int: ...

    @property
    def audited(self) -> bool: ...


class HostWorkshop:
    """What computes on the CPU: OpenVINO and numpy, on tensors in the pool's memory."""

    def __init__(self, how: Computing, ledger: Ledger, waiting: Waiting) -> None:
        self._how = how
        self._pool = HostPool(ledger, waiting=waiting)

    def network(self, step: Enhancing, geometry: Geometry, streams: int, batch: int) -> OpenVinoBackend:
        """A backend of that size; ``batch`` is 1."""
        how = self._how
        return OpenVinoBackend(
            step.model, geometry, precision=how.precision, streams=streams, threads=how.threads, pool=self._pool
        )

    def resizer(self, step: Resizing) -> HostResizer:
        """Lanczos-3 on the CPU."""
        return HostResizer(size_of(step.source), size_of(step.target), self._pool)

    def tensor(self, samples: npt.NDArray[np.float32]) -> Tensor:
        return Tensor(samples, None)

    def samples(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        array: npt.NDArray[np.float32] = tensor.array
        return array.copy()

    def pool_stats(self) -> PoolStats:
        return self._pool.stats()

    def close(self) -> None:
        """Free the pool's memory.  Idempotent."""
        self._pool.close()


class HostAssembly(HostWorkshop):
    """Everything on the CPU: libav, numpy and OpenVINO."""

    def __init__(self, plan: EnginePlan, steps: tuple[Step, ...], ledger: Ledger, waiting: Waiting) -> None:
        super().__init__(plan, ledger, waiting)
        self._plan = plan
        self._steps = steps

    def decoder(self) -> LibavDecoder:
        return software_decoder(self._plan)

    def to_tensor(self) -> Converter:
        return SurfaceToTensor(self._plan.surface, self._pool, self._plan.background)

    def backend(self) -> RetreatingBackend:
        return retreating(self._plan.work(self._steps), self._plan.fit, self)

    def to_surface(self) -> Converter:
        return TensorToSurface(self._plan.encoder.surface, dither=self._plan.dither)

    def encoder(self, parts: PartsFolder) -> PartWriter:
        return software_encoder(self._plan, parts)

    def hash_of(self, surface: Surface) -> str:
        return surface_hash(surface)

    def page_locked(self) -> LedgerStats:
        return Ledger().stats()


def retreating(work: Work, fit: Fit, maker: Workshop) -> RetreatingBackend:
    """The backend of that arrangement, and the ever smaller ones that stand in for it when memory runs out."""

    def make(step: int) -> Any:
        arrangement = next(itertools.islice(retreats(work, fit), step, None), None)
        return None if arrangement is None else chained(work.steps, *arrangement, maker=maker)

    return RetreatingBackend(make)


def chained(steps: tuple[Step, ...], geometries: Geometries, streams: int, batch: int, maker: Workshop) -> Backend:
    """One backend for all steps, in that arrangement.  If one cannot be made, none is left."""
    left = iter(geometries)
    with contextlib.ExitStack() as made:
        backends = []
        for step in steps:
            if isinstance(step, Enhancing):
                backends.append(maker.network(step, next(left), streams, batch))
            else:
                backends.append(maker.resizer(step))
            made.callback(backends[-1].close)
        made.pop_all()
    return backends[0] if len(backends) == 1 else ChainedBackend(backends)


def size_of(surface: SurfaceDescriptor) -> tuple[int, int]:
    """Height and width, as arrays have them."""
    return surface.height, surface.width


def software_decoder(plan: EnginePlan) -> LibavDecoder:
    """libav's, on the CPU."""
    return LibavDecoder(plan.media, strict=bool(plan.graph.decode.strict), deinterlace=plan.graph.deinterlace)


def software_encoder(plan: EnginePlan, parts: PartsFolder) -> PartWriter:
    """libav's, on the CPU."""
    if plan.container is IMAGES:
        return ImageEncoder(parts.path / "images", plan.encoder)
    return PartEncoder(parts.part_path(0), plan.encoder)
