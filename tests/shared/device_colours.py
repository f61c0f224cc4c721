"""What the colour kernels promise, as tests that run on any machine that can run them.

A machine is where kernels run: ``device`` and ``stream`` by the contract of :mod:`rave_trio.devices.interface`, a
``pool`` of its memory, a ``launcher``, and ``write(memory, bytes)`` and ``read(memory, count)`` for its contents.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import attrs
import numpy as np
import pytest

from rave_trio import errors
from rave_trio.color import TensorToSurface
from rave_trio.color.cuda import CudaSurfaceToTensor, CudaTensorToSurface, layout
from rave_trio.color.cuda.planes import device_layout_of
from rave_trio.color.cuda.specialisation import Tile
from rave_trio.color.dither import CB, CR, SIDE, UNIT, thresholds
from rave_trio.color.layout import layout_of
from rave_trio.color.samples import colours_of
from rave_trio.devices.arrays import DeviceArray, DevicePicture
from rave_trio.frames import Frame, Surface, SurfaceDescriptor, Tensor

SIZE = (37, 29)
WIDE = (134, 21)
"""Wide enough for blocks with neighbours on both sides."""

PLANAR = {
    "nv12": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p", "nv21": "yuv420p",
    "p010le": "yuv420p10le", "p012le": "yuv420p12le", "p016le": "yuv420p16le",
    "p210le": "yuv422p10le", "p216le": "yuv422p16le", "p410le": "yuv444p10le", "p416le": "yuv444p16le",
}  # fmt: skip
"""What interleaved formats hold the same samples as."""

FORMATS = [
    "nv12", "nv16", "nv24", "nv21", "p010le", "p012le", "p016le", "p210le", "p216le", "p410le",
    "yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "yuv422p16le",
    "yuv444p16le", "yuv444p10msble", "yuv410p", "yuv411p", "yuv440p", "gray", "gray10le", "gray16le",
]  # fmt: skip

LOCATIONS = ["LEFT", "CENTER", "TOP_LEFT", "TOP", "BOTTOM_LEFT", "BOTTOM"]

MATRICES = [1, 4, 5, 6, 7, 8, 9, 10]

EXACT = 1e-5
"""Of nominal white: what float32 may lose."""


def tolerance(exact: np.ndarray, dtype: Any) -> np.ndarray:
    """What float32 loses, and rounding to float16."""
    if np.dtype(dtype) == np.float32:
        return np.full_like(exact, EXACT)
    return EXACT + np.spacing(np.abs(exact).astype(np.float16) * np.float16(1.001)).astype(float) / 2


def noise(reference: Any, surface: SurfaceDescriptor, seed: int = 0) -> list[np.ndarray]:
    """Code values without any order, over all that the format can hold, component by component."""
    random = np.random.default_rng(seed)
    shapes = reference.shapes(surface)
    shapes = [shapes[0]] * 3 if surface.pixel_format.is_rgb else shapes
    return [random.integers(0, 2**surface.pixel_format.bit_depth, shape) for shape in shapes]


@attrs.define
class Converting:
    """Both converters as functions on numpy arrays, on one machine; what they lease is given back."""

    machine: Any
    shift: int = 0
    """Bytes that planes lie off their alignment: rows begin anywhere then."""
    tile: Tile | None = None

    def frame(self, codes: list[np.ndarray], surface: SurfaceDescriptor) -> Frame:
        """A frame of these components in the machine's memory; what lies between the rows is noise."""
        placed = layout(surface, 1) if self.shift else layout(surface)
        lease = self.machine.pool.lease(placed.nbytes + self.shift)
        raw = np.random.default_rng(5).integers(0, 256, placed.nbytes + self.shift, np.uint8)
        for view, component, values in self._views(raw, surface, placed, codes):
            view[:] = values << component.shift
        self.machine.write(lease.memory, raw)
        planes = tuple(
            attrs.evolve(plane, offset=plane.offset + self.shift) for plane in placed.picture(lease.memory).planes
        )
        return self._framed(Surface(surface, DevicePicture(planes), lease))

    def codes(self, frame: Frame, surface: SurfaceDescriptor, shapes: list[tuple[int, int]]) -> list[np.ndarray]:
        """The components of a frame's surface; the words' other bits must be zero."""
        picture = frame.surface.native
        raw = self.machine.read(picture.memory, max(plane.offset + plane.nbytes for plane in picture.planes))
        found = []
        for plane_view, component, shape in self._picture_views(raw, picture, surface, shapes):
            words = plane_view[: shape[0], : shape[1]].astype(int)
            assert (words % (1 << component.shift) == 0).all()
            found.append(words >> component.shift)
        return found

    def tensor(self, array: np.ndarray) -> Frame:
        """A frame that holds ``array`` in the machine's memory."""
        lease = self.machine.pool.lease(array.nbytes)
        self.machine.write(lease.memory, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        return self._framed(Tensor(DeviceArray(lease.memory, array.shape, array.dtype), lease))

    def array(self, frame: Frame) -> np.ndarray:
        """The tensor of a frame."""
        tensor = frame.tensor
        return self.machine.read(tensor.memory, tensor.nbytes).view(tensor.dtype).reshape(tensor.shape)

    def reader(self, surface: SurfaceDescriptor, dtype: Any) -> CudaSurfaceToTensor:
        machine = self.machine
        return CudaSurfaceToTensor(
            surface, machine.pool, machine.stream, dtype=dtype, launcher=machine.launcher, tile=self.tile
        )

    def writer(self, surface: SurfaceDescriptor, dtype: Any, **options: Any) -> CudaTensorToSurface:
        machine = self.machine
        return CudaTensorToSurface(
            surface, machine.pool, machine.stream, dtype=dtype, launcher=machine.launcher, tile=self.tile, **options
        )

    def there(self, codes: list[np.ndarray], surface: SurfaceDescriptor, dtype: Any = np.float32) -> np.ndarray:
        frame = self.reader(surface, dtype).convert(self.frame(codes, surface))
        array = self.array(frame)
        frame.close()
        return array

    def back(self, array: np.ndarray, surface: SurfaceDescriptor, reference: Any, **options: Any) -> list[np.ndarray]:
        shapes = reference.shapes(surface)
        shapes = [shapes[0]] * 3 if surface.pixel_format.is_rgb else shapes
        if self.shift:
            options.setdefault("alignment", 1)
        frame = self.writer(surface, array.dtype, **options).convert(self.tensor(array))
        codes = self.codes(frame, surface, shapes)
        frame.close()
        return codes

    @staticmethod
    def _framed(picture: Any) -> Frame:
        return Frame(0, 0, 1, Fraction(1, 25), True, picture)

    def _views(self, raw: np.ndarray, surface: SurfaceDescriptor, placed: Any, codes: list[np.ndarray]) -> Any:
        for component, values in zip(device_layout_of(surface.pixel_format.name).colours, codes, strict=True):
            plane = placed.planes[component.plane]
            offset = self.shift + plane.offset + component.offset
            strides = (plane.pitch, component.step)
            yield np.ndarray(values.shape, component.dtype, raw.data, offset, strides), component, values

    @staticmethod
    def _picture_views(raw: np.ndarray, picture: Any, surface: SurfaceDescriptor, shapes: Any) -> Any:
        for component, shape in zip(device_layout_of(surface.pixel_format.name).colours, shapes, strict=True):
            plane = picture.planes[component.plane]
            strides = (plane.pitch, component.step)
            offset = plane.offset + component.offset
            yield np.ndarray(shape, component.dtype, raw.data, offset, strides), component, shape


def check_reading(machine, reference, surface, dtype, shift=0, tile=None) -> None:
    codes = noise(reference, surface, surface.color.matrix)
    exact = reference.to_rgb(codes, surface)
    found = Converting(machine, shift, tile).there(codes, surface, dtype)
    assert found.dtype == dtype
    assert (np.abs(found - exact) <= tolerance(exact, dtype)).all()


def check_writing(machine, reference, surface, dtype, shift=0, tile=None) -> None:
    picture = np.random.default_rng(1).uniform(-0.1, 1.1, (3, surface.height, surface.width)).astype(dtype)
    bits = surface.pixel_format.bit_depth
    close = 0.55 if bits == 16 else 0.51
    found = Converting(machine, shift, tile).back(picture, surface, reference)
    for plane, exact in zip(found, reference.to_codes(picture, surface), strict=True):
        assert np.abs(plane - np.clip(exact, 0, 2**bits - 1)).max() < close


def on_cpu(picture: np.ndarray, surface: SurfaceDescriptor) -> list[np.ndarray]:
    """The components that the CPU's converter makes, dithered."""
    frame = Frame(0, 0, 1, Fraction(1, 25), True, Tensor(picture.copy(), None))
    native = TensorToSurface(surface, dither=True).convert(frame).surface.native
    components = colours_of(native, layout_of(surface.pixel_format.name), surface)
    return [samples.rows(0, samples.shape[0]).astype(int) for samples in components]


def pattern(shape: tuple[int, int], moved: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The thresholds of one component."""
    rows, columns = np.indices(shape)
    return thresholds()[(rows + moved[1]) % SIDE, (columns + moved[0]) % SIDE] / UNIT


DTYPES = pytest.mark.parametrize("dtype", [np.float16, np.float32], ids=["fp16", "fp32"])


class DeviceColours:
    """The suite.  Needs the fixtures ``machine`` and ``reference``."""

    @pytest.mark.parametrize("name", FORMATS)
    @DTYPES
    def test_noise_is_read_as_the_reference_reads_it(self, machine, reference, name, dtype):
        check_reading(machine, reference, reference.descriptor(name, *WIDE, 1, False), dtype)

    @pytest.mark.parametrize("name", FORMATS)
    @DTYPES
    def test_every_sample_is_the_references_rounded_once(self, machine, reference, name, dtype):
        check_writing(machine, reference, reference.descriptor(name, *WIDE, 1, False), dtype)

    @pytest.mark.parametrize("matrix", MATRICES)
    @pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
    def test_every_matrix_and_range_is_the_references(self, machine, reference, matrix, full):
        check_reading(machine, reference, reference.descriptor("nv12", *SIZE, matrix, full), np.float32)
        check_writing(machine, reference, reference.descriptor("p010le", *SIZE, matrix, full), np.float32)

    @pytest.mark.parametrize("location", LOCATIONS)
    @pytest.mark.parametrize("name", ["nv12", "yuv422p10le", "yuv410p"])
    def test_chroma_lies_where_the_location_says(self, machine, reference, name, location):
        surface = reference.descriptor(name, *WIDE, 1, False, location)
        check_reading(machine, reference, surface, np.float32)
        check_writing(machine, reference, surface, np.float32)

    @pytest.mark.parametrize(
        "size",
        [(1, 1), (2, 2), (1, 7), (7, 1), (3, 5), (8, 8), (9, 9), (16, 4), (17, 3), (255, 6), (264, 18), (1032, 5)],
        ids=lambda size: f"{size[0]}x{size[1]}",
    )
    @pytest.mark.parametrize("name", ["nv12", "yuv420p10le"])
    def test_any_size_is_converted_as_the_reference_does(self, machine, reference, size, name):
        surface = reference.descriptor(name, *size, 1, False)
        for dtype in (np.float16, np.float32):
            check_reading(machine, reference, surface, dtype)
            check_writing(machine, reference, surface, dtype)

    @pytest.mark.parametrize("name", ["nv12", "yuv420p", "yuv444p", "gray"])
    @pytest.mark.parametrize("shift", [1, 4])
    def test_planes_that_lie_anywhere_are_converted_all_the_same(self, machine, reference, name, shift):
        surface = reference.descriptor(name, 131, 22, 1, False)
        check_reading(machine, reference, surface, np.float16, shift)
        check_writing(machine, reference, surface, np.float16, shift)

    @pytest.mark.parametrize("name", ["gbrp", "gbrp10le", "gbrp16le"])
    def test_green_blue_and_red_are_read_and_written_code_for_code(self, machine, reference, name):
        surface = reference.descriptor(name, *WIDE)
        codes = noise(reference, surface)
        converting = Converting(machine)
        rgb = converting.there(codes, surface)
        assert np.abs(rgb - np.stack(codes) / (2**surface.pixel_format.bit_depth - 1)).max() < 1e-6
        for before, after in zip(codes, converting.back(rgb, surface, reference), strict=True):
            assert (before == after).all()

    @pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
    def test_planes_tagged_as_identity_hold_green_blue_and_red(self, machine, reference, full):
        surface = reference.descriptor("yuv444p10le", *SIZE, 0, full)
        check_reading(machine, reference, surface, np.float32)
        check_writing(machine, reference, surface, np.float32)

    @pytest.mark.parametrize("name", ["yuv444p", "yuv444p10le", "yuv444p16le", "p410le", "gray", "gray10le"])
    def test_what_is_read_and_written_again_comes_back_code_for_code(self, machine, reference, name):
        surface = reference.descriptor(name, *SIZE, 1, False)
        codes = noise(reference, surface)
        converting = Converting(machine)
        after = converting.back(converting.there(codes, surface), surface, reference)
        for before, found in zip(codes, after, strict=True):
            assert (before == found).all()

    @DTYPES
    def test_eight_bits_come_back_code_for_code_by_way_of_both_precisions_dithered_or_not(
        self, machine, reference, dtype
    ):
        surface = reference.descriptor("nv12", *WIDE, 1, False)
        codes = noise(reference, surface)
        codes[1][:], codes[2][:] = 90, 170
        codes[0] = codes[0] % 180 + 30
        converting = Converting(machine)
        rgb = converting.there(codes, surface, dtype)
        for dither in (False, True) if dtype == np.float32 else (False,):
            for before, found in zip(codes, converting.back(rgb, surface, reference, dither=dither), strict=True):
                assert (before == found).all()

    @pytest.mark.parametrize("name", ["nv12", "yuv444p10le", "gbrp", "gray"])
    @DTYPES
    def test_what_is_not_a_number_is_black_and_what_is_infinite_is_clipped(self, machine, reference, name, dtype):
        surface = reference.descriptor(name, 64, 32)
        picture = np.full((3, 32, 64), 0.5, dtype)
        black, spoilt = picture.copy(), picture.copy()
        black[:, 8:16, 8:16], spoilt[:, 8:16, 8:16] = 0, np.nan
        converting = Converting(machine)
        expected, found = (converting.back(p, surface, reference) for p in (black, spoilt))
        for a, b in zip(expected, found, strict=True):
            assert (a == b).all()
        spoilt[:, 8:16, 8:16], spoilt[:, 20:, 20:] = np.inf, -np.inf
        bright = converting.back(spoilt, surface, reference)[0]
        assert (bright[8:16, 8:16] == 2**surface.pixel_format.bit_depth - 1).all()
        assert (bright[20:, 20:] == 0).all()
        spoilt[0] = np.finfo(dtype).max
        converting.back(spoilt, surface, reference)

    def test_codes_halfway_between_two_are_rounded_up(self, machine, reference):
        picture = np.full((1, 16, 16), 0.5, np.float32)
        surface = reference.descriptor("gray", 16, 16)
        assert (Converting(machine).back(picture, surface, reference)[0] == 128).all()

    @pytest.mark.parametrize("name", ["nv12", "yuv444p10le"])
    def test_a_grey_tensor_becomes_a_grey_picture(self, machine, reference, name):
        surface = reference.descriptor(name, 32, 32)
        unit = 2 ** (surface.pixel_format.bit_depth - 8)
        y, cb, cr = Converting(machine).back(np.full((1, 32, 32), 0.5, np.float32), surface, reference)
        assert (y == np.floor(125.5 * unit + 0.5)).all()
        assert (cb == 128 * unit).all()
        assert (cr == 128 * unit).all()

    @pytest.mark.parametrize("name", ["nv12", "yuv422p10le", "yuv410p"])
    def test_flat_chroma_is_interpolated_to_itself(self, machine, reference, name):
        surface = reference.descriptor(name, *WIDE, 1, False)
        codes = noise(reference, surface)
        codes[0][:], codes[1][:], codes[2][:] = 77, 30, 201
        rgb = Converting(machine).there(codes, surface)
        assert all((channel == channel[0, 0]).all() for channel in rgb)

    def test_dithering_keeps_the_mean_of_what_lies_between_two_codes(self, machine, reference):
        surface = reference.descriptor("yuv444p", 64, 64, 1, True)
        converting = Converting(machine)
        for share in (0.1, 0.25, 0.5, 0.8):
            picture = np.full((3, 64, 64), (100 + share) / 255, np.float32)
            luma, cb, cr = converting.back(picture, surface, reference, dither=True)
            assert set(np.unique(luma)) == {100, 101}
            assert luma.mean() == pytest.approx(100 + share, abs=1 / 64)
            assert (cb == 128).all()
            assert (cr == 128).all()
        again = converting.back(picture, surface, reference, dither=True)[0]
        assert (again == luma).all()

    @pytest.mark.parametrize("name", ["nv12", "yuv422p", "yuv444p", "gray"])
    @pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
    def test_dithered_codes_are_the_cpus_but_where_float32_cannot_tell(self, machine, reference, name, full):
        surface = reference.descriptor(name, *WIDE, 1, full, "LEFT")
        picture = np.random.default_rng(6).uniform(-0.1, 1.1, (3, WIDE[1], WIDE[0])).astype(np.float32)
        found = Converting(machine).back(picture, surface, reference, dither=True)
        plain = Converting(machine).back(picture, surface, reference)
        moves = ((0, 0), CB, CR)[: len(found)]
        for codes, undithered, cpu, exact, moved in zip(
            found, plain, on_cpu(picture, surface), reference.to_codes(picture, surface), moves, strict=True
        ):
            limit = exact + pattern(exact.shape, moved)
            unclear = np.abs(limit - np.rint(limit)) < 1e-3
            expected = np.clip(np.floor(limit), 0, 255)
            assert (codes == expected)[~unclear].all()
            assert (cpu == expected)[~unclear].all()
            assert unclear.mean() < 0.02
            assert 0.1 < (codes != undithered).mean() < 0.5

    def test_dithered_codes_are_the_cpus_to_the_last_where_float32_is_exact(self, machine, reference):
        surface = reference.descriptor("gbrp", *WIDE)
        picture = np.random.default_rng(7).integers(-100, 1124, (3, WIDE[1], WIDE[0])).astype(np.float32) / 1024
        found = Converting(machine).back(picture, surface, reference, dither=True)
        for codes, cpu, channel in zip(found, on_cpu(picture, surface), picture, strict=True):
            assert (codes == cpu).all()
            assert (codes == np.clip(np.floor(255 * channel + pattern(channel.shape)), 0, 255)).all()

    @pytest.mark.parametrize("tile", [Tile(4, 2), Tile(8, 2), Tile(16, 1)], ids=lambda t: f"{t.pixels}x{t.groups}")
    @DTYPES
    def test_the_tiles_that_threads_convert_make_no_difference(self, machine, reference, tile, dtype):
        surface = reference.descriptor("nv12", *WIDE, 1, False, "TOP_LEFT")
        check_reading(machine, reference, surface, dtype, tile=tile)
        check_writing(machine, reference, surface, dtype, tile=tile)

    def test_a_tensor_of_any_pitch_is_written(self, machine, reference):
        surface = reference.descriptor("nv12", 40, 10, 1, False)
        picture = np.random.default_rng(1).random((3, 10, 40), np.float32)
        wide = np.full((3, 10, 48), np.nan, np.float32)
        wide[:, :, :40] = picture
        converting = Converting(machine)
        frame = converting.tensor(wide)
        frame.picture.array = DeviceArray(frame.tensor.memory, picture.shape, np.float32, pitch=4 * 48)
        written = converting.writer(surface, np.float32).convert(frame)
        found = converting.codes(written, surface, reference.shapes(surface))
        written.close()
        for a, b in zip(found, converting.back(picture, surface, reference), strict=True):
            assert (a == b).all()

    def test_nothing_is_written_beside_the_planes(self, machine, reference):
        surface = reference.descriptor("yuv420p", 37, 29, 1, False)
        converting = Converting(machine)
        placed = layout(surface)
        black = converting.tensor(np.zeros((3, 29, 37), np.float32))
        lease = machine.pool.lease(placed.nbytes)
        machine.write(lease.memory, np.full(placed.nbytes, 0xA5, np.uint8))
        lease.close()  # the next lease of this size is the same memory
        frame = converting.writer(surface, np.float32).convert(black)
        raw = machine.read(frame.surface.native.memory, placed.nbytes)
        frame.close()
        inside = np.zeros(placed.nbytes, bool)
        for plane in placed.planes:
            np.ndarray((plane.rows, plane.samples), bool, inside.data, plane.offset, (plane.pitch, 1))[:] = True
        assert (raw[~inside] == 0xA5).all()
        assert (raw[inside] != 0xA5).all()

    def test_a_picture_of_another_size_is_refused_and_stays_the_callers(self, machine, reference):
        converting = Converting(machine)
        surface, other = reference.descriptor("nv12", 37, 29), reference.descriptor("nv12", 64, 64)
        frame = converting.frame(noise(reference, surface), surface)
        with pytest.raises(errors.DecodeError, match="changes to 37x29 nv12 at frame 0; it began as 64x64") as caught:
            converting.reader(other, np.float16).convert(frame)
        assert "split the input" in caught.value.remedy
        assert frame.surface.native is not None
        frame.close()

    def test_planes_that_are_not_the_descriptors_are_refused_and_leave_no_lease_behind(self, machine, reference):
        converting = Converting(machine)
        surface = reference.descriptor("nv12", 64, 64)
        frame = converting.frame(noise(reference, surface), surface)
        frame.surface.native = DevicePicture(frame.surface.native.planes[:1])
        with pytest.raises(ValueError, match="are not those of the picture"):
            converting.reader(surface, np.float16).convert(frame)
        frame.close()

    def test_a_tensor_of_another_size_or_dtype_is_refused_and_stays_the_callers(self, machine, reference):
        converting = Converting(machine)
        frame = converting.tensor(np.zeros((3, 32, 32), np.float32))
        with pytest.raises(ValueError, match=r"shape \(3, 32, 32\) is no 64x32 picture"):
            converting.writer(reference.descriptor("nv12", 64, 32), np.float32).convert(frame)
        with pytest.raises(ValueError, match="a tensor of float32 is not one of float16"):
            converting.writer(reference.descriptor("nv12", 32, 32), np.float16).convert(frame)
        assert frame.tensor is not None
        frame.close()
