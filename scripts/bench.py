"""Speed and memory, as ratios taken in one run: machines differ and drift, ratios hold.

    python scripts/bench.py [speed|memory|start] [--rounds N] [--input FILE] [--model NAME]

speed   end to end (decode, network, libx264 medium, publish) against OpenVINO alone on the same frames; the sample has
        three sound tracks, two subtitle tracks, a font and chapters, all of which are published
color   what the two colour conversions of a frame take beside the network
memory  peak resident memory of 1,000 frames against 200
start   time of ``rave-trio --help``
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import openvino as ov
import openvino.properties as properties
import openvino.properties.hint as hint

import rave_trio
from rave_trio.color import SurfaceToTensor, TensorToSurface
from rave_trio.frames import Frame, Surface, Tensor
from rave_trio.inference.openvino_backend import OpenVinoBackend
from rave_trio.inference.openvino_runtime import PRECISIONS
from rave_trio.media.decoder import LibavDecoder
from rave_trio.memory import HostPool, Ledger
from rave_trio.plan import EnginePlan, make_plan

SAMPLE = Path(__file__).resolve().parent.parent / "tests" / "media" / "bunny.mkv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["speed", "color", "memory", "start", "all"], default="all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--input", type=Path, help="another video for speed and color")
    parser.add_argument("--model", default="animevideo-x2")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        source = chosen.input or write_rich_sample(Path(name) / "sample.mkv")
        if chosen.what in ("speed", "all"):
            speed(source, chosen.model, chosen.rounds)
        if chosen.what in ("color", "all"):
            color(source, chosen.rounds)
    if chosen.what in ("memory", "all"):
        memory(chosen.rounds)
    if chosen.what in ("start", "all"):
        start()


def speed(source: Path, model_name: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.mkv"
        options = rave_trio.UpscaleOptions(source, target, model=model_name, codec="libx264", overwrite=True)
        plan, _ = make_plan(options)
        tensors = load_tensors(plan)
        bare = bare_openvino(plan, tensors)
        own = own_backend(plan, tensors)
        figures: dict[str, list[float]] = {
            "OpenVINO alone": [],
            "our backend alone": [],
            "pipeline": [],
            "whole call": [],
        }
        work: dict[str, list[float]] = {"our backend alone": [], "pipeline": []}

        def pipeline() -> float:
            began, worked = time.perf_counter(), time.process_time()
            report = rave_trio.upscale_sync(source, target, model=model_name, codec="libx264", overwrite=True)
            figures["whole call"].append(report.frames / (time.perf_counter() - began))
            work["pipeline"].append((time.process_time() - worked) / report.frames)
            return report.fps

        for run in (bare, own):
            run()  # warm-up, not counted
        for _ in range(rounds):
            figures["OpenVINO alone"].append(bare())
            worked = time.process_time()
            figures["our backend alone"].append(own())
            work["our backend alone"].append((time.process_time() - worked) / len(tensors))
            figures["pipeline"].append(pipeline())

    print(f"{source.name}, {len(tensors)} frames, {model_name}, {plan.precision}, {plan.streams} streams, "
          f"{plan.threads} threads, {plan.device.name}; {rounds} rounds in turn")  # fmt: skip
    for name, values in figures.items():
        show(f"{name}, frames per second", values)
    for name, against in (
        ("pipeline", "OpenVINO alone"),
        ("pipeline", "our backend alone"),
        ("whole call", "OpenVINO alone"),
    ):
        show(f"{name} / {against}", [a / b for a, b in zip(figures[name], figures[against], strict=True)])

    for name, values in work.items():
        show(f"{name}, processor seconds a frame", values)
    # Decoding, converting and encoding take processor time that the backend alone has for itself.
    least = [a / b for a, b in zip(work["our backend alone"], work["pipeline"], strict=True)]
    show("limit: backend's share of the work", least)


def write_rich_sample(path: Path) -> Path:
    """The sample with its sound three times, two subtitle tracks, a font of 1 MB, and chapters."""
    with av.open(SAMPLE) as source, av.open(path, "w") as out:
        video = out.add_stream_from_template(source.streams.video[0], opaque=True)
        sounds = [out.add_stream_from_template(source.streams.audio[0]) for _ in range(3)]
        texts = [out.add_mux_stream(codec) for codec in ("subrip", "subrip")]
        out.add_attachment("font.ttf", "font/ttf", bytes(2**20))
        chapter = {"start": 0, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
        out.set_chapters([{"id": 1, "end": 2000, **chapter}, {"id": 2, **chapter, "start": 2000, "end": 3840}])
        packets = []
        for packet in source.demux():
            if packet.size and packet.stream.type == "video":
                packet.stream, packet.dts = video, packet.pts if packet.dts is None else packet.dts
                packets.append(packet)
            elif packet.size:
                packets += [copy_of(packet, sound) for sound in sounds]
        for index, text in itertools.product(range(19), texts):
            packet = av.Packet(b"a line of text")
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = 200 * index
            packet.duration = 150
            packets.append(packet)
        out.mux(sorted(packets, key=lambda p: p.dts * p.time_base))
    return path


def copy_of(packet: av.Packet, stream: av.stream.Stream) -> av.Packet:
    copy = av.Packet(bytes(packet))
    copy.stream, copy.time_base, copy.is_keyframe = stream, packet.time_base, packet.is_keyframe
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
    return copy


def color(source: Path, rounds: int) -> None:
    """One thread, frames of the source in, of twice its size out."""
    options = rave_trio.UpscaleOptions(source, source.with_name("out.mkv"), codec="libx264", overwrite=True)
    plan, _ = make_plan(options)
    pool = HostPool(Ledger())
    to_tensor = SurfaceToTensor(plan.media.video.surface, pool)
    to_surface = TensorToSurface(plan.encoder.surface)
    decoder = LibavDecoder(plan.media)
    pictures = []
    while (frame := decoder.read()) is not None:
        pictures.append(frame.surface.native)

    def framed(index: int, picture: Surface | Tensor) -> Frame:
        return Frame(index, index, 1, Fraction(1, 25), False, picture)

    figures: dict[str, list[float]] = {"surface to tensor, ms a frame": [], "tensor to surface, ms a frame": []}
    surface = plan.media.video.surface
    small = to_tensor.convert(framed(0, Surface(surface, pictures[0]))).tensor
    large = np.ascontiguousarray(small.repeat(2, axis=1).repeat(2, axis=2))
    for _ in range(rounds):
        began = time.perf_counter()
        for index, picture in enumerate(pictures):
            to_tensor.convert(framed(index, Surface(surface, picture))).close()
        figures["surface to tensor, ms a frame"].append(1000 * (time.perf_counter() - began) / len(pictures))
        began = time.perf_counter()
        for index in range(len(pictures)):
            to_surface.convert(framed(index, Tensor(large, None))).close()
        figures["tensor to surface, ms a frame"].append(1000 * (time.perf_counter() - began) / len(pictures))
    print(f"{surface.width}x{surface.height} {surface.pixel_format.name}, x2, one thread")
    for name, values in figures.items():
        show(name, values)


def load_tensors(plan: EnginePlan) -> list[np.ndarray]:
    """Every frame of the plan's input as the network gets it."""
    pool = HostPool(Ledger())
    decoder, convert = LibavDecoder(plan.media), SurfaceToTensor(plan.media.video.surface, pool)
    tensors = []
    while (frame := decoder.read()) is not None:
        tensors.append(convert.convert(frame).tensor.copy())
        frame.close()
    decoder.close()
    return tensors


def bare_openvino(plan: EnginePlan, tensors: list[np.ndarray]) -> Callable[[], float]:
    """OpenVINO as its own benchmark runs it: the ONNX file, the throughput hint, as many requests as it wants."""
    model = ov.Core().read_model(plan.models[0].path)
    model.reshape([1, *tensors[0].shape])
    prepared = ov.preprocess.PrePostProcessor(model)
    prepared.input().tensor().set_element_type(ov.Type.f32)
    prepared.output().tensor().set_element_type(ov.Type.f32)
    compiled = ov.Core().compile_model(
        prepared.build(),
        "CPU",
        {
            hint.performance_mode(): hint.PerformanceMode.THROUGHPUT,
            hint.inference_precision(): PRECISIONS[plan.precision],
            properties.inference_num_threads(): plan.threads,
        },
    )
    queue = ov.AsyncInferQueue(compiled)
    batches = [tensor[np.newaxis] for tensor in tensors]

    def run() -> float:
        began = time.perf_counter()
        for batch in batches:
            queue.start_async({0: batch}, share_inputs=True)
        queue.wait_all()
        return len(batches) / (time.perf_counter() - began)

    return run


def own_backend(plan: EnginePlan, tensors: list[np.ndarray]) -> Callable[[], float]:
    """The engine's backend on the same frames, without the pipeline around it."""
    _, (step,) = make_plan(plan.options)
    pool = HostPool(Ledger())
    backend = OpenVinoBackend(
        step.model, plan.geometries[0], precision=plan.precision, streams=plan.streams, threads=plan.threads, pool=pool
    )

    def run() -> float:
        began, under_way = time.perf_counter(), 0
        for index, tensor in enumerate(tensors):
            if under_way == backend.depth:
                backend.collect().close()
                under_way -= 1
            backend.submit(Frame(index, index, 1, plan.media.video.time_base, False, Tensor(tensor, None)))
            under_way += 1
        for _ in range(under_way):
            backend.collect().close()
        return len(tensors) / (time.perf_counter() - began)

    return run


def memory(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peaks = {count: [] for count in (200, 1000)}
        for count in peaks:
            write_clip(folder / f"{count}.mkv", count)
        for _ in range(min(rounds, 3)):
            for count, values in peaks.items():
                values.append(peak_memory(folder / f"{count}.mkv", folder / "out.mkv") / 1e6)
    for count, values in peaks.items():
        show(f"peak memory of {count} frames of 160x90, MB", values)
    show("1000 frames / 200 frames", [a / b for a, b in zip(peaks[1000], peaks[200], strict=True)])


def write_clip(path: Path, frames: int) -> None:
    """The sample over and over, at half its size, with silence of the same length."""
    with av.open(SAMPLE) as source:
        pictures = [frame.reformat(160, 90, "yuv420p") for frame in source.decode(video=0)]
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        for index in range(frames):
            picture = pictures[index % len(pictures)]
            picture.pts, picture.time_base, picture.pict_type = index, Fraction(1, 25), 0
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))


RUN_AND_TELL = """
import sys
from pathlib import Path
from rave_trio.cli import main

status = main(sys.argv[1:])
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(peak.split()[1])
sys.exit(status)
"""
"""The child reads its own peak: what the parent is told of it (ru_maxrss) includes the parent's, from before exec."""


def peak_memory(source: Path, target: Path) -> int:
    """Peak resident bytes of one run of the command."""
    command = [sys.executable, "-c", RUN_AND_TELL, "upscale", str(source), str(target), "-y", "--progress", "off"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1]) * 1024


def start() -> None:
    times = []
    for _ in range(11):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "rave_trio", "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - began)
    show("rave-trio --help, seconds", times[1:])


def show(name: str, values: list[float]) -> None:
    print(f"{name:<48} median {statistics.median(values):8.3f}   min {min(values):8.3f}   max {max(values):8.3f}")


if __name__ == "__main__":
    main()
