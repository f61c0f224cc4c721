"""The backend ``compact`` without a GPU: its kernels in numpy, on the memory of a simulated device."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Hashable
from typing import Any

import attrs
import e4m3
import numpy as np
from backend_rigs import OnnxRuntimeRig, host_copy, host_view
from compact_reference import from_sums

from rave_trio.devices.arrays import DeviceArray
from rave_trio.inference.compact.backend import CompactBackend
from rave_trio.inference.compact.find import find_compact
from rave_trio.inference.compact.kernels_protocol import (
    REMAINING,
    REMAINING_CHANNELS,
    Architecture,
    Parameters,
    Planes,
    Resampling,
    Rows,
    remainder_bytes,
    remainders_at,
)
from rave_trio.inference.compact.net import CompactNet, Layer, resampled, shuffled
from rave_trio.inference.compact.strips import resampling_reach
from rave_trio.inference.compact.sums import resizes_within_weights
from rave_trio.inference.model import Geometry
from rave_trio.inference.openvino_model import Model


class NumpyKernels:
    """A :class:`rave_trio.inference.compact.kernels_protocol.KernelSet` on the host.  Sums are in float64."""

    fp8 = False
    resizes_at_once = False

    def __init__(self, architecture: Architecture, launcher: Any, stream: Any) -> None:
        self.architecture = architecture
        self.calls: list[str] = []

    def head(self, raw, picture: Planes, target: int, height, width, rows: Rows, parameters: Parameters) -> None:
        self.calls.append("head")
        features = self.architecture.features
        weights = numbers(parameters.weights, (features, 32), np.float16)
        assert not weights[:, 27:].any()
        taps = weights[:, :27].reshape(features, 9, 3).transpose(1, 0, 2)
        source = plane_view(picture, height, width).transpose(1, 2, 0)
        self._convolve(source, taps, parameters, target, height, width, rows)

    def trunk(self, raw, source: int, target: int, height, width, rows: Rows, parameters: Parameters) -> None:
        self.calls.append("trunk")
        features = self.architecture.features
        added = None
        if parameters.remains and parameters.scale:
            through = numbers(parameters.scale + 4 * features, (REMAINING,), np.float32)
            added = e4m3.decoded(self._remainders(source, height, width)) * through
        narrow = bool(parameters.scale)
        x, taps = self._activations(source, height, width, narrow=narrow), self._taps(parameters, features)
        self._convolve(x, taps, parameters, target, height, width, rows, added, narrow=self.fp8)

    def tail(
        self,
        raw,
        source: int,
        picture: Planes,
        target: Planes,
        height,
        width,
        rows: Rows,
        parameters: Parameters,
    ) -> None:
        self.calls.append("tail")
        how = self.architecture
        taps, bias = self._taps(parameters, how.outputs), numbers(parameters.bias, (how.outputs,), np.float32)
        sums = convolution(self._activations(source, height, width, narrow=self.fp8), taps, bias, rows)
        used = 3 * how.factor**2
        assert not sums[:, :, used:].any()
        result = shuffled(sums[:, :, :used].transpose(2, 0, 1), how.factor)
        if how.resampling is None:
            result = self._finished(result, plane_view(picture, height, width)[:, rows.begin : rows.end], how.factor)
        self._write(target, result, height, width, rows, how.factor)

    def resize(self, raw, source: Planes, picture: Planes, target: Planes, height, width, rows: Rows) -> None:
        self.calls.append("resize")
        how = self.architecture
        assert how.resampling is not None
        large = plane_view(source, height * how.factor, width * how.factor).astype(np.float64)
        if how.skip:
            large += repeated(plane_view(picture, height, width), how.factor)
        result = resampled(large, how.resampling, how.factor)[:, rows.begin * how.scale : rows.end * how.scale]
        self._write(target, np.clip(result, 0, 1) if how.clip else result, height, width, rows, how.scale)

    def tail_resized(
        self,
        raw,
        source: int,
        picture: Planes,
        target: Planes,
        height,
        width,
        rows: Rows,
        parameters: Parameters,
    ) -> None:
        self.calls.append("tail_resized")
        how = self.architecture
        assert self.resizes_at_once
        assert how.resampling is not None
        reach = resampling_reach(how.resampling, how.factor)
        around = Rows(max(0, rows.begin - reach), min(height, rows.end + reach))
        taps, bias = self._taps(parameters, how.outputs), numbers(parameters.bias, (how.outputs,), np.float32)
        sums = np.zeros((height, width, 3 * how.factor**2))
        window = slice(around.begin, around.end)
        sums[window] = convolution(self._activations(source, height, width, narrow=self.fp8), taps, bias, around)[
            :, :, : sums.shape[2]
        ]
        result = from_sums(sums, how.factor, how.resampling)
        if how.skip:
            result += resampled(repeated(plane_view(picture, height, width), how.factor), how.resampling, how.factor)
        result = result[:, rows.begin * how.scale : rows.end * how.scale]
        self._write(target, np.clip(result, 0, 1) if how.clip else result, height, width, rows, how.scale)

    def tail_into(self, target, *, dither):
        """Not here."""

    def _convolve(
        self, source, taps, parameters, target, height, width, rows, added=None, *, narrow: bool = False
    ) -> None:
        """``added`` is of the channels with remainders, in every row of the source.  ``narrow`` results are e4m3."""
        features = self.architecture.features
        bias, slope = (numbers(at, (features,), np.float32) for at in (parameters.bias, parameters.slope))
        window = slice(rows.begin, rows.end)
        sums = convolution(source, taps, bias, rows)
        if added is not None:
            sums[:, :, REMAINING_CHANNELS] += added[window]
        if not narrow:
            results = np.where(sums > 0, sums, slope * sums)
            numbers(target, (height, width, features), np.float16)[window] = results
            return
        results = np.maximum(sums, slope * sums)
        codes = e4m3.encoded(results)
        numbers(target, (rows.end, width, features), np.uint8)[window] = codes
        if parameters.remains:
            rest = (results - e4m3.decoded(codes))[:, :, REMAINING_CHANNELS]
            self._remainders(target, rows.end, width)[window] = e4m3.encoded(rest)

    def _taps(self, parameters: Parameters, outputs: int) -> np.ndarray:
        """Scaled, where that is asked for."""
        shape = 9, outputs, self.architecture.features
        if not parameters.scale:
            return numbers(parameters.weights, shape, np.float16)
        scale = numbers(parameters.scale, (outputs,), np.float32)
        return e4m3.decoded(numbers(parameters.weights, shape, np.uint8)) * scale[:, np.newaxis].astype(np.float64)

    def _activations(self, pointer: int, height: int, width: int, *, narrow: bool) -> np.ndarray:
        shape = height, width, self.architecture.features
        return e4m3.decoded(numbers(pointer, shape, np.uint8)) if narrow else numbers(pointer, shape, np.float16)

    def _remainders(self, pointer: int, height: int, width: int) -> np.ndarray:
        """Codes, as far as there are pixels; here pixel behind pixel."""
        across = remainder_bytes(1, width) // REMAINING
        at = pointer + remainders_at(height, width, self.architecture.features)
        return numbers(at, (height, across, REMAINING), np.uint8)[:, :width]

    def _finished(self, result: np.ndarray, picture: np.ndarray, factor: int) -> np.ndarray:
        if self.architecture.skip:
            result = result + repeated(picture, factor)
        return np.clip(result, 0, 1) if self.architecture.clip else result

    def _write(self, target: Planes, result: np.ndarray, height: int, width: int, rows: Rows, scale: int) -> None:
        plane_view(target, height * scale, width * scale)[:, rows.begin * scale : rows.end * scale] = result


class NumpyKernelsAtOnce(NumpyKernels):
    """With a tail that resizes, where the weights can have that in them."""

    @property
    def resizes_at_once(self) -> bool:
        return resizes_within_weights(self.architecture)


class NumpyKernelsFp8(NumpyKernels):
    """In fp8."""

    fp8 = True


def convolution(source: np.ndarray, taps: np.ndarray, bias: np.ndarray, rows: Rows) -> np.ndarray:
    """Rows of H x W x C through [9][outputs][C], zero around."""
    width = source.shape[1]
    around = np.pad(source.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    sums = np.tile(bias.astype(np.float64), (rows.end - rows.begin, width, 1))
    for tap in range(9):
        y, x = divmod(tap, 3)
        part = around[rows.begin + y : rows.end + y, x : x + width]
        sums += part @ taps[tap].T.astype(np.float64)
    return sums


def repeated(picture: np.ndarray, factor: int) -> np.ndarray:
    return picture.astype(np.float64).repeat(factor, axis=1).repeat(factor, axis=2)


def numbers(pointer: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """What lies at an address."""
    assert pointer
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size == 0:
        return np.empty(shape, dtype)
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(pointer)).view(dtype).reshape(shape)


def plane_view(planes: Planes, height: int, width: int) -> np.ndarray:
    """3 x H x W at an address, with whatever lies between the planes."""
    flat = numbers(planes.pointer, (2 * planes.plane + height * width,), np.float16)
    strides = (2 * planes.plane, 2 * width, 2)
    return np.lib.stride_tricks.as_strided(flat, (3, height, width), strides)


class Direct:
    """Plays on a simulated device: each sequence is one piece of work."""

    def __init__(self) -> None:
        self.played: list[Hashable] = []

    def play(self, stream: Any, key: Hashable, work: Callable[[Any], None], *held: Any) -> None:
        self.played.append(key)
        stream.launch(_worked, work, *held)

    def close(self) -> None:
        pass


def _worked(work: Callable[[Any], None], *_held: Any) -> None:
    with np.errstate(over="ignore", invalid="ignore"):  # of what was never written
        work(None)


def host_upload(stream: Any, values: np.ndarray, target: DeviceArray) -> None:
    stream.launch(_copied, target, values, target.memory)


def _copied(target: DeviceArray, values: np.ndarray, *_held: Any) -> None:
    host_view(target)[:] = values


class CompactRig(OnnxRuntimeRig):
    """Whole pictures."""

    precision = "fp16"
    dtype = np.float16
    tolerance = 4e-3
    strip: int | None = None
    kernels: type = NumpyKernels

    def _backend(self, model: Model, geometry: Geometry) -> CompactBackend:
        return CompactBackend(
            model.metadata,
            find_compact(model.metadata.path),
            attrs.evolve(geometry, strip=self.strip),
            make_kernels=self.kernels,
            launcher=None,
            player=Direct(),
            upload=host_upload,
            stream=self.device.stream(),
            pool=self.pool,
            scratch=self.pool,
            copy=host_copy,
        )


class CompactStripsRig(CompactRig):
    """In strips of few rows."""

    strip = 7


class CompactFp8Rig(CompactRig):
    """In fp8."""

    kernels = NumpyKernelsFp8
    tolerance = 3e-2
    shipped_tolerance = 0.25


def random_net(features=5, trunk=2, factor=2, resampling: Resampling | None = None, seed=0, **how) -> CompactNet:
    """Random weights that keep the size of what goes through."""
    rng = np.random.default_rng(seed)
    widths = [3, *[features] * (trunk + 1), 3 * factor**2]
    layers = [
        Layer(
            rng.normal(0, (9 * inputs) ** -0.5, (outputs, inputs, 3, 3)).astype(np.float32),
            rng.normal(0, 0.2, outputs).astype(np.float32),
            rng.uniform(-0.5, 1.2, outputs).astype(np.float32),
        )
        for inputs, outputs in itertools.pairwise(widths)
    ]
    layers[-1] = attrs.evolve(layers[-1], slope=None)
    return CompactNet(tuple(layers), factor, **{"skip": True, "clip": False} | how, resampling=resampling)
