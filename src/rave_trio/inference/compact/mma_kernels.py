"""Kernels for the Compact family that use what every GPU from compute capability 8.0 on has: mma.sync and cp.async."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import attrs
import numpy as np

from rave_trio.devices.kernel_source import KernelSource
from rave_trio.frames import SurfaceDescriptor
from rave_trio.inference.compact.kernel_constants import flag, taps_table
from rave_trio.inference.compact.kernels_protocol import (
    EIGHTHS,
    HALVES,
    PLANES,
    Architecture,
    Parameters,
    Planes,
    Rows,
)
from rave_trio.inference.compact.mma_tiling import PIXELS_ACROSS, Tiling, tiling_of

HEAD_TILE = (64, 16)
HEAD_THREADS = 128
"""As kernels/head.cu has them."""

RESIZE_THREADS = 64
RESIZE_DOWN = 16
"""Pixels that a thread of the resize goes down."""

RESIZE_READS = 8
"""Samples that it reads of a row, if the tail's factor divides them: 16 bytes."""


@attrs.frozen
class ConvolutionKernel:
    """The source of the trunk's or the tail's kernel, and how it is to be launched."""

    source: KernelSource
    tiling: Tiling

    def grid(self, width: int, rows: int, processors: int) -> tuple[int, int]:
        """As many blocks as run at once, or as there are tiles."""
        across, down = self.tiling.tile
        return min(-(-width // across) * -(-rows // down), self.tiling.blocks * processors), 1


def head_source(architecture: Architecture) -> KernelSource:
    """The first convolution."""
    constants = [f"constexpr int FEATURES = {architecture.features};"]
    return _source("head", constants, "instructions.cuh", "features.cuh", "pictures.cuh", "head.cu")


def trunk_kernel(
    architecture: Architecture, arch: str, tiling: Tiling | None = None, itemsizes: tuple[int, int] = HALVES
) -> ConvolutionKernel:
    """A convolution between activations of these bytes, on ``arch`` (``"sm_90"``), for e4m3 ``"sm_89"`` or newer."""
    features, (read, written) = architecture.features, itemsizes
    tiling = tiling or tiling_of(features, features, arch, input_bytes=read)
    constants = [*tiling.constants(), f"constexpr int OUTPUT_BYTES = {written};", flag("GATHERED", True)]
    files = ("instructions.cuh", "features.cuh", "pairs.cuh", "remainders.cuh", "mma_convolution.cuh", "mma_trunk.cu")
    return ConvolutionKernel(_source("trunk", constants, *files), tiling)


def samples_bytes_of(architecture: Architecture) -> int:
    """What a warp of the tail gathers: the samples of a row of its pixels."""
    return 2 * PLANES * architecture.factor**2 * PIXELS_ACROSS


def tail_kernel(
    architecture: Architecture, arch: str, tiling: Tiling | None = None, *, fp8: bool = False
) -> ConvolutionKernel:
    """The last convolution and the pixel shuffle on ``arch``, of activations in e4m3 with ``fp8``."""
    channels = architecture.features, architecture.outputs
    tiling = tiling or tiling_of(*channels, arch, samples_bytes_of(architecture), input_bytes=1 if fp8 else 2)
    is_last = architecture.resampling is None
    constants = [
        *tiling.constants(),
        f"constexpr int FACTOR = {architecture.factor};",
        flag("GATHERED", False),
        flag("SKIP", architecture.skip and is_last),
        flag("CLIP", architecture.clip and is_last),
    ]
    files = ("instructions.cuh", "features.cuh", "pictures.cuh", "mma_convolution.cuh", "mma_tail.cu")
    return ConvolutionKernel(_source("tail", constants, *files), tiling)


def resize_pixels(architecture: Architecture) -> int:
    """How many pixels of the picture, side by side, a thread of the resize makes."""
    return RESIZE_READS // architecture.factor


def resize_blocks(architecture: Architecture) -> int:
    """How many blocks of the resize share a multiprocessor: fewer where a thread has more results to keep."""
    return 5 if resize_pixels(architecture) * architecture.scale > RESIZE_READS else 12


def resize_source(architecture: Architecture) -> KernelSource:
    """The resampling, of an architecture that has one."""
    resampling = architecture.resampling
    assert resampling is not None
    constants = [
        f"constexpr int FACTOR = {architecture.factor}, SCALE = {resampling.scale};",
        f"constexpr int PIXELS = {resize_pixels(architecture)}, PIXELS_DOWN = {RESIZE_DOWN};",
        f"constexpr int THREADS = {RESIZE_THREADS}, BLOCKS = {resize_blocks(architecture)};",
        *taps_table("SAMPLE", resampling),
        *taps_table("PICTURE", resampling, architecture.factor),
        flag("SKIP", architecture.skip),
        flag("CLIP", architecture.clip),
    ]
    return _source("resize", constants, "pictures.cuh", "resize.cu")


class Head:
    """The first convolution, compiled and loaded onto the device of a stream."""

    def __init__(self, architecture: Architecture, launcher: Any, stream: Any) -> None:
        self._launcher = launcher
        self._kernel = launcher.load(stream, head_source(architecture))

    def __call__(
        self, raw: Any, picture: Planes, target: int, height: int, width: int, rows: Rows, parameters: Parameters
    ) -> None:
        """See the protocol."""
        across, down = HEAD_TILE
        self._launcher.put(
            raw,
            self._kernel,
            (-(-width // across), -(-(rows.end - rows.begin) // down)),
            (HEAD_THREADS,),
            *_plane_arguments(picture),
            target,
            parameters.weights,
            parameters.bias,
            parameters.slope,
            *_sizes(height, width, rows),
        )


class Convolution:
    """A kernel of the trunk or the tail, likewise."""

    def __init__(self, kernel: ConvolutionKernel, launcher: Any, stream: Any) -> None:
        self._launcher = launcher
        self._processors = launcher.processors(stream)
        self._how = kernel
        self._kernel = launcher.load(stream, kernel.source, shared_bytes=kernel.tiling.shared_bytes)

    def put(self, raw: Any, height: int, width: int, rows: Rows, *args: Any) -> None:
        """``args`` stand before the sizes."""
        self._launcher.put(
            raw,
            self._kernel,
            self._how.grid(width, rows.end - rows.begin, self._processors),
            (self._how.tiling.threads,),
            *args,
            *_sizes(height, width, rows),
            shared_bytes=self._how.tiling.shared_bytes,
        )


class Trunk:
    """A convolution between activations, likewise; with the best tiling for the device unless one is given."""

    def __init__(
        self,
        architecture: Architecture,
        launcher: Any,
        stream: Any,
        tiling: Tiling | None = None,
        itemsizes: tuple[int, int] = HALVES,
    ) -> None:
        kernel = trunk_kernel(architecture, launcher.arch(stream), tiling, itemsizes)
        self._features = architecture.features
        self._convolution = Convolution(kernel, launcher, stream)

    def __call__(
        self, raw: Any, source: int, target: int, height: int, width: int, rows: Rows, parameters: Parameters
    ) -> None:
        """See the protocol."""
        packed = parameters.weights, parameters.bias, parameters.slope, parameters.scale
        remainders = parameters.remainders(source, target, height, width, rows.end, self._features)
        self._convolution.put(raw, height, width, rows, source, target, *packed, *remainders)


class Tail:
    """The last convolution and the pixel shuffle, likewise."""

    def __init__(
        self,
        architecture: Architecture,
        launcher: Any,
        stream: Any,
        tiling: Tiling | None = None,
        *,
        fp8: bool = False,
    ) -> None:
        kernel = tail_kernel(architecture, launcher.arch(stream), tiling, fp8=fp8)
        self._convolution = Convolution(kernel, launcher, stream)

    def __call__(
        self,
        raw: Any,
        source: int,
        picture: Planes,
        target: Planes,
        height: int,
        width: int,
        rows: Rows,
        parameters: Parameters,
    ) -> None:
        """See the protocol."""
        planes = *_plane_arguments(picture), *_plane_arguments(target)
        packed = parameters.weights, parameters.bias, parameters.scale
        self._convolution.put(raw, height, width, rows, source, *planes, *packed)


class Resize:
    """The resampling, of an architecture that has one, likewise."""

    def __init__(self, architecture: Architecture, launcher: Any, stream: Any) -> None:
        self._launcher = launcher
        self._pixels = resize_pixels(architecture)
        self._kernel = launcher.load(stream, resize_source(architecture))

    def __call__(
        self, raw: Any, source: Planes, picture: Planes, target: Planes, height: int, width: int, rows: Rows
    ) -> None:
        """See the protocol."""
        columns = -(-width // self._pixels)
        self._launcher.put(
            raw,
            self._kernel,
            (-(-columns // RESIZE_THREADS), -(-(rows.end - rows.begin) // RESIZE_DOWN), PLANES),
            (RESIZE_THREADS,),
            *_plane_arguments(source),
            *_plane_arguments(picture),
            *_plane_arguments(target),
            *_sizes(height, width, rows),
        )


class MmaKernels:
    """A :class:`~rave_trio.inference.compact.kernels_protocol.KernelSet`: see there for shapes, threads and streams."""

    resizes_at_once = False

    def __init__(
        self,
        architecture: Architecture,
        launcher: Any,
        stream: Any,
        *,
        fp8: bool = False,
        trunk_tiling: Tiling | None = None,
        tail_tiling: Tiling | None = None,
    ) -> None:
        """Compile and load what ``architecture`` needs onto the device of ``stream``.

        Compute capability 8.0 or newer; 8.9 or newer with ``fp8``.  Tilings are the best for the device unless given,
        as for measuring: the trunk's for layers that read fp16.
        """
        self.fp8 = fp8
        self.head = Head(architecture, launcher, stream)
        self._trunk = {
            read: Trunk(architecture, launcher, stream, trunk_tiling if read == 2 else None, (read, written))
            for read, written in (EIGHTHS if fp8 else [HALVES])
        }
        self.tail = Tail(architecture, launcher, stream, tail_tiling, fp8=fp8)
        if architecture.resampling is not None:
            self.resize = Resize(architecture, launcher, stream)

    def trunk(
        self, raw: Any, source: int, target: int, height: int, width: int, rows: Rows, parameters: Parameters
    ) -> None:
        """See the protocol."""
        self._trunk[parameters.reads](raw, source, target, height, width, rows, parameters)

    def tail_resized(self, *_: Any) -> None:
        """Not here."""
        raise NotImplementedError("these kernels resize by themselves")

    def tail_into(self, target: SurfaceDescriptor, *, dither: bool) -> None:
        """Not here."""


def _plane_arguments(planes: Planes) -> tuple[int, np.int64]:
    return planes.pointer, np.int64(planes.plane)


def _sizes(height: int, width: int, rows: Rows) -> tuple[np.int32, ...]:
    return np.int32(height), np.int32(width), np.int32(rows.begin), np.int32(rows.end)


def _source(name: str, constants: list[str], *files: str) -> KernelSource:
    """The kernel ``name`` from ``files`` of this room's, which ``constants`` specialise."""
    texts = [_text("inference/compact", file) for file in files]
    return KernelSource(name, "\n".join([_text("color/cuda", "half.cuh"), *constants, *texts]))


@cache
def _text(room: str, name: str) -> str:
    return resources.files("rave_trio").joinpath(room, "kernels", name).read_text("utf-8")
