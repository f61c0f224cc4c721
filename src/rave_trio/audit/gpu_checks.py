"""The self-test of GPUs: what the chip says that it can do, tried."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from rave_trio.audit.selftest import Check, NotThereError
from rave_trio.devices.nvidia import EncoderFormat, Gpu, Nvidia, VideoEngines

FRAMES, WIDTH, HEIGHT = 40, 640, 368

ENOUGH = 35.0
"""dB from the surfaces that went in."""

SURFACES = {8: "nv12", 10: "p010le"}


def gpu_checks(found: Nvidia) -> list[Check]:
    """One check for each codec and bit depth that a GPU encodes; where there is nothing to try, one that says why."""
    if found.problem is not None or not found.gpus:
        return [_absent("gpu", found.problem or "there is no GPU")]
    return [check for gpu in found.gpus for check in _checks_of(gpu)]


def _checks_of(gpu: Gpu) -> Iterator[Check]:
    name = f"gpu {gpu.index}"
    if gpu.problem is not None or gpu.cuda_ordinal is None:
        yield _absent(name, gpu.problem or "CUDA's count of it is not known: cuda-bindings is not installed")
        return
    for codec, depth in _decoded(gpu):
        yield Check(f"{name} decode {codec} {depth} bit", functools.partial(_decode, gpu, codec, depth))
    yield Check(f"{name} upscale", functools.partial(_upscale, gpu))
    encoders = gpu.video.encoders if gpu.video else ()
    if not encoders:
        notes = [note for note in (gpu.video.notes if gpu.video else ()) if not note.startswith("NVDEC")]
        yield _absent(f"{name} encode", "; ".join(notes) or "NVENC was not asked")
    for encoder in encoders:
        for depth in encoder.bit_depths:
            yield Check(f"{name} encode {encoder.codec} {depth} bit", functools.partial(_encode, gpu, encoder, depth))


def _absent(name: str, why: str) -> Check:
    def run(_folder: Path) -> str:
        raise NotThereError(why)

    return Check(name, run)


def _decoded(gpu: Gpu) -> list[tuple[str, int]]:
    """Codecs and bit depths that the chip decodes and that can be tried."""
    from rave_trio.audit.decode_check import FORMATS, SOFTWARE

    decoders = gpu.video.decoders if gpu.video else ()
    return [
        (each.codec, each.bit_depth)
        for each in decoders
        if each.codec in SOFTWARE and each.chroma == "4:2:0" and each.bit_depth in FORMATS
        if (each.codec, each.bit_depth) != ("vp9", 10)  # which no encoder here makes
    ]


def _decode(gpu: Gpu, codec: str, depth: int, folder: Path) -> str:
    from rave_trio.audit.decode_check import decode_and_compare
    from rave_trio.devices.copies import copy_to_host
    from rave_trio.devices.cuda import CudaDevice

    assert gpu.cuda_ordinal is not None
    device = CudaDevice(gpu.cuda_ordinal)
    try:
        return decode_and_compare(device, codec, depth, folder, copy_to_host)
    finally:
        device.close()


def _upscale(gpu: Gpu, folder: Path) -> str:
    from rave_trio.audit.upscale_check import upscale_on
    from rave_trio.errors import DeviceUnknown

    try:
        return upscale_on(f"cuda:{gpu.cuda_ordinal}", folder)
    except DeviceUnknown as error:
        raise NotThereError(str(error)) from error


def _encode(gpu: Gpu, encoder: EncoderFormat, depth: int, folder: Path) -> str:
    from rave_trio.devices.copies import copy_from_host
    from rave_trio.devices.cuda import CudaDevice

    assert gpu.cuda_ordinal is not None
    device = CudaDevice(gpu.cuda_ordinal)
    try:
        return encode_and_read_back(device, encoder, depth, folder, copy_from_host)
    finally:
        device.close()


def encode_and_read_back(
    device: Any, encoder: EncoderFormat, depth: int, folder: Path, copy: Any, library: Any = None
) -> str:
    """Encode surfaces that are known in ``device``'s memory, and compare what a decoder on the CPU makes of them.

    ``copy`` brings planes into the device's memory; ``library`` goes for PyNvVideoCodec, in tests.  Raises
    NotThereError for what the chip does not encode, AssertionError for what is not as it should be.
    """
    from rave_trio.audit.clip import psnr
    from rave_trio.audit.surfaces import lumas, surface
    from rave_trio.devices.pool import device_pool
    from rave_trio.frames import ColorRange, ColorSpec, Frame, SurfaceDescriptor
    from rave_trio.media._libav import describe_format
    from rave_trio.media.encoders import ENCODERS, EncoderSettings, encoder_options
    from rave_trio.media.nvenc import NvencPartEncoder
    from rave_trio.media.nvenc_settings import nvenc_refusal
    from rave_trio.memory import Ledger

    name = f"{encoder.codec}_nvenc"
    descriptor = SurfaceDescriptor(
        WIDTH, HEIGHT, describe_format(SURFACES[depth]), ColorSpec(1, 1, 1, ColorRange.LIMITED)
    )
    refusal = nvenc_refusal(encoder.codec, descriptor, VideoEngines(encoders=(encoder,)))
    if refusal is not None:
        raise NotThereError(refusal)
    ticks = Fraction(1, 1000)
    settings = EncoderSettings(name, encoder_options(ENCODERS[name], None, None), descriptor, Fraction(25), ticks)
    pool, stream = device_pool(device, Ledger()), device.stream()
    part = folder / "part.mkv"
    try:
        made = NvencPartEncoder(part, settings, device, b_frames=encoder.max_b_frames or 0, library=library)
        try:
            for index in range(FRAMES):
                frame = Frame(index, 40 * index, 40, ticks, False, surface(descriptor, index, pool, stream, copy))
                try:
                    made.write(frame)
                finally:
                    frame.close()
            made.finish()
        finally:
            made.close()
    finally:
        pool.close()
    found = lumas(part, descriptor)
    if len(found) != FRAMES:
        raise AssertionError(f"{len(found)} of {FRAMES} frames came back")
    peak = float(2**depth - 1)
    worst = min(psnr(came, went, peak) for came, went in found)
    if worst < ENOUGH:
        raise AssertionError(f"a frame is only {worst:.1f} dB from what went in")
    return f"{FRAMES} frames of {WIDTH}x{HEIGHT} in their order, at least {worst:.1f} dB from what went in"
