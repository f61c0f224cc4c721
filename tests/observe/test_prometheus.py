"""What Prometheus is told while a run lasts, read over a real socket."""

from __future__ import annotations

import json
import socket
import sys
import threading
import urllib.error
import urllib.request

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

import rave_trio
from rave_trio.errors import MetricsPortUnavailable
from rave_trio.fingerprint import fingerprint
from rave_trio.observe.prometheus import Endpoint

LOOPBACK = "127.0.0.1"


def get(port: int, path: str, host: str = LOOPBACK) -> str:
    with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=10) as answer:
        return answer.read().decode()


def samples_of(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def idle():
    """An endpoint whose run has not begun."""
    endpoint = Endpoint(LOOPBACK, 0, lambda: None, fingerprint())
    yield endpoint
    endpoint.close()


async def watched(source, folder, model, port: int, pages: list[str]) -> None:
    """A run that is asked for its metrics while it lasts, and for its health in between, and then stopped."""
    stop = rave_trio.Stop()

    async def ask() -> None:
        while len(pages) < 3:
            pages.append(await trio.to_thread.run_sync(get, port, "/metrics"))
        pages.append(await trio.to_thread.run_sync(get, port, "/healthz"))
        stop.request()

    def watch(progress: rave_trio.Progress) -> None:
        if progress.done and not pages:
            pages.append("")
            nursery.start_soon(ask)

    folder.mkdir()
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            with pytest.raises(rave_trio.Stopped):
                await rave_trio.upscale(
                    source, folder / "out.mkv", model=str(model), metrics_port=port, on_progress=watch, stop=stop
                )


async def test_a_run_is_served_while_it_lasts_and_no_longer(long_clip, tmp_path, nearest_x2):
    port, pages = free_port(), []
    await watched(long_clip, tmp_path / "run", nearest_x2, port, pages)

    earlier, later = samples_of(pages[1]), samples_of(pages[2])
    frames = ("rave_trio_frames_total", frozenset({("stage", "encode")}))
    assert 0 < earlier[frames] <= later[frames] <= 3000
    for key, value in earlier.items():
        if key[0].endswith(("_total", "_bucket", "_count", "_sum")):
            assert later[key] >= value, f"{key} has fallen"
    assert later["rave_trio_frames_expected", frozenset()] == 3000
    assert later["rave_trio_memory_bytes", frozenset()] > 0
    assert later["rave_trio_queue_capacity", frozenset({("channel", "decoded")})] == 4
    calls = [value for (name, labels), value in later.items() if name == "rave_trio_call_seconds_count"]
    assert len(calls) == 4
    assert all(calls)
    health = json.loads(pages[3])
    assert health["phase"] == "upscale"
    assert health["frames"] >= later[frames]
    with pytest.raises(urllib.error.URLError):
        get(port, "/metrics")


async def test_two_runs_at_once_are_served_at_their_own_ports(long_clip, tmp_path, nearest_x2):
    ports, pages = (free_port(), free_port()), ([], [])
    async with trio.open_nursery() as nursery:
        for name, port, page in zip("ab", ports, pages, strict=True):
            nursery.start_soon(watched, long_clip, tmp_path / name, nearest_x2, port, page)
    assert all(len(page) == 4 for page in pages)


async def test_a_port_in_use_is_refused_before_the_first_frame(clip, tmp_path, nearest_x2):
    source = clip()
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MetricsPortUnavailable, match=f"127.0.0.1:{port}: Address already in use") as caught:
            await rave_trio.upscale(
                source, tmp_path / "out.mkv", model=str(nearest_x2), metrics_port=port, trace=tmp_path / "t.json"
            )
    assert (caught.value.exit_code, caught.value.kind) == (60, "metrics_port_unavailable")
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_that_is_not_ours_is_refused(host):
    with pytest.raises(MetricsPortUnavailable):
        Endpoint(host, 0, lambda: None, fingerprint())


def test_loopback_is_all_that_listens(idle):
    assert idle.url == f"http://127.0.0.1:{idle.port}/metrics"


def test_an_address_of_version_six_is_written_as_such():
    try:
        endpoint = Endpoint("::1", 0, lambda: None, fingerprint())
    except MetricsPortUnavailable:
        pytest.skip("this machine has no IPv6")
    try:
        assert endpoint.url == f"http://[::1]:{endpoint.port}/metrics"
        assert "rave_trio_info" in get(endpoint.port, "/metrics", "[::1]")
    finally:
        endpoint.close()


def test_before_a_run_is_set_up_it_is_not_healthy(idle):
    assert set(samples_of(get(idle.port, "/metrics"))).pop()[0] == "rave_trio_info"
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(idle.port, "/healthz")
    assert caught.value.code == 503
    assert json.loads(caught.value.read()) == {"phase": "prepare"}
    caught.value.close()


def test_elsewhere_there_is_nothing(idle):
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(idle.port, "/secrets")
    assert caught.value.code == 404
    caught.value.close()


def test_a_client_that_says_nothing_keeps_nobody_waiting():
    endpoint = Endpoint(LOOPBACK, 0, lambda: None, fingerprint())
    with socket.create_connection((LOOPBACK, endpoint.port)):
        assert "rave_trio_info" in get(endpoint.port, "/metrics")
        closing = threading.Thread(target=endpoint.close)
        closing.start()
        closing.join(timeout=10)
        assert not closing.is_alive()


def test_without_the_library_the_flag_is_refused_with_what_to_install(clip, tmp_path, nearest_x2, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "rave_trio.observe.prometheus")
    with pytest.raises(rave_trio.RaveError, match="prometheus-client is not installed") as caught:
        rave_trio.upscale_sync(clip(), tmp_path / "out.mkv", model=str(nearest_x2), metrics_port=0)
    assert "rave-trio[metrics]" in caught.value.remedy
    assert caught.value.exit_code == 2
