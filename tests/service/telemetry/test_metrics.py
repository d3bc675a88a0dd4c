"""That the page stays bounded whatever is asked, and that it is documented as it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tamis.errors import STORE_FAULTS
from tamis.service.api.route import StrictRoute
from tamis.service.telemetry import metric_definitions
from tamis.service.telemetry.exposition import PROCESS_METRICS, process_numbers
from tamis.service.telemetry.metric_definitions import (
    BUILD_INFO,
    LAYOUT,
    MODEL_INFO,
    OTHER,
    ROUTES,
    WORKERS,
    route_of,
)
from tamis.service.telemetry.metrics import Metrics
from tamis.service.telemetry.shared_values import make_shared_memory
from tamis.storage.outbox import COUNTED
from tests.support.metrics_page import value
from tests.support.serving import make_app

_OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


@pytest.fixture
def shared_fd() -> Iterator[int]:
    fd = make_shared_memory(LAYOUT.size)
    yield fd
    os.close(fd)


def test_every_path_that_is_served_has_a_route_of_its_own() -> None:
    paths = {route.path_format for route in make_app().routes if isinstance(route, StrictRoute)}
    assert paths == {*ROUTES} - {OTHER}


@settings(deadline=None)
@given(st.text())
def test_any_path_is_one_of_few_routes(path: str) -> None:
    assert route_of({"path": path}) in ROUTES


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(), st.integers(0, 999), st.floats(0, 1e6)), max_size=20))
def test_any_request_is_counted_once(asked: list[tuple[str, str, int, float]]) -> None:
    metrics = Metrics()
    for path, method, status, seconds in asked:
        metrics.request_began()
        metrics.request_ended(route_of({"path": path}), method, status, seconds)
    page = metrics.page().decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert sum(sample.value for sample in families["http_requests"].samples) == len(asked)
    counts = [
        sample.value
        for sample in families["http_request_duration_seconds"].samples
        if sample.name.endswith("_count")
    ]
    assert sum(counts) == len(asked)
    assert value(page, "http_requests_in_progress") == 0


def test_new_process_keeps_counters_and_resets_gauges(shared_fd: int) -> None:
    script = (
        "import sys\n"
        "from tamis.inference.classifier import Classifier\n"
        "from tamis.service.telemetry.metrics import Metrics\n"
        "metrics = Metrics(int(sys.argv[1]))\n"
        "metrics.request_began(); metrics.refused('overloaded'); metrics.calls[2] = metrics.calls[4] = 1"
    )
    subprocess.run([sys.executable, "-c", script, str(shared_fd)], pass_fds=[shared_fd], check=True)
    page = Metrics(shared_fd).page().decode()
    assert value(page, "http_requests_in_progress") == value(page, "tamis_store_degraded") == 0
    assert value(page, "tamis_refusals_total", code="overloaded") == 1
    assert value(page, "tamis_calls_spooled") == 1, "until its store has looked who still waits"
    assert (value(page, "tamis_worker_starts_total"), value(page, "tamis_workers")) == (2, 1)


def test_every_process_shows_the_numbers_of_all(shared_fd: int) -> None:
    script = (
        "import sys\n"
        "from tamis.service.telemetry.metrics import Metrics\n"
        "from tests.support.fakes import keyword_classifier\n"
        "metrics = Metrics(int(sys.argv[1]))\n"
        "metrics.request_began(); metrics.refused('overloaded')\n"
        "print(flush=True); sys.stdin.readline(); sys.stdout.write(metrics.page().decode())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(shared_fd)],
        pass_fds=[shared_fd],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        metrics = Metrics(shared_fd)
        metrics.refused("overloaded")
        page = metrics.page().decode()
        seen_there, _ = other.communicate("\n")
    assert page.splitlines()[:9] == seen_there.splitlines()[:9]
    assert value(page, "http_requests_in_progress") == 1
    assert value(page, "tamis_refusals_total", code="overloaded") == 2
    assert value(page, "tamis_worker_starts_total") == value(page, "tamis_workers") == 2


def test_the_stores_numbers_stand_where_it_writes_them() -> None:
    metrics = Metrics()
    assert len(metrics.calls) == len(COUNTED)
    for place in range(len(COUNTED)):
        metrics.calls[place] = place + 1
    page = metrics.page().decode()
    assert [
        value(page, name)
        for name in (
            "tamis_calls_accepted_total",
            "tamis_calls_written_total",
            "tamis_calls_spooled",
            "tamis_calls_dropped_total",
            "tamis_store_degraded",
        )
    ] == [1, 2, 3, 4, 5]
    assert [value(page, "tamis_store_failures_total", fault=fault) for fault in STORE_FAULTS] == list(
        range(6, 6 + len(STORE_FAULTS))
    )


def test_this_process_is_seen_as_the_kernel_sees_it() -> None:
    numbers = process_numbers(os.getpid())
    assert set(numbers) == set(PROCESS_METRICS)
    assert 1e6 < numbers["process_resident_memory_bytes"] < numbers["process_virtual_memory_bytes"]
    assert numbers["process_cpu_seconds_total"] == pytest.approx(sum(os.times()[:2]), abs=0.1)
    assert numbers["process_start_time_seconds"] == pytest.approx(Path("/proc/self").stat().st_ctime, abs=60)
    assert 0 < numbers["process_open_fds"] <= numbers["process_max_fds"]


def test_a_process_that_has_gone_says_nothing() -> None:
    assert process_numbers(2**22 + 1) == {}


def test_the_table_in_the_documentation_is_what_is_served() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|(.*)\| (.+) \|$", _OPERATIONS.read_text("utf-8"), re.MULTILINE)
    counted = [
        (family.name, family.kind, ", ".join(f"`{label}`" for label in family.labels), family.help_text)
        for family in LAYOUT.families
    ]
    labels_of = {
        MODEL_INFO: "`name`, `version`, `kind`, `digest`",
        BUILD_INFO: "`version`, `python_version`, `linear_scoring`",
    }
    looked_at = [
        (name, kind, labels_of.get((name, kind, help_text), ""), help_text)
        for name, kind, help_text in (WORKERS, MODEL_INFO, BUILD_INFO)
    ]
    processes = [(name, kind, "`worker`", help_text) for name, (kind, help_text) in PROCESS_METRICS.items()]
    assert [(name, kind, labels.strip(), help_text) for name, kind, labels, help_text in rows] == [
        *counted, *looked_at, *processes,
    ]  # fmt: skip


def test_every_metric_on_the_page_is_in_the_catalogue() -> None:
    page = Metrics().page().decode()
    names = re.findall(r"^# TYPE (\w+) ", page, re.MULTILINE)
    listed = [family.name for family in LAYOUT.families]
    assert names == [*listed, WORKERS[0], MODEL_INFO[0], BUILD_INFO[0], *PROCESS_METRICS]
    assert all(re.fullmatch(r"(http|tamis|process)_[a-z_]+", name) for name in names)
    assert len(page) < 8_000, "before the first request"
    assert len({*metric_definitions.ROUTES}) == len(metric_definitions.ROUTES)
