"""Metrics and logs of a real service with several workers."""

from __future__ import annotations

import http.server
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.metrics_page import value
from tests.support.processes import ENVIRON, Service, serving

_SECRET_TEXT = "Sesame-is-the-word"
_AT_ONCE = {"TAMIS_DRAIN_SECONDS": "0"}


def _client(service: Service) -> httpx.Client:
    """Make a connection for every request: any worker may answer."""
    return httpx.Client(base_url=service.address, limits=httpx.Limits(max_keepalive_connections=0))


def _page_when(service: Service, holds: Callable[[str], bool]) -> str:
    """Ask until it holds: a worker counts a request a moment after its client has the answer."""
    deadline = time.monotonic() + 20
    with _client(service) as client:
        while not holds(page := client.get("/metrics").text):
            assert time.monotonic() < deadline, page
    return page


def _ask(service: Service, times: int) -> None:
    with _client(service) as client:
        for number in range(times):
            response = client.post("/prediction", json={"text": f"{_SECRET_TEXT} {number % 7}"})
            assert response.status_code == 200


def test_any_worker_gives_the_totals_of_all_workers(tmp_path: Path) -> None:
    def answered(page: str) -> float:
        return value(page, "http_requests_total", route="/prediction", method="POST", status="200")

    with serving(tmp_path, "--mock", "--workers", "3", "--store", "memory:", **_AT_ONCE) as service:
        _page_when(service, lambda page: value(page, "tamis_workers") == 3)
        _ask(service, 60)
        for _ in range(5):
            page = _page_when(service, lambda page: answered(page) >= 60)
            assert answered(page) == 60
        assert value(page, "http_request_duration_seconds_count", route="/prediction") == 60
        assert value(page, "tamis_calls_accepted_total") == value(page, "tamis_calls_written_total") == 60
        assert (
            value(page, "tamis_cache_hits_total", layer="memory") + value(page, "tamis_cache_misses_total")
            == 60
        )

        os.kill(min(service.workers()), signal.SIGKILL)
        page = _page_when(
            service,
            lambda page: value(page, "tamis_worker_starts_total") == 4 and value(page, "tamis_workers") == 3,
        )
        assert answered(page) == 60
        _ask(service, 30)
        page = _page_when(service, lambda page: answered(page) >= 90)
        assert answered(page) == 90
        assert value(page, "tamis_calls_accepted_total") == value(page, "tamis_calls_written_total") == 90
        assert {value(page, "process_resident_memory_bytes", worker=str(n)) > 1e6 for n in range(3)} == {True}
        with socket.create_connection(("127.0.0.1", service.port)) as broken:
            broken.sendall(b"this is no HTTP\r\n\r\n")
            assert broken.recv(100).startswith(b"HTTP/1.1 400")
        _page_when(service, lambda page: value(page, "tamis_refusals_total", code="not_http") == 1)
        assert service.stop() == 0


def test_nothing_that_was_sent_is_in_the_log_of_a_whole_run(tmp_path: Path) -> None:
    """With every line that can be switched on, and requests of every kind of wrong."""
    key = "tamis_SesameSesameSesame"
    environ = {"TAMIS_LOG_FORMAT": "json", "TAMIS_ACCESS_LOG": "true", "TAMIS_SLOW_SECONDS": "0", **_AT_ONCE}
    with serving(tmp_path, "--mock", "--workers", "2", "--store", "memory:", **environ) as service:
        # not the gauge: a worker is alive before it has started
        _page_when(service, lambda page: service.said.count('"event": "started"') == 2)
        with httpx.Client(base_url=service.address, headers={"x-api-key": key, "cookie": key}) as client:
            client.post("/prediction", json={"text": _SECRET_TEXT})
            client.post("/prediction", json={_SECRET_TEXT: 1})
            client.post("/prediction", content=_SECRET_TEXT, headers={"content-type": "application/json"})
            client.post(
                "/prediction", content=_SECRET_TEXT.encode() + b"\xff", headers={"content-type": _SECRET_TEXT}
            )
            client.post("/predictions", json={"texts": [_SECRET_TEXT] * 3})
            client.get("/prediction", params={"text": _SECRET_TEXT, "skip_cache": _SECRET_TEXT})
            client.get("/log", params={"contains": _SECRET_TEXT, "cursor": _SECRET_TEXT})
            client.get(f"/{_SECRET_TEXT}", headers={"authorization": f"Bearer {key}"})
            client.get(
                "/", headers={"x-request-id": f"{_SECRET_TEXT} {_SECRET_TEXT}", "traceparent": _SECRET_TEXT}
            )
            client.get("/recent_log", headers={"x-request-id": "by-name"})
        assert service.stop() == 0
        said = service.said
    assert "Sesame" not in said
    lines = [json.loads(line) for line in said.splitlines()]
    events = [line["event"] for line in lines]
    assert {"started", "listening", "stopped", "slow request"} <= {*events}
    assert events.count("started") == events.count("stopped") == 2
    assert [line["route"] for line in lines if line.get("request_id") == "by-name"] == ["/recent_log"]
    assert {"time", "level", "logger", "event", "process"} <= set.intersection(*map(set, lines))


def test_a_start_that_is_refused_is_an_event_where_programs_read(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tamis", "serve", "nowhere/model"],
        cwd=tmp_path,
        env=ENVIRON | {"TAMIS_LOG_FORMAT": "json", "TAMIS_PORT": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    [line] = map(json.loads, done.stderr.splitlines())
    assert (line["event"], line["level"]) == ("refused", "error")
    assert "nowhere/model" in line["reason"]


class _Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans over OTLP/HTTP."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken.append((self.path, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_spans_reach_the_collector_before_the_service_ends(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Collector) as collector:
        collector.taken = []  # type: ignore[attr-defined]
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        environ = {"TAMIS_TRACES_ENDPOINT": endpoint, **_AT_ONCE}
        # a fork ends without what is registered to run at the exit of a program
        with serving(tmp_path, "--mock", "--store", "memory:", is_program=True, **environ) as service:
            _ask(service, 3)
            assert service.stop() == 0
        collector.shutdown()
    assert {path for path, _ in collector.taken} == {"/v1/traces"}  # type: ignore[attr-defined]
    spans = b"".join(body for _, body in collector.taken)  # type: ignore[attr-defined]
    assert spans.count(b"POST /prediction") == 3
    assert _SECRET_TEXT.encode() not in spans


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_or_killed_parent_leaves_no_temporary_file(tmp_path: Path, number: signal.Signals) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with serving(tmp_path, "--mock", "--workers", "2", TMPDIR=str(temporary), **_AT_ONCE) as service:
        _page_when(service, lambda page: value(page, "tamis_workers") == 2)
        workers = service.workers()
        ends = [os.pidfd_open(pid) for pid in workers]
        service.process.send_signal(number)
        service.process.wait(timeout=60)
        for end in ends:
            assert select.select([end], [], [], 60)[0], "a worker outlives its parent"
            os.close(end)
        assert [*temporary.iterdir()] == []
