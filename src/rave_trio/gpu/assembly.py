"""What a plan is carried out with on a GPU.  Imports CUDA; only where one is used.

Each stage has a stream of its own, and memory carries the order between them, so no thread waits but at the ends.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rave_trio.assembly import Computing, retreating, size_of, software_decoder, software_encoder
from rave_trio.color.cuda import CudaSurfaceToTensor, CudaTensorToSurface
from rave_trio.color.cuda.planes import ROW_ALIGNMENT
from rave_trio.color.hashes import device_surface_hash
from rave_trio.devices.copies import copy, copy_from_host, copy_to_host
from rave_trio.devices.cuda import CudaDevice, CudaStream
from rave_trio.devices.interface import use
from rave_trio.devices.launcher import CudaLauncher
from rave_trio.devices.nvidia import Gpu, VideoEngines
from rave_trio.devices.pool import SCRATCH, device_pool, pinned_pool
from rave_trio.frames import Frame, Surface, Tensor
from rave_trio.inference.compact.surfaces import Ends
from rave_trio.inference.device_backend import DTYPES
from rave_trio.inference.model import Geometry, arena_bytes
from rave_trio.inference.retreat import Backend, RetreatingBackend
from rave_trio.inference.side_by_side import SideBySide
from rave_trio.media.decoder import VideoDecoder
from rave_trio.media.download import DownloadingEncoder
from rave_trio.media.encoders import ENCODERS
from rave_trio.media.nvdec import NvdecDecoder
from rave_trio.media.nvenc import NvencPartEncoder
from rave_trio.media.parts import PartsFolder, PartWriter
from rave_trio.media.upload import Uploading
from rave_trio.memory import Ledger, LedgerStats, PoolStats, Waiting
from rave_trio.pipeline import Converter, Unchanged
from rave_trio.plan import EnginePlan
from rave_trio.resizing.device import DeviceResizer
from rave_trio.steps import Enhancing, Resizing, Step

if TYPE_CHECKING:
    from rave_trio.inference.onnxruntime_backend import OnnxRuntimeBackend

DENSE = 1
"""NVENC takes rows without a gap."""


class GpuWorkshop:
    """What computes on a GPU, on tensors in its memory."""

    _ends: Ends | None = None
    """The surfaces that the network takes and gives, where it does so itself."""

    def __init__(self, how: Computing, gpu: Gpu, ledger: Ledger, waiting: Waiting) -> None:
        assert gpu.cuda_ordinal is not None
        self._how = how
        self._ledger = ledger
        self._dtype = DTYPES[how.precision]
        self.device = CudaDevice(gpu.cuda_ordinal)
        self._pool = device_pool(self.device, ledger, waiting)
        self._scratch = device_pool(self.device, ledger, waiting, owner=SCRATCH)

    def resizer(self, step: Resizing) -> DeviceResizer:
        """Lanczos-3 by our kernels."""
        return DeviceResizer(
            size_of(step.source),
            size_of(step.target),
            stream=self.device.stream(),
            pool=self._pool,
            upload=copy_from_host,
            launcher=CudaLauncher(),
        )

    def network(self, step: Enhancing, geometry: Geometry, streams: int, batch: int) -> Backend:
        """A backend for that shape, ``batch`` pictures at a time on each of ``streams`` streams."""
        if self._how.backend == "compact":
            from rave_trio.gpu.compact import compact_network

            return compact_network(
                step.model.metadata,
                geometry,
                device=self.device,
                pool=self._pool,
                scratch=self._scratch,
                audited=self._how.audited,
                ends=self._ends if (geometry.tile_height, geometry.tile_width) == size_of(step.source) else None,
                fp8=self._how.precision == "fp8",
            )
        if self._how.backend != "onnxruntime":
            from rave_trio.gpu.tensorrt import tensorrt_network

            return tensorrt_network(
                self._how.backend,
                step.model,
                geometry,
                size_of(step.source),
                dtype=self._dtype,
                device=self.device,
                pool=self._pool,
                scratch=self._scratch,
                ledger=self._ledger,
                streams=streams,
                batch=batch,
                audited=self._how.audited,
            )
        with contextlib.ExitStack() as undo:
            made = [
                undo.enter_context(contextlib.closing(self._on_a_stream(step, geometry, batch))) for _ in range(streams)
            ]
            undo.pop_all()
            return made[0] if streams == 1 else SideBySide(made)

    def _on_a_stream(self, step: Enhancing, geometry: Geometry, batch: int) -> OnnxRuntimeBackend:
        from rave_trio.inference.onnxruntime_backend import OnnxRuntimeBackend
        from rave_trio.inference.onnxruntime_session import Cuda

        stream = self.device.stream()
        load = step.model.load(geometry, self._how.precision)
        return OnnxRuntimeBackend(
            step.model.metadata,
            geometry,
            precision=self._how.precision,
            provider=Cuda(int(stream.raw.handle), self.device.ordinal, memory_limit=arena_bytes(load, batch)),
            stream=stream,
            pool=self._pool,
            copy=copy,
            ledger=self._ledger,
            batch=batch,
        )

    def tensor(self, samples: npt.NDArray[np.float32]) -> Tensor:
        """Waits until it is there."""
        lease = self._pool.lease(samples.size * self._dtype.itemsize)
        array = lease.array(samples.shape, self._dtype)
        stream = self.device.stream()
        with use(stream, lease.memory):
            copy_from_host(stream, samples.astype(self._dtype, order="C"), array)
        stream.synchronize()
        return Tensor(array, lease)

    def samples(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        host = np.empty(tensor.array.shape, tensor.array.dtype)
        stream = self.device.stream()
        with use(stream, tensor.array.memory):
            copy_to_host(stream, tensor.array, host)
        stream.synchronize()
        return host.astype(np.float32)

    def pool_stats(self) -> PoolStats:
        return self._pool.stats()

    def close(self) -> None:
        """Free the pools' memory and let go of the device.  Idempotent."""
        self._pool.close()
        self._scratch.close()
        self.device.close()


class GpuAssembly(GpuWorkshop):
    """Frames in a GPU's memory from the decoder, or the upload behind it, to the encoder or the download before it."""

    def __init__(self, plan: EnginePlan, gpu: Gpu, steps: tuple[Step, ...], ledger: Ledger, waiting: Waiting) -> None:
        super().__init__(plan, gpu, ledger, waiting)
        self._plan = plan
        self._gpu = gpu
        self._steps = steps
        if plan.work(steps).on_surfaces:
            self._ends = Ends(
                source=plan.surface, target=plan.encoder.surface, dither=plan.dither, alignment=self._alignment
            )
        self._upload: Uploading | None = None
        self._hashing: CudaStream | None = None
        self._page_locked = Ledger()  # the host's memory: the limit is about the GPU's
        self._downloads = pinned_pool(self.device, self._page_locked, owner="downloads")

    def decoder(self) -> VideoDecoder:
        if self._plan.decoder == "libav":
            return software_decoder(self._plan)
        return NvdecDecoder(self._plan.media, self.device, self._pool, strict=bool(self._plan.graph.decode.strict))

    def to_tensor(self) -> Converter:
        convert: Converter = Unchanged()
        if self._ends is None:
            convert = CudaSurfaceToTensor(self._plan.surface, self._pool, self.device.stream(), dtype=self._dtype)
        if self._plan.decoder == "nvdec":
            return convert
        self._upload = Uploading(self.device, self._pool)
        return Uploaded(self._upload, convert)

    def backend(self) -> RetreatingBackend:
        return retreating(self._plan.work(self._steps), self._plan.fit, self)

    def to_surface(self) -> Converter:
        if self._ends is not None:
            return Unchanged()
        surface, stream = self._plan.encoder.surface, self.device.stream()
        return CudaTensorToSurface(
            surface, self._pool, stream, dtype=self._dtype, dither=self._plan.dither, alignment=self._alignment
        )

    @property
    def _alignment(self) -> int:
        """Of the rows of output surfaces, in bytes."""
        return DENSE if self._by_nvenc else ROW_ALIGNMENT

    @property
    def _by_nvenc(self) -> bool:
        return ENCODERS[self._plan.encoder.encoder].software is not None

    def encoder(self, parts: PartsFolder) -> PartWriter:
        if self._by_nvenc:
            codec, engines = ENCODERS[self._plan.encoder.encoder].codec, self._gpu.video or VideoEngines()
            b_frames = next((each.max_b_frames or 0 for each in engines.encoders if each.codec == codec), 0)
            return NvencPartEncoder(parts.part_path(0), self._plan.encoder, self.device, b_frames=b_frames)
        wrap = not ENCODERS[self._plan.encoder.encoder].frame_threads
        return DownloadingEncoder(software_encoder(self._plan, parts), self.device, self._downloads, wrap=wrap)

    def hash_of(self, surface: Surface) -> str:
        if self._hashing is None:
            self._hashing = self.device.stream()
        return device_surface_hash(surface, self._hashing, copy_to_host)

    def page_locked(self) -> LedgerStats:
        return self._page_locked.stats()

    def close(self) -> None:
        """Free the pool's memory and let go of the device.  Idempotent."""
        if self._upload is not None:
            self._upload.close()
        self._downloads.close()
        super().close()


class Uploaded:
    """A converter behind an upload."""

    def __init__(self, upload: Uploading, convert: Converter) -> None:
        self._upload = upload
        self._convert = convert

    def convert(self, frame: Frame) -> Frame:
        """Both, one after the other.  The frame stays the caller's if either raises."""
        return self._convert.convert(self._upload.convert(frame))
