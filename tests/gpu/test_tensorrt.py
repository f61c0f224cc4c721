"""TensorRT runs our models on a GPU and gives what OpenVINO gives on the CPU.

Skipped where there is no GPU that an installed TensorRT runs on.  Nobody has run it yet: no such GPU was at hand.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from rave_trio import errors
from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import use
from rave_trio.frames import Frame, Tensor
from rave_trio.inference.catalogue import find_model
from rave_trio.inference.tensorrt_backend import TensorRtBackend
from rave_trio.inference.tensorrt_engine import Shapes, build_engine
from rave_trio.inference.tensorrt_library import NAMES, load_library
from rave_trio.inference.tensorrt_runtime import LoadedEngine
from rave_trio.memory import HostPool, Ledger

cuda = pytest.importorskip("rave_trio.devices.cuda", exc_type=ImportError)
copies = pytest.importorskip("rave_trio.devices.copies", exc_type=ImportError)
pools = pytest.importorskip("rave_trio.devices.pool", exc_type=ImportError)

HEIGHT, WIDTH = 180, 320


@pytest.fixture
def device():
    try:
        device = cuda.CudaDevice(0)
    except errors.DeviceError as error:
        pytest.skip(str(error))
    yield device
    device.close()


@pytest.fixture(params=NAMES)
def library(request, device):
    try:
        library = load_library(request.param)
    except errors.DeviceUnknown as error:
        pytest.skip(str(error))
    if refused := library.refusal(device.compute_capability):
        pytest.skip(refused)
    return library


@pytest.mark.parametrize("tile", [None, 128], ids=["whole", "tiles"])
@pytest.mark.parametrize("name", ["animevideo-x2", "animevideo-x4"])
def test_frames_are_those_of_openvino(device, library, name, tile):
    from rave_trio.inference.openvino_backend import OpenVinoBackend
    from rave_trio.inference.openvino_model import Model

    model = Model(*find_model(name))
    geometry = model.geometry(HEIGHT, WIDTH, tile)
    shapes = Shapes.fixed(1, 3, geometry.tile_height, geometry.tile_width)
    pictures = [np.random.default_rng(at).random((3, HEIGHT, WIDTH), np.float32) for at in range(5)]
    ledger = Ledger()

    with device.current():
        targets = [device.compute_capability] if library.is_rtx else []
        built = build_engine(library, model.metadata.path.read_bytes(), shapes, model=name, capabilities=targets)
        engine = LoadedEngine(library, built, model=name)
    pool = pools.device_pool(device, ledger)
    scratch = pools.device_pool(device, ledger, owner=pools.SCRATCH)
    backend = TensorRtBackend(
        engine,
        model.metadata,
        geometry,
        streams=[device.stream() for _ in range(2)],
        pool=pool,
        scratch=scratch,
        ledger=ledger,
        copy=copies.copy,
        size=(HEIGHT, WIDTH),
        handle=lambda stream: int(stream.raw.handle),
        current=device.current,
    )
    stream = device.stream()
    for at, picture in enumerate(pictures):
        given = picture.astype(backend.input_dtype)
        lease = pool.lease(given.nbytes)
        array = DeviceArray(lease.memory, given.shape, given.dtype)
        with use(stream, lease.memory):
            copies.copy_from_host(stream, given, array)
        backend.submit(Frame(at, at, 1, Fraction(1, 25), False, Tensor(array, lease)))
    results = []
    for _ in pictures:
        frame = backend.collect()
        result = np.empty(frame.tensor.shape, frame.tensor.dtype)
        copies.copy_to_host(stream, frame.tensor, result)
        stream.synchronize()
        results.append(result.astype(np.float32))
        frame.close()
    backend.close()
    assert pool.stats().leased == scratch.stats().leased == 0
    pool.close()
    scratch.close()
    assert ledger.stats().current == 0

    host = HostPool(Ledger())
    reference = OpenVinoBackend(
        model, model.geometry(HEIGHT, WIDTH, None), precision="fp32", streams=1, threads=1, pool=host
    )
    for at, picture in enumerate(pictures):
        lease = host.lease(picture.nbytes)
        array = lease.array(picture.shape, np.float32)
        array[:] = picture
        reference.submit(Frame(at, at, 1, Fraction(1, 25), False, Tensor(array, lease)))
        expected = reference.collect()
        error = np.mean((np.clip(expected.tensor, 0, 1) - np.clip(results[at], 0, 1)) ** 2)
        assert error < 10**-4.5, "less than 45 dB between the two"
        expected.close()
    reference.close()
    host.close()
