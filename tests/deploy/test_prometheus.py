"""A real Prometheus on the files of `tamis deploy` scrapes a real service: alerts fire, queries work."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
import yaml

from tests.support.artifacts import save_model
from tests.support.command_server import tamis_command
from tests.support.processes import Service, serving

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="no Prometheus here: make tools")
_PATIENCE_SECONDS = 60


def deployed(folder: Path, target: str, *arguments: str) -> None:
    if not (folder / "models").exists():
        save_model(folder / "models" / "spam")
    command = tamis_command("deploy", target, "-o", ".", *arguments)
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def until(ask: Callable[[], Any]) -> Any:
    """Ask again until there is an answer."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if answer := ask():
                return answer
        select_wait()
    raise AssertionError(f"no answer within {_PATIENCE_SECONDS} s")


def select_wait() -> None:
    """Leave the processor to the two servers for a moment."""
    import select

    select.select([], [], [], 0.1)


class Prometheus:
    """A client of the running server."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def query(self, expression: str) -> list[dict[str, Any]]:
        response = self._client.get("/api/v1/query", params={"query": expression})
        document = response.json()
        assert document["status"] == "success", f"{expression}: {document}"
        found: list[dict[str, Any]] = document["data"]["result"]
        return found

    def firing(self) -> set[str]:
        alerts = self._client.get("/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    save_model(tmp_path / "models" / "spam")
    with serving(tmp_path, "models/spam", "--workers", "2", TAMIS_STORE="sqlite:///calls.db") as running:
        yield running


@pytest.fixture
def prometheus(tmp_path: Path, service: Service) -> Iterator[Prometheus]:
    """Prometheus on the written files, except that it scrapes every second and alerts wait for one."""
    deployed(tmp_path, "prometheus", "--port", str(service.port))
    config, rules = tmp_path / "prometheus.yml", tmp_path / "tamis.rules.yml"
    config.write_text(config.read_text().replace("_interval: 15s", "_interval: 1s"))
    rules.write_text(re.sub(r"for: \d+m", "for: 1s", rules.read_text()))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert PROMETHEUS
    command = [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/tsdb"]
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=log, stdout=log
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            client = Prometheus(http)
            until(lambda: http.get("/-/ready").is_success and client.query("up == 1"))
            yield client
    finally:
        process.kill()
        process.wait()


def test_promtool_accepts_configuration_and_rules(tmp_path: Path) -> None:
    deployed(tmp_path, "prometheus")
    assert PROMTOOL
    subprocess.run([PROMTOOL, "check", "config", "prometheus.yml"], cwd=tmp_path, check=True)


_SERIES = {
    "TamisDown": ['up{job="spam",instance="a"}', "0x10"],
    "TamisStoreDegraded": ['tamis_store_degraded{job="spam",instance="a"}', "1x10"],
    "TamisCallsLost": ['tamis_calls_dropped_total{job="spam",instance="a"}', "0+5x10"],
    "TamisErrors": ['http_requests_total{job="spam",instance="a",status="503"}', "0+60x10"],
    "TamisOverloaded": ['tamis_refusals_total{job="spam",instance="a",code="overloaded"}', "0+60x10"],
    "TamisDrift": ['tamis_drifting{job="spam",instance="a",window="recent",feature="labels"}', "1x10"],
    "TamisWorkersRestarting": ['tamis_worker_starts_total{job="spam",instance="a"}', "2+2x10"],
}


@pytest.mark.parametrize("alert", sorted(_SERIES))
def test_alert_fires_for_its_series_in_ten_minutes(tmp_path: Path, alert: str) -> None:
    """promtool plays ten minutes of a metric: these are the real durations of the rules."""
    deployed(tmp_path, "prometheus")
    series, values = _SERIES[alert]
    expression = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    wanted = {"expr": expression, "eval_time": "10m", "exp_samples": [{"labels": "{}", "value": 1}]}
    test = {
        "interval": "1m",
        "input_series": [{"series": series, "values": values}],
        "promql_expr_test": [wanted],
    }
    document = {"rule_files": ["tamis.rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(document))
    assert PROMTOOL
    run = subprocess.run(
        [PROMTOOL, "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_alert_but_latency_is_played_to_promtool(tmp_path: Path) -> None:
    deployed(tmp_path, "prometheus")
    [group] = yaml.safe_load((tmp_path / "tamis.rules.yml").read_text())["groups"]
    assert {rule["alert"] for rule in group["rules"]} == {*_SERIES, "TamisSlow"}


@pytest.mark.alone
def test_degraded_store_and_dead_service_fire(
    tmp_path: Path, service: Service, prometheus: Prometheus
) -> None:
    """Another process locks the store's file; then the service is killed."""
    assert prometheus.firing() == set()
    other = apsw.Connection(str(tmp_path / "calls.db"))
    with contextlib.closing(other), httpx.Client(base_url=service.address, timeout=30) as client:
        other.execute("begin immediate")
        assert client.post("/prediction", json={"text": "while the store is locked"}).status_code == 200
        until(lambda: "TamisStoreDegraded" in prometheus.firing())
        other.execute("rollback")
        until(lambda: "TamisStoreDegraded" not in prometheus.firing())
    service.process.kill()
    until(lambda: "TamisDown" in prometheus.firing())


@pytest.mark.alone
def test_every_query_of_the_dashboard_has_data(
    tmp_path: Path, service: Service, prometheus: Prometheus
) -> None:
    deployed(tmp_path, "grafana")
    board = json.loads((tmp_path / "tamis-dashboard.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(expressions) >= 15
    filled = [
        expression.replace("$__rate_interval", "30s").replace("$instance", ".*") for expression in expressions
    ]
    with httpx.Client(base_url=service.address) as client:

        def everything_has_data() -> bool:
            client.post("/prediction", json={"text": "WIN a camera now"})
            client.post("/predictions", json={"texts": ["one", "two"]})
            return all(_values(prometheus, expression) for expression in filled)

        until(everything_has_data)


def _values(prometheus: Prometheus, expression: str) -> list[float]:
    """Return the query's values that are numbers."""
    values = [float(found["value"][1]) for found in prometheus.query(expression)]
    return [value for value in values if value == value]
