"""``rave-trio devices``: the CPU, the GPUs, and what can run on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_trio.cli.flags import Common, Output
from rave_trio.cli.render import table

if TYPE_CHECKING:
    from rave_trio.devices.nvidia import DecoderFormat, EncoderFormat, Gpu, Nvidia

DEFAULT_COMMON = Common()


def devices(*, common: Common = DEFAULT_COMMON) -> Output:
    """List the CPU and every GPU, what they decode and encode, and which backends can run on them.

    Where something cannot be used, it says why and what to install.
    """
    import attrs

    from rave_trio.devices.backends import backends
    from rave_trio.devices.cpu import detect_cpu
    from rave_trio.devices.libraries import installed
    from rave_trio.devices.nvidia import probe_nvidia

    common.start_logging()
    cpu, nvidia, libraries = detect_cpu(), probe_nvidia(), installed()
    runnable = backends(libraries, nvidia.usable)
    rows = [("cpu", f"{cpu.name}, {cpu.cores} cores, {cpu.memory_bytes / 1e9:.1f} GB")]
    rows += _nvidia_rows(nvidia)
    rows += [(backend.name, f"{backend.purpose}: {backend.why_not or 'ready'}") for backend in runnable]
    rows += [("libraries", ", ".join(f"{each.name} {each.version}" for each in libraries if each.version) or "none")]
    data = {
        "cpu": attrs.asdict(cpu),
        "nvidia": nvidia.as_dict(),
        "backends": [backend.as_dict() for backend in runnable],
        "libraries": [attrs.asdict(library) for library in libraries],
    }
    return Output({"devices": data}, table(rows))


def _nvidia_rows(nvidia: Nvidia) -> list[tuple[str, str]]:
    versions = f"driver {nvidia.driver_version or 'unknown'}, CUDA {nvidia.cuda_version or 'unknown'}"
    if not nvidia.gpus:
        return [("nvidia", nvidia.problem or versions)]
    rows = [("nvidia", f"{versions}; {nvidia.problem}" if nvidia.problem else versions)]
    for gpu in nvidia.gpus:
        rows.append((f"gpu {gpu.index}", _described(gpu)))
        if gpu.problem:
            rows.append(("", f"cannot be used: {gpu.problem}"))
        if gpu.video is not None:
            rows += [("  decodes", _decoded(gpu.video.decoders))] if gpu.video.decoders else []
            rows += [("  encodes", _encoded(gpu.video.encoders))] if gpu.video.encoders else []
            rows += [("  note", note) for note in gpu.video.notes]
    return rows


def _described(gpu: Gpu) -> str:
    words = [gpu.name]
    if gpu.compute_capability:
        words.append("compute capability {}.{}".format(*gpu.compute_capability))
    if gpu.memory_total is not None and gpu.memory_free is not None:
        words.append(f"{gpu.memory_free / 1e9:.1f} of {gpu.memory_total / 1e9:.1f} GB free")
    if gpu.cuda_ordinal is not None:
        words.append(f"CUDA device {gpu.cuda_ordinal}")
    if gpu.uuid:
        words.append(gpu.uuid)
    return ", ".join(words)


def _decoded(formats: tuple[DecoderFormat, ...]) -> str:
    """Bit depths of the same codec, chroma and size together."""
    depths: dict[tuple[str, str, str], list[int]] = {}
    for each in formats:
        depths.setdefault((each.codec, each.chroma, f"{each.max_width}x{each.max_height}"), []).append(each.bit_depth)
    words = [f"{codec} {chroma} {_bits(bits)} to {size}" for (codec, chroma, size), bits in depths.items()]
    return "; ".join(words) + _engines(max((each.engines or 0 for each in formats), default=0))


def _encoded(formats: tuple[EncoderFormat, ...]) -> str:
    words = []
    for each in formats:
        size = f"{each.max_width}x{each.max_height}"
        b_frames = "" if each.max_b_frames is None else f", up to {each.max_b_frames} B-frames"
        words.append(f"{each.codec} {' '.join(each.chroma)} {_bits(each.bit_depths)} to {size}{b_frames}")
    return "; ".join(words) + _engines(max((each.engines or 0 for each in formats), default=0))


def _bits(depths: tuple[int, ...] | list[int]) -> str:
    return f"{', '.join(map(str, depths))} bit"


def _engines(count: int) -> str:
    return f"; {count} engine{'s' if count > 1 else ''}" if count else ""
