"""The backend ``compact`` on a GPU: the conformance suite with each set of kernels, and what only a GPU can show."""

from __future__ import annotations

import backend_conformance as suite
import numpy as np
import pytest
from backend_conformance import enlarged, model, start
from backend_rigs import Rig

pytest.importorskip("cuda.core")

from compact_cuda_rigs import ALL, CompactFp8Rig, CompactMmaFp8Rig, CompactMmaRig, CompactWgmmaRig

from rave_trio.color import SurfaceToTensor
from rave_trio.media.decoder import LibavDecoder
from rave_trio.media.probe import probe
from rave_trio.memory import HostPool, Ledger

__all__ = ["model", "start"]


@pytest.fixture(params=ALL, ids=lambda kind: kind.__name__)
def rig(request, cuda):
    made = request.param(cuda)
    yield made
    made.close()


class TestOrder(suite.Order): ...


class TestClose(suite.Close): ...


class TestScarcity(suite.Scarcity): ...


class TestResults(suite.Results): ...


class TestFailures(suite.Failures): ...


SIZES = [(1, 1), (2, 3), (17, 129), (130, 64), (181, 319), (257, 33)]


@pytest.fixture(
    params=[CompactMmaRig, CompactMmaFp8Rig, CompactWgmmaRig, CompactFp8Rig], ids=lambda kind: kind.__name__
)
def kernels(request, cuda):
    """A maker of rigs of one set of kernels, ``kernels(strip=None)``."""
    made: list[Rig] = []

    def make(strip: int | None = None) -> Rig:
        made.append(request.param(cuda))
        made[-1].strip = strip
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("features", [16, 24, 32, 48, 64, 96, 128])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_any_architecture(kernels, compact, noise, features, factor):
    net = suite.Model("net", compact(features=features, factor=factor, trunk=3))
    suite.check(kernels(), net, noise(61, 150))


@pytest.mark.parametrize(
    "resize", [("cubic", "half_pixel", 0.5), ("cubic", "half_pixel", 0.75), ("linear", "asymmetric", 2)]
)
@pytest.mark.parametrize("clip", ["none", "clip"])
@pytest.mark.parametrize("skip", ["none", "scales"])
def test_any_end(kernels, compact, noise, resize, clip, skip):
    net = suite.Model("net", compact(factor=4, resize=resize, clip=clip, skip=skip, features=32))
    suite.check(kernels(), net, noise(37, 70))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("name", ["animevideo-x2", "animevideo-x3", "animevideo-x4"])
def test_strips_give_what_the_whole_picture_gives_bit_for_bit(kernels, shipped, noise, name, height, width):
    picture = noise(height, width)
    whole = enlarged(kernels(), shipped(name), picture)
    assert np.isfinite(whole).all()
    for strip in (1, 16, 100):
        np.testing.assert_array_equal(enlarged(kernels(strip), shipped(name), picture), whole)


@pytest.mark.parametrize("strip", [None, 20])
@pytest.mark.parametrize("features", [16, 32, 48, 64, 96, 128])
def test_nothing_is_read_that_was_not_written(kernels, compact, noise, strip, features):
    """The buffers between the layers are filled with numbers that are none before every frame."""
    rig, picture = kernels(strip), noise(45, 77)
    net = suite.Model("net", compact(features=features, factor=4, trunk=3, resize=("cubic", "half_pixel", 0.5)))
    running = rig.backend(net, net.geometry(45, 77, None))
    results = []
    for byte in (0xFF, 0x7F, 0x00):
        network = running._network
        fill(rig, network._buffers[0], 2 * (network._buffers[1] - network._buffers[0]), byte)
        running.submit(rig.frame(picture))
        results.append(rig.take(running.collect()))
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[2])


def fill(rig, pointer: int, nbytes: int, byte: int) -> None:
    from cuda.bindings import driver

    from rave_trio.devices.driver import check

    rig.stream.launch(lambda raw: check(driver.cuMemsetD8Async(pointer, byte, nbytes, raw.handle)))
    rig.stream.synchronize()


@pytest.mark.parametrize("name", ["animevideo-x2", "animevideo-x3", "animevideo-x4"])
def test_real_frames_are_within_60_db_of_fp32_as_8_bit_pictures_and_46_in_fp8(
    kernels, shipped, bunny, name, record_property
):
    host = HostPool(Ledger())
    media = probe(bunny)
    decoder = LibavDecoder(media)
    convert = SurfaceToTensor(media.video.surface, host)
    pictures = []
    for at in range(61):
        frame = convert.convert(decoder.read())
        if at % 30 == 0:
            pictures.append(frame.tensor.copy())
        frame.close()
    decoder.close()
    host.close()
    rig = kernels()
    for picture in pictures:
        result, exact = enlarged(rig, shipped(name), picture), rig.reference(shipped(name), picture)
        codes = [np.rint(np.clip(each, 0, 1) * 255) for each in (result, exact)]
        error = np.mean((codes[0] - codes[1]) ** 2)
        decibels = 10 * np.log10(255**2 / max(error, 1e-9))
        record_property("decibels", round(float(decibels), 2))
        assert decibels >= rig.least_decibels


def test_frames_are_the_same_in_every_run(kernels, shipped, noise):
    """Whatever the warpgroups' order."""
    picture = noise(180, 320)
    first = enlarged(kernels(), shipped("animevideo-x4"), picture)
    for _ in range(3):
        np.testing.assert_array_equal(enlarged(kernels(), shipped("animevideo-x4"), picture), first)
