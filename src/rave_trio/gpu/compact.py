"""Our own kernels in place: from a model to a backend.  Imports CUDA; only where it runs."""

from __future__ import annotations

from rave_trio.devices.copies import copy, copy_from_host
from rave_trio.devices.cuda import CudaDevice
from rave_trio.devices.graphs import Graphs, Unrecorded
from rave_trio.devices.launcher import CudaLauncher
from rave_trio.devices.pool import DevicePool
from rave_trio.inference.compact.backend import CompactBackend
from rave_trio.inference.compact.find import find_compact
from rave_trio.inference.compact.kernel_sets import kernels_for
from rave_trio.inference.compact.surfaces import Ends
from rave_trio.inference.model import Geometry, ModelMetadata


def compact_network(
    metadata: ModelMetadata,
    geometry: Geometry,
    *,
    device: CudaDevice,
    pool: DevicePool,
    scratch: DevicePool,
    audited: bool,
    ends: Ends | None,
    fp8: bool,
) -> CompactBackend:
    """The backend ``compact`` for tiles of one shape, in fp16 or ``fp8``.  Compiles its kernels, some seconds the first
    time, and calibrates what fp8 needs, tenths of a second for the shipped models.

    With ``ends`` it takes and gives surfaces, of whole frames.  An ``audited`` run has no CUDA graphs: see
    docs/audit.md.  The model must have been found to be of the family.  Raises OutOfMemory.
    """
    return CompactBackend(
        metadata,
        find_compact(metadata.path),
        geometry,
        make_kernels=kernels_for(device.compute_capability, fp8=fp8),
        launcher=CudaLauncher(),
        player=Unrecorded() if audited else Graphs(),
        upload=copy_from_host,
        stream=device.stream(),
        pool=pool,
        scratch=scratch,
        copy=copy,
        ends=ends,
    )
