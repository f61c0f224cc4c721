"""What every set of kernels for the Compact family promises, on a GPU, against numpy.

Sources lie between bytes that are NaN in fp16 and in e4m3, targets are full of them at first, and what lies around them
must still be NaN afterwards.
"""

from __future__ import annotations

import attrs
import e4m3
import numpy as np
import pytest
from compact_reference import (
    Layer,
    architecture,
    cubic,
    enlarged,
    packed,
    packed_head,
    padded,
    random_layer,
    remainders_as_pixels_lie,
    remainders_as_threads_hold,
    resampled,
    shuffled,
    through,
)

from rave_trio.devices.copies import copy_from_host, copy_to_host
from rave_trio.devices.interface import use
from rave_trio.inference.compact.e4m3 import NOT_A_NUMBER
from rave_trio.inference.compact.kernels_protocol import (
    REMAINING,
    REMAINING_CHANNELS,
    Architecture,
    Parameters,
    Planes,
    Rows,
    remainder_bytes,
    remainders_at,
)

GUARD = 512
"""Elements of NaN on either side."""

FP16_ROUNDING = 2.0**-11
"""Half a unit in the last place, relative."""

SUM_ROUNDING = 2.0**-18
"""Relative to the sizes of what is added up: a few dozen additions that cut at 2**-23 or finer."""

SMALLEST = 2.0**-24
"""Of fp16, below which nothing is told apart."""

E4M3_SUM_ROUNDING = 2.0**-10
"""Of sums of products of e4m3, which the matrix units add with fewer bits than fp32 has."""

E4M3_SUMS = 2e-3
"""The same, of all sums together relative to their own size."""

SIZES = [(1, 1), (1, 70), (67, 1), (7, 5), (37, 200), (129, 257)]


class Rig:
    """Kernels on a device, and arrays that go there and come back."""

    def __init__(self, device, make_kernels):
        from rave_trio.devices.launcher import CudaLauncher

        self.device, self.stream = device, device.stream()
        self.launcher, self._make = CudaLauncher(), make_kernels
        self._made, self._memories = {}, []

    @property
    def arch(self) -> str:
        return self.launcher.arch(self.stream)

    def kernels(self, arch: Architecture):
        if arch not in self._made:
            self._made[arch] = self._make(arch, self.launcher, self.stream)
        return self._made[arch]

    def upload(self, values: np.ndarray):
        memory = self.device.allocate(values.nbytes)
        self._memories.append(memory)
        with use(self.stream, memory):
            copy_from_host(
                self.stream, np.ascontiguousarray(values).reshape(-1), memory.array((values.size,), values.dtype)
            )
        self.stream.synchronize()
        return memory

    def guarded(self, values: np.ndarray, shift: int = 0):
        """The address of ``values``, fp16 or codes of e4m3, between NaN; ``shift`` of fp16 further than aligned."""
        before, behind = (np.full(2 * count, NOT_A_NUMBER, np.uint8) for count in (GUARD + shift, GUARD))
        memory = self.upload(np.concatenate([before, values.reshape(-1).view(np.uint8), behind]))
        return memory.pointer + len(before), memory

    def poisoned(self, shape: tuple[int, ...], shift: int = 0):
        """Of fp16."""
        return self.guarded(np.full((*shape, 2), NOT_A_NUMBER, np.uint8), shift)

    def download(self, memory, shape: tuple[int, ...], shift: int = 0) -> np.ndarray:
        """What lies between the guards, which must be whole."""
        host = self.read(memory)
        begin, end = GUARD + shift, GUARD + shift + int(np.prod(shape))
        assert np.isnan(host[:begin]).all(), "something was written before the target"
        assert np.isnan(host[end:]).all(), "something was written behind the target"
        return host[begin:end].reshape(shape)

    def read(self, memory) -> np.ndarray:
        host = np.empty(memory.nbytes // 2, np.float16)
        with use(self.stream, memory):
            copy_to_host(self.stream, memory.array(host.shape, np.float16), host)
        self.stream.synchronize()
        return host

    def parameters(self, weights, bias, slope=None, scale=None, *, remains: bool = False) -> Parameters:
        arrays = weights, bias, slope, scale
        return Parameters(*(0 if each is None else self.upload(each).pointer for each in arrays), remains)

    def activations(self, x: np.ndarray, *, fp8: bool) -> tuple[np.ndarray, int]:
        """The numbers that are left of ``x``, rounded, and their address."""
        if not fp8:
            halves = x.astype(np.float16)
            return halves, self.guarded(halves)[0]
        codes = e4m3.encoded(x)
        return e4m3.decoded(codes), self.guarded(codes)[0]

    def tail(self, layer: Layer, outputs: int, *, fp8: bool) -> tuple[Layer, Parameters]:
        """What is left of ``layer``, its weights rounded, and its parameters, padded."""
        bias = padded(layer.bias, outputs)
        if not fp8:
            halves = attrs.evolve(layer, weights=layer.weights.astype(np.float16))
            return halves, self.parameters(packed(halves, outputs), bias)
        rounded, codes, scale = in_e4m3(layer, outputs)
        return rounded, self.parameters(codes, bias, scale=scale)

    def put(self, call, *args) -> None:
        self.stream.launch(lambda raw: call(raw, *args))
        self.stream.synchronize()

    def close(self) -> None:
        self.stream.synchronize()
        for memory in self._memories:
            memory.close()
        self._memories = []


def picture_of(rng, height: int, width: int) -> np.ndarray:
    return rng.uniform(0, 1, (3, height, width)).astype(np.float16)


def in_e4m3(layer: Layer, outputs: int) -> tuple[Layer, np.ndarray, np.ndarray]:
    """What rounding its weights to e4m3 leaves of a layer; the codes, packed; and the scales, both padded."""
    scale = np.random.default_rng().uniform(0.01, 0.03, outputs).astype(np.float32)
    codes = e4m3.encoded(packed(layer, outputs) / scale[:, np.newaxis])
    taps = e4m3.decoded(codes) * scale[:, np.newaxis]
    weights = taps.reshape(3, 3, outputs, -1).transpose(2, 3, 0, 1)[: len(layer.weights)]
    return attrs.evolve(layer, weights=weights), codes, scale


def assert_close(found: np.ndarray, expected: np.ndarray, size: np.ndarray, *, fp8: bool = False) -> None:
    """Each value for itself, and all together; with ``fp8`` as sums of products of e4m3."""
    found = found.astype(np.float64)
    assert not np.isnan(found).any(), f"{np.isnan(found).sum()} of {found.size} were not written"
    of_sums, together = (E4M3_SUM_ROUNDING, E4M3_SUMS) if fp8 else (SUM_ROUNDING, FP16_ROUNDING)
    allowed = FP16_ROUNDING * np.abs(expected) + of_sums * size + SMALLEST
    worst = np.max(np.abs(found - expected) / allowed)
    assert worst <= 1, f"an error is {worst} times what is allowed"
    assert np.linalg.norm(found - expected) <= together * np.linalg.norm(expected)


class KernelContract:
    """Subclasses give ``rig``, a fixture, and may take features away."""

    def check_head(self, rig, features, height, width, rows=None, shift=0, used=None):
        rng = np.random.default_rng()
        used, rows = used or features, rows or Rows(0, height)
        picture, layer = picture_of(rng, height, width), random_layer(rng, used, 3, activates=True)
        parameters = rig.parameters(
            packed_head(layer, features), padded(layer.bias, features), padded(layer.slope, features)
        )
        source, _ = rig.guarded(picture, shift)
        target, memory = rig.poisoned((height, width, features))
        kernels = rig.kernels(architecture(features))
        rig.put(kernels.head, Planes(source, height * width), target, height, width, rows, parameters)
        out = rig.download(memory, (height, width, features))
        expected, size = through(picture.transpose(1, 2, 0), layer)
        self.check_rows(out, rows)
        window = slice(rows.begin, rows.end)
        assert_close(out[window, :, :used], expected[window], size[window])
        assert (out[window, :, used:] == 0).all()

    def check_trunk(self, rig, features, height, width, rows=None, dtype=np.float64):
        rng = np.random.default_rng()
        rows = rows or Rows(0, height)
        x = rng.normal(0, 1, (height, width, features)).astype(np.float16)
        layer = random_layer(rng, features, features, activates=True)
        parameters = rig.parameters(packed(layer, features), layer.bias, layer.slope)
        source, _ = rig.guarded(x)
        target, memory = rig.poisoned(x.shape)
        rig.put(rig.kernels(architecture(features)).trunk, source, target, height, width, rows, parameters)
        out = rig.download(memory, x.shape)
        expected, size = through(x, layer, dtype)
        self.check_rows(out, rows)
        window = slice(rows.begin, rows.end)
        assert_close(out[window], expected[window], size[window])

    def check_tail(self, rig, arch, height, width, rows=None, shift=0, dtype=np.float64):
        """In fp8 where the kernels are."""
        rng = np.random.default_rng()
        rows, factor, kernels = rows or Rows(0, height), arch.factor, rig.kernels(arch)
        x, source = rig.activations(rng.normal(0, 1, (height, width, arch.features)), fp8=kernels.fp8)
        picture = picture_of(rng, height, width)
        layer = random_layer(rng, 3 * factor**2, arch.features, activates=False)
        layer, parameters = rig.tail(layer, arch.outputs, fp8=kernels.fp8)
        skip, _ = rig.guarded(picture, shift)
        shape = (3, height * factor, width * factor)
        target, memory = rig.poisoned(shape, shift)
        rig.put(
            kernels.tail, source, Planes(skip, height * width), Planes(target, shape[1] * shape[2]),
            height, width, rows, parameters,
        )  # fmt: skip
        out = rig.download(memory, shape, shift)
        expected, size = (shuffled(each, factor) for each in through(x, layer, dtype))
        if arch.skip and arch.resampling is None:
            expected = expected + enlarged(picture, factor)
            size = size + 1
        if arch.clip and arch.resampling is None:
            expected = expected.clip(0, 1)
        window = Rows(rows.begin * factor, rows.end * factor)
        self.check_rows(out.transpose(1, 2, 0), window)
        window = slice(window.begin, window.end)
        assert_close(out[:, window], expected[:, window], size[:, window], fp8=kernels.fp8)

    def check_resize(self, rig, arch, height, width, rows=None, shift=0):
        rng = np.random.default_rng()
        rows, factor, scale = rows or Rows(0, height), arch.factor, arch.scale
        enlargement = rng.normal(0.3, 0.4, (3, height * factor, width * factor)).astype(np.float16)
        picture = picture_of(rng, height, width)
        source, _ = rig.guarded(enlargement, shift)
        skip, _ = rig.guarded(picture, shift)
        shape = (3, height * scale, width * scale)
        target, memory = rig.poisoned(shape, shift)
        rig.put(
            rig.kernels(arch).resize, Planes(source, enlargement[0].size), Planes(skip, height * width),
            Planes(target, shape[1] * shape[2]), height, width, rows,
        )  # fmt: skip
        out = rig.download(memory, shape, shift)
        whole = enlargement.astype(np.float64)
        if arch.skip:
            whole = whole + enlarged(picture, factor)
        expected = resampled(whole, factor, arch.resampling)
        if arch.clip:
            expected = expected.clip(0, 1)
        window = Rows(rows.begin * scale, rows.end * scale)
        self.check_rows(out.transpose(1, 2, 0), window)
        window = slice(window.begin, window.end)
        assert_close(out[:, window], expected[:, window], np.full_like(expected[:, window], 4.0))

    def check_rows(self, out, rows):
        """Rows outside are as they were."""
        assert np.isnan(out[: rows.begin]).all()
        assert np.isnan(out[rows.end :]).all()

    @pytest.mark.parametrize("features", [16, 32, 48, 64, 96, 128])
    def test_the_head_computes_its_layer_at_any_size(self, rig, features):
        for height, width in SIZES:
            self.check_head(rig, features, height, width)

    def test_the_head_takes_fewer_features_and_pictures_that_begin_anywhere(self, rig):
        self.check_head(rig, 32, 19, 33, used=24, shift=3)

    @pytest.mark.parametrize("features", [16, 32, 48, 64, 96, 128])
    def test_the_trunk_computes_its_layer_at_any_size(self, rig, features):
        for height, width in SIZES:
            self.check_trunk(rig, features, height, width)

    @pytest.mark.parametrize("features", [16, 64])
    def test_the_trunk_computes_a_whole_frame(self, rig, features):
        self.check_trunk(rig, features, 720, 1280, dtype=np.float32)

    @pytest.mark.parametrize("features", [16, 32, 48, 64, 96, 128])
    def test_the_tail_computes_its_layer_at_any_size(self, rig, features):
        for height, width in SIZES:
            self.check_tail(rig, architecture(features), height, width)

    def test_the_tail_computes_a_whole_frame(self, rig):
        self.check_tail(rig, architecture(64), 720, 1280, dtype=np.float32)

    @pytest.mark.parametrize("factor", [1, 2, 3])
    def test_the_tail_shuffles_by_any_factor(self, rig, factor):
        for height, width in SIZES:
            self.check_tail(rig, architecture(64, factor, clip=True), height, width)
        self.check_tail(rig, architecture(64, factor, clip=True), 40, 64, shift=1)

    def test_the_tail_adds_no_picture_where_the_network_does_not(self, rig):
        self.check_tail(rig, architecture(48, 4, skip=False), 37, 200)

    def test_the_tail_leaves_to_the_resize_what_is_the_resizes(self, rig):
        self.check_tail(rig, architecture(64, 4, clip=True, resampling=cubic(3, 4)), 37, 200)

    @pytest.mark.parametrize("shift", [1, 4])
    def test_the_tail_writes_pictures_that_begin_anywhere(self, rig, shift):
        self.check_tail(rig, architecture(64), 21, 66, shift=shift)

    @pytest.mark.parametrize("skip", [True, False])
    @pytest.mark.parametrize(("scale", "factor"), [(2, 4), (3, 4), (1, 2), (2, 3), (3, 2), (5, 4), (1, 3), (1, 4)])
    def test_the_resize_resamples_any_size(self, rig, scale, factor, skip):
        arch = architecture(16, factor, skip=skip, clip=not skip, resampling=cubic(scale, factor))
        for height, width in SIZES:
            self.check_resize(rig, arch, height, width)
        self.check_resize(rig, arch, 40, 64)
        self.check_resize(rig, arch, 40, 64, shift=3)

    def test_only_the_rows_asked_for_are_written(self, rig):
        resizing = architecture(64, 4, resampling=cubic(2, 4))
        for begin, end in [(0, 1), (3, 30), (17, 40), (39, 40)]:
            rows = Rows(begin, end)
            self.check_head(rig, 64, 40, 90, rows)
            self.check_trunk(rig, 64, 40, 90, rows)
            self.check_tail(rig, architecture(64), 40, 90, rows)
            self.check_resize(rig, resizing, 40, 90, rows)


def check_fp8_trunk(
    rig: Rig,
    features: int,
    *,
    remains: bool,
    sizes=SIZES,
    rounding: float = E4M3_SUM_ROUNDING,
) -> None:
    """A layer from e4m3 to e4m3 at any size and in a window of rows."""
    rng = np.random.default_rng()
    layer, codes, scale = in_e4m3(random_layer(rng, features, features, activates=True), features)
    shares = rng.uniform(-2, 2, REMAINING).astype(np.float32)
    scales = np.concatenate([scale, shares])
    parameters = rig.parameters(codes, layer.bias, layer.slope, scales, remains=remains)
    steepness = np.maximum(1, np.abs(layer.slope[REMAINING_CHANNELS]))
    trunk = rig.kernels(architecture(features)).trunk
    for height, width, rows in windows(sizes):
        codes = e4m3.encoded(rng.normal(0, 1, (height, width, features)))
        source, added = codes.reshape(-1), None
        if remains:
            remaining = e4m3.encoded(rng.normal(0, 0.3, (height, width, REMAINING)))
            gap = np.full(remainders_at(height, width, features) - codes.size, NOT_A_NUMBER, np.uint8)
            source = np.concatenate([source, gap, remainders_as_threads_hold(remaining)])
            added = e4m3.decoded(remaining) * shares
        target = Fp8Target(rig, rows, width, features, remains=remains)
        rig.put(trunk, rig.guarded(source)[0], target.address, height, width, rows, parameters)
        expected, size = through(e4m3.decoded(codes), layer, added=added, fp8=True)
        slack = rounding * size + in_halves(expected)
        if remains:
            slack[:, :, REMAINING_CHANNELS] += 2 * FP16_ROUNDING * steepness * np.abs(added)
        target.check(expected, slack)


def check_first_fp8_layer(rig: Rig, features: int, *, remains: bool, sizes=SIZES) -> None:
    """The same from fp16 to e4m3."""
    rng = np.random.default_rng()
    layer = random_layer(rng, features, features, activates=True)
    parameters = rig.parameters(packed(layer, features), layer.bias, layer.slope, remains=remains)
    trunk = rig.kernels(architecture(features)).trunk
    for height, width, rows in windows(sizes):
        x = rng.normal(0, 1, (height, width, features)).astype(np.float16)
        target = Fp8Target(rig, rows, width, features, remains=remains)
        rig.put(trunk, rig.guarded(x)[0], target.address, height, width, rows, parameters)
        expected, size = through(x, layer, fp8=True)
        target.check(expected, size * SUM_ROUNDING + in_halves(expected))


def in_halves(expected: np.ndarray) -> np.ndarray:
    """What it adds that sums become fp16 first, then with what is added to them, and slopes and products too."""
    return 4 * FP16_ROUNDING * np.abs(expected) + SMALLEST


def windows(sizes) -> list[tuple[int, int, Rows]]:
    return [*((height, width, Rows(0, height)) for height, width in sizes), (13, 173, Rows(2, 12))]


class Fp8Target:
    """Where the ``rows`` of a layer's results go that are e4m3, with their remainders if there are any."""

    def __init__(self, rig: Rig, rows: Rows, width: int, features: int, *, remains: bool) -> None:
        self._rig, self._rows, self._remains = rig, rows, remains
        self._shape = rows.end, width, features
        self._behind = remainders_at(*self._shape)
        nbytes = self._behind + remainder_bytes(rows.end, width) if remains else np.prod(self._shape)
        self._halves = (nbytes // 2,)
        self.address, self._memory = rig.poisoned(self._halves)

    def check(self, expected: np.ndarray, slack: np.ndarray) -> None:
        """Of ``expected`` only the target's rows count, and nothing else is written."""
        height, width, _ = self._shape
        found = self._rig.download(self._memory, self._halves).view(np.uint8)
        codes = found[: np.prod(self._shape)].reshape(self._shape)
        window = slice(self._rows.begin, self._rows.end)
        assert (codes[: window.start] == NOT_A_NUMBER).all()
        check_e4m3(codes[window], expected[window], slack[window])
        if self._remains:
            assert (found[codes.size : self._behind] == NOT_A_NUMBER).all()
            remaining = remainders_as_pixels_lie(found[self._behind :], height)
            assert (remaining[: window.start] == NOT_A_NUMBER).all()
            check_remainders(remaining[window, :width], codes[window], expected[window], slack[window])


def check_e4m3(codes: np.ndarray, expected: np.ndarray, slack: np.ndarray) -> None:
    """Each is what one of the numbers that the sum may have come to, ``slack`` around it, is rounded to."""
    found = e4m3.decoded(codes)
    least, most = (e4m3.decoded(e4m3.encoded(expected + sign * slack)) for sign in (-1, 1))
    assert ((least <= found) & (found <= most)).all()


def check_remainders(remaining: np.ndarray, codes: np.ndarray, expected: np.ndarray, slack: np.ndarray) -> None:
    """Each is what rounding took away, itself rounded to a sixteenth."""
    expected, slack = expected[:, :, REMAINING_CHANNELS], slack[:, :, REMAINING_CHANNELS]
    whole = e4m3.decoded(codes[:, :, REMAINING_CHANNELS]) + e4m3.decoded(remaining)
    assert (np.abs(whole - expected) <= slack + 2.0**-8 * np.abs(expected) + 2.0**-9).all()
