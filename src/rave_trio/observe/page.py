"""A run's report as a file: JSON, or one page that needs nothing but itself."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from rave_trio.files import write_whole
from rave_trio.media.crops import Crops, take_crops
from rave_trio.observe import svg
from rave_trio.observe.series import Number, rates
from rave_trio.pipeline.metrics import StageMetrics
from rave_trio.plan import EnginePlan
from rave_trio.report import PipelineReport

STYLE = Path(__file__).parent / "page.css"

SPACE = "\N{NO-BREAK SPACE}"

SMOOTHED = 2.0
"""Seconds over which throughput is taken, at least: frames come one by one."""

log = logging.getLogger("rave_trio.observe")


def write_report(report: PipelineReport, path: Path) -> None:
    """Write ``report`` as its ending says, ``.json`` or ``.html``; whole or not at all.  Blocking; raises OSError."""
    is_json = path.suffix.lower() == ".json"
    text = json.dumps(report.as_dict(), default=str, indent=1) if is_json else page(report, _crops(report))
    write_whole(path, text.encode(errors="backslashreplace"))  # names of files may have parts that are no text


def _crops(report: PipelineReport) -> Crops | None:
    """What the page shows of the pictures; what cannot be shown is no reason to go without the rest."""
    middle = report.frames / float(report.plan.media.video.rate) / 2
    try:
        scale = report.plan.scale
        return None if scale is None else take_crops(report.plan.media, report.output, middle, scale)
    except Exception:
        log.info("no crops of the result can be shown", exc_info=True)
        return None


def page(report: PipelineReport, crops: Crops | None) -> str:
    """The whole page: HTML with everything inside."""
    plan = report.plan
    source, target = plan.media.video.surface, plan.encoder.surface
    heading = f"{plan.media.path.name} to {report.output.name}"
    cards = [
        _pictures(crops),
        _notes(report),
        _utilisation(report),
        _throughput(report),
        _queues(report),
        _memory(report),
        _gpu(report),
        _latency(report),
        _plan(report),
        _fingerprint(report),
    ]
    tiles = {
        "frames": f"{report.frames:,}",
        "time": _seconds(report.seconds),
        "speed": f"{report.fps:.2f} fps",
        "size": f"{source.width}x{source.height} to {target.width}x{target.height}",
        "slowest stage": report.metrics.bottleneck,
        "most memory": _bytes(report.ledger.peak),
    }
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in tiles.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{escape(heading)} - rave-trio</title><style>{STYLE.read_text()}</style></head>\n"
        f"<body><header><h1>{escape(heading)}</h1><p>{escape(_done(plan))}, "
        f"{escape(plan.precision)}, {escape(plan.backend)} on {escape(plan.device.name)}, "
        f"{escape(plan.encoder.encoder)}</p></header>\n"
        f'<main><dl class="tiles">{shown}</dl>\n<div class="cards">' + "\n".join(filter(None, cards)) + "</div></main>"
        f"<footer><p>Made by rave-trio {escape(report.fingerprint.rave_trio)}.</p></footer></body></html>\n"
    )


def _card(title: str, body: str, told: str = "", *, wide: bool = False) -> str:
    words = f"<p>{escape(told)}</p>" if told else ""
    kind = ' class="wide"' if wide else ""
    return f"<section{kind}><h2>{escape(title)}</h2>{words}{body}</section>"


def _pictures(crops: Crops | None) -> str:
    if crops is None:
        return ""
    figures = "".join(
        f'<figure><img class="{kind}" alt="{kind}: the same place, {width} by {height} pixels" '
        f'width="{width}" height="{height}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{words}</figcaption></figure>"
        for kind, words, png, width, height in (
            ("before", "before, every pixel repeated", crops.before, crops.width, crops.height),
            ("after", "after", crops.after, crops.width * crops.scale, crops.height * crops.scale),
        )
    )
    told = f"The place of most contrast in the frame at {crops.seconds:.2f} s, before and after encoding."
    return _card("Before and after", f'<div class="crops">{figures}</div>', told, wide=True)


def _notes(report: PipelineReport) -> str:
    notes = [*report.plan.notes, *report.notes]
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes) or "<li>nothing out of the ordinary</li>"
    findings = "" if report.audit is None else _facts(report.audit.rows())
    return _card("Notes and findings", f"<ul>{listed}</ul>{findings}", wide=True)


def _utilisation(report: PipelineReport) -> str:
    elapsed = report.metrics.elapsed or 1.0

    def parts(stage: StageMetrics) -> tuple[float, ...]:
        return stage.busy / elapsed, stage.waiting_for_input / elapsed, stage.waiting_for_output / elapsed

    bars = {stage.name: parts(stage) for stage in report.metrics.stages}
    names = ("busy", "waiting for input", "waiting for output")
    told = (
        f"What each stage spent its time on; {report.metrics.bottleneck} was busy longest. "
        f"Inference includes {100 * report.metrics.postprocess / elapsed:.1f}% for the conversion behind the network."
    )
    rows = [(name, *(f"{100 * share:.1f}%" for share in shares)) for name, shares in bars.items()]
    drawn = svg.shares("Stage utilisation", told, bars) + _legend(names, solid=True)
    return _card("Stages", drawn + _table(("stage", *names), rows), told)


def _throughput(report: PipelineReport) -> str:
    seconds = report.series.get("seconds", [])
    window = max(SMOOTHED, report.metrics.elapsed / 40)
    fps = rates(report.series.get("frames_encode", []), seconds, window)
    told = f"Finished frames per second, over the last {_seconds(window)}."
    return _over_time(report, "Throughput", told, {"fps": fps}, lambda value: f"{value:g}")


def _queues(report: PipelineReport) -> str:
    channels = report.metrics.channels
    peaks = ", ".join(f"{channel.name} {channel.peak} of {channel.capacity}" for channel in channels)
    told = f"Frames that wait between stages, mean of each point. At most: {peaks}."
    lines = {channel.name: report.series.get(f"queue_{channel.name}", []) for channel in channels}
    return _over_time(report, "Queues", told, lines, lambda value: f"{value:g}")


def _memory(report: PipelineReport) -> str:
    columns = {"vram": "frames and network", "host_memory": "process, in RAM", "gpu_memory": "GPU, all of it"}
    lines = {name: report.series[column] for column, name in columns.items() if column in report.series}
    told = f"The most of each point. Frames and network had at most {_bytes(report.ledger.peak)}."
    return _over_time(report, "Memory", told, lines, _bytes)


def _gpu(report: PipelineReport) -> str:
    columns = {"gpu_busy": "kernels", "gpu_decoder": "NVDEC", "gpu_encoder": "NVENC"}
    lines = {name: report.series[column] for column, name in columns.items() if column in report.series}
    if not lines:
        return ""
    return _over_time(report, "GPU", "Share of time in which it was busy.", lines, lambda value: f"{100 * value:g}%")


def _over_time(
    report: PipelineReport, title: str, told: str, lines: Mapping[str, Sequence[Number]], label: svg.Label
) -> str:
    seconds = [at or 0.0 for at in report.series.get("seconds", [])]
    if len(seconds) < 2:
        return _card(title, "<p>The run was too short for numbers over time.</p>", told)
    rows = [
        (f"{at:.2f}", *("" if line[n] is None else label(float(f"{line[n]:.4g}")) for line in lines.values()))
        for n, at in enumerate(seconds)
    ]
    drawn = svg.lines(title, told, seconds, lines, label, _seconds)
    return _card(title, drawn + _legend(lines) + _table(("seconds", *lines), rows), told)


def _latency(report: PipelineReport) -> str:
    rows, found = {}, []
    for stage in report.metrics.stages:
        described = stage.latency.as_dict()
        rows[stage.name] = [(edge, count) for edge, count in described["buckets"]]
        times = (_seconds(float(f"{described[key]:.2g}")) for key in ("p50", "p95", "p99", "max"))
        found.append((stage.name, str(described["calls"]), *times))
    told = "How long calls take; each row is scaled to its own tallest bar. Inference has two calls a frame."
    drawn = svg.histograms("Latency of calls", told, rows, _seconds)
    table = _table(("stage", "calls", "p50", "p95", "p99", "max"), found, open_=True)
    return _card("Latency", drawn + table, told)


def _done(plan: EnginePlan) -> str:
    """The models and sizes in a line."""
    return ", ".join(
        f"resized to {each.width}x{each.height}" if each.model is None else f"{each.model.name} x{each.model.scale}"
        for each in plan.stages
    )


def _plan(report: PipelineReport) -> str:
    plan = report.plan
    rows = [
        ("input", f"{plan.media.video.codec}, {plan.surface.pixel_format.name}, {float(plan.media.video.rate):g} fps"),
        ("output", f"{plan.encoder.encoder} {' '.join(f'{key}={value}' for key, value in plan.encoder.options)}"),
        ("decoder", plan.decoder),
        ("stages", _done(plan)),
        *(("tiles", "whole frames" if each.tiles == 1 else f"{each.tiles} a frame") for each in plan.geometries),
        ("streams", f"{plan.streams}, batches of {plan.batch}, {plan.depth} frames in the backend"),
        ("planned memory", _bytes(plan.fit.memory)),
        *((f"stream #{c.stream.index}", f"{c.stream.kind} {c.stream.codec}: {c.fate.value}") for c in plan.carriage),
    ]
    return _card("Plan", _facts(rows))


def _fingerprint(report: PipelineReport) -> str:
    found = report.fingerprint
    rows = [
        ("program", f"rave-trio {found.rave_trio}, {found.python}, {found.platform}"),
        ("CPU", f"{found.cpu.name}, {found.cpu.cores} cores"),
        *(("GPU", f"{gpu.name}, driver {found.driver}, CUDA {found.cuda}") for gpu in found.gpus),
        ("libraries", ", ".join(f"{name} {version}" for name, version in found.libraries.items())),
        ("FFmpeg", ", ".join(f"{name} {version}" for name, version in found.ffmpeg.items())),
        ("model SHA-256", found.model_sha256 or "none"),
        ("plan hash", found.plan_hash or "none"),
    ]
    return _card("Fingerprint", _facts(rows), wide=True)


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f'<tr><th scope="row">{escape(a)}</th><td>{escape(b)}</td></tr>' for a, b in rows)
    return f'<table class="facts"><tbody>{body}</tbody></table>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, open_: bool = False) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(value)}</td>" for value in rest)}</tr>'
        for first, *rest in rows
    )
    table = f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"
    scroll = f'<div class="scroll" tabindex="0" role="region" aria-label="numbers">{table}</div>'
    return f"<details{' open' if open_ else ''}><summary>Numbers</summary>{scroll}</details>"


def _legend(names: Iterable[str], *, solid: bool = False) -> str:
    listed = "".join(f'<li><i class="c{number}"></i>{escape(name)}</li>' for number, name in enumerate(names, 1))
    return f'<ul class="legend{" solid" if solid else ""}">{listed}</ul>'


def _seconds(value: float) -> str:
    if value >= 600:
        return f"{value / 60:.0f}{SPACE}min"
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if value >= unit or value == 0:
            return f"{value / unit:.3g}{SPACE}{name}"
    return f"{value / 1e-6:.3g}{SPACE}µs"


def _bytes(value: float) -> str:
    return f"{value / 1e9:.3g}{SPACE}GB" if value >= 1e9 else f"{value / 1e6:.3g}{SPACE}MB"
