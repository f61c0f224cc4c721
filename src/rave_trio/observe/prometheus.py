"""The endpoint that Prometheus reads, and the same health as JSON.  Needs ``prometheus_client``, as no other module."""

from __future__ import annotations

import itertools
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from rave_trio.devices.nvml import GpuLoad
from rave_trio.errors import MetricsPortUnavailable, UsageError
from rave_trio.fingerprint import EngineFingerprint
from rave_trio.observe.health import HealthSnapshot
from rave_trio.pipeline.latency import PER_OCTAVE, Latency, upper_edge

try:
    from prometheus_client import CollectorRegistry, make_wsgi_app
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
except ImportError as error:
    raise UsageError(
        "metrics cannot be served, since prometheus-client is not installed",
        remedy="pip install 'rave-trio[metrics]', or leave out --metrics-port",
    ) from error

EDGES = range(PER_OCTAVE * 7 - 1, PER_OCTAVE * 26, PER_OCTAVE)
"""Buckets whose upper edges Prometheus is told: a doubling each from 128 microseconds to 67 seconds."""

SLOW_CLIENT = 5.0
"""Seconds after which a client that neither asks nor reads is let go."""


class Endpoint:
    """Serves ``/metrics`` and ``/healthz`` from threads of its own until it is closed."""

    def __init__(
        self, host: str, port: int, health: Callable[[], HealthSnapshot | None], fingerprint: EngineFingerprint
    ) -> None:
        """``port`` 0 takes any that is free.  Raises MetricsPortUnavailable."""
        registry = CollectorRegistry()
        registry.register(_Collector(health, fingerprint))
        metrics = make_wsgi_app(registry)

        def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            match environ["PATH_INFO"]:
                case "/metrics":
                    exposed: Iterable[bytes] = metrics(environ, start_response)
                    return exposed
                case "/healthz":
                    found = health()
                    status, body = (
                        ("503 Service Unavailable", {"phase": "prepare"})
                        if found is None
                        else ("200 OK", found.as_dict())
                    )
                    return _answer(start_response, status, "application/json", json.dumps(body))
                case _:
                    return _answer(start_response, "404 Not Found", "text/plain", "/metrics and /healthz are here")

        try:
            kind = _Server6 if ":" in host else _Server
            self._server = make_server(host, port, app, server_class=kind, handler_class=_Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise MetricsPortUnavailable(f"metrics cannot be served at {host}:{port}: {reason}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The one that is listened at."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        host = str(self._server.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/metrics"

    def close(self) -> None:
        """Free the port.  Blocks for a tenth of a second at most; idempotent."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a client that does not read keeps no run from ending

    def server_bind(self) -> None:
        """Without asking the network for the host's name, which may take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own business."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = SLOW_CLIENT

    def log_message(self, format: str, *args: Any) -> None:
        """Who asks is not told."""


def _answer(start_response: Callable[..., Any], status: str, kind: str, body: str) -> list[bytes]:
    start_response(status, [("Content-Type", f"{kind}; charset=utf-8")])
    return [body.encode()]


class _Collector:
    """Makes metrics of a snapshot taken when they are asked for."""

    def __init__(self, health: Callable[[], HealthSnapshot | None], fingerprint: EngineFingerprint) -> None:
        self._health = health
        self._fingerprint = fingerprint

    def describe(self) -> list[Metric]:
        """Names are not looked for beforehand, as there may be no run yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        words = {
            "version": self._fingerprint.rave_trio,
            "plan": self._fingerprint.plan_hash or "",
            "model": self._fingerprint.model_sha256 or "",
        }
        yield _family(GaugeMetricFamily, "rave_trio_info", "What runs; always 1", words, [(words, 1)])
        health = self._health()
        if health is None:
            return
        yield from _plain(health)
        yield from _stages(health)
        queues = [({"channel": channel.name}, channel) for channel in health.metrics.channels]
        for what, told in (("depth", "wait now"), ("peak", "waited at most"), ("capacity", "may wait")):
            values = [(labels, getattr(channel, what)) for labels, channel in queues]
            yield _family(GaugeMetricFamily, f"rave_trio_queue_{what}", f"Frames that {told}", ["channel"], values)


def _plain(health: HealthSnapshot) -> Iterator[Metric]:
    gpu = health.gpu or GpuLoad()
    gauges: dict[str, tuple[str, float | None]] = {
        "elapsed_seconds": ("Since the first frame was asked for", health.elapsed),
        "frames_expected": ("How many frames there will be, where that is known", health.total),
        "fps": ("Frames per second over the last five seconds", health.recent_fps),
        "publishing": ("1 once all frames are done", health.phase == "publish"),
        "steady_state": ("1 while the pool allocates nothing", health.steady_state),
        "memory_bytes": ("Memory of frames and network on the device", health.vram_current),
        "memory_peak_bytes": ("The most so far", health.vram_peak),
        "memory_limit_bytes": ("What --vram-limit allows", health.vram_limit),
        "host_memory_bytes": ("What of the process is in RAM", health.host_memory),
        "gpu_memory_bytes": ("All of the GPU's memory that is taken, by whomever", gpu.memory_used),
        "gpu_busy_ratio": ("Share of time in which a kernel ran", gpu.busy),
        "gpu_decoder_busy_ratio": ("The same of NVDEC", gpu.decoder),
        "gpu_encoder_busy_ratio": ("The same of NVENC", gpu.encoder),
    }
    for name, (told, value) in gauges.items():
        if value is not None:
            yield GaugeMetricFamily(f"rave_trio_{name}", told, value=float(value))
    pool = health.pool
    requests = [({"result": "hit"}, pool.hits), ({"result": "miss"}, pool.misses)]
    yield _family(CounterMetricFamily, "rave_trio_pool_requests", "For memory of the pool", ["result"], requests)
    yield CounterMetricFamily("rave_trio_pool_evictions", "Idle buffers freed to make room", value=pool.evictions)
    yield CounterMetricFamily("rave_trio_pool_waits", "Requests that waited for another's memory", value=pool.waits)


def _stages(health: HealthSnapshot) -> Iterator[Metric]:
    stages = health.metrics.stages
    frames = [({"stage": stage.name}, stage.frames_out) for stage in stages]
    yield _family(CounterMetricFamily, "rave_trio_frames", "Frames that a stage has given on", ["stage"], frames)
    seconds = [
        ({"stage": stage.name, "activity": activity}, getattr(stage, activity))
        for stage in stages
        for activity in ("busy", "waiting_for_input", "waiting_for_output")
    ]
    told = "Of the inference stage's busy time: tensors become surfaces"
    yield CounterMetricFamily("rave_trio_postprocess_seconds", told, value=health.metrics.postprocess)
    told = "What a stage spent its time on"
    yield _family(CounterMetricFamily, "rave_trio_stage_seconds", told, ["stage", "activity"], seconds)
    calls = HistogramMetricFamily("rave_trio_call_seconds", "How long a stage's calls take", labels=["stage"])
    for stage in stages:
        calls.add_metric([stage.name], _buckets(stage.latency), stage.latency.total)
    yield calls


def _buckets(latency: Latency) -> list[tuple[str, float]]:
    """Cumulative counts by upper edge, as Prometheus wants them."""
    so_far = list(itertools.accumulate(latency.counts))
    return [*((f"{upper_edge(edge):.9g}", so_far[edge]) for edge in EDGES), ("+Inf", so_far[-1])]


def _family(
    kind: Callable[..., Any],
    name: str,
    told: str,
    labels: Iterable[str],
    values: Sequence[tuple[dict[str, str], float]],
) -> Metric:
    family: Metric = kind(name, told, labels=list(labels))
    for words, value in values:
        family.add_metric(list(words.values()), value)  # type: ignore[attr-defined]
    return family
