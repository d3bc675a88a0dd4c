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

from tamis import events
from tamis.errors import STORE_FAULTS
from tamis.events import (
    Counters,
    Event,
    Events,
    RequestFinished,
    RequestStarted,
    StoreFailed,
    StoreStateChanged,
)
from tamis.service.api.route import StrictRoute
from tamis.service.telemetry import metric_definitions
from tamis.service.telemetry.exposition import PROCESS_METRICS, process_numbers
from tamis.service.telemetry.metric_definitions import (
    BUILD_INFO,
    DRIFT_METRICS,
    DRIFT_TEXTS,
    FEEDBACK_METRICS,
    LAYOUT,
    MODEL_INFO,
    OTHER,
    ROUTES,
    TRAFFIC_METRICS,
    WORKERS,
    route_of,
)
from tamis.service.telemetry.metrics import Metrics
from tamis.service.telemetry.shared_values import make_shared_memory
from tests.support.metrics_page import value
from tests.support.serving import make_app

_OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


_IN_ANOTHER_PROCESS = """
import sys
from tamis.events import ConnectionRejected, Counters, Events, RequestStarted, StoreStateChanged
from tamis.service.telemetry.metrics import Metrics
events, metrics = Events(), Metrics(int(sys.argv[1]))
metrics.subscribe_to(events)
events.emit(RequestStarted())
events.emit(ConnectionRejected("overloaded"))
"""


_OF_MODELS = (*DRIFT_METRICS, *TRAFFIC_METRICS, *FEEDBACK_METRICS)
_ONE_OF_EACH = (
    events.RequestStarted(),
    events.RequestFinished("/v2", "GET", 503, 0.01, "overloaded", "v2", 0.001),
    events.ConnectionRejected("too_slow"),
    events.CacheQueried(1, 0, 0),
    events.BatchScored(1, 0.1, 0.1, 0, 0.0),
    events.RowsCommitted(1, 0.01),
    events.StoreStateChanged(Counters(1, 1), is_degraded=False),
    events.StoreFailed("unavailable"),
    events.LogReadStarted(),
    events.LogPageRead(1, 100),
    events.LogReadFinished(),
    events.ModelLoaded("spam", "1"),
    events.ModelRefused("spam", "2"),
)


def _observed(shared_fd: int | None = None) -> tuple[Events, Metrics]:
    events, metrics = Events(), Metrics(shared_fd)
    metrics.subscribe_to(events)
    return events, metrics


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
    bus, metrics = _observed()
    for path, method, status, seconds in asked:
        bus.emit(RequestStarted())
        bus.emit(RequestFinished(route_of({"path": path}), method, status, seconds))
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
    script = f"{_IN_ANOTHER_PROCESS}events.emit(StoreStateChanged(Counters(1, 0, 1, 0), is_degraded=True))"
    subprocess.run([sys.executable, "-c", script, str(shared_fd)], pass_fds=[shared_fd], check=True)
    page = Metrics(shared_fd).page().decode()
    assert value(page, "http_requests_in_progress") == value(page, "tamis_store_degraded") == 0
    assert value(page, "tamis_refusals_total", code="overloaded") == 1
    assert value(page, "tamis_calls_spooled") == 1, "until its store has looked who still waits"
    assert (value(page, "tamis_worker_starts_total"), value(page, "tamis_workers")) == (2, 1)


def test_every_process_shows_the_numbers_of_all(shared_fd: int) -> None:
    show = "print(flush=True); sys.stdin.readline(); sys.stdout.write(metrics.page().decode())"
    script = _IN_ANOTHER_PROCESS + show
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
        bus, metrics = _observed(shared_fd)
        bus.emit(events.ConnectionRejected("overloaded"))
        page = metrics.page().decode()
        seen_there, _ = other.communicate("\n")
    assert page.splitlines()[:9] == seen_there.splitlines()[:9]
    assert value(page, "http_requests_in_progress") == 1
    assert value(page, "tamis_refusals_total", code="overloaded") == 2
    assert value(page, "tamis_worker_starts_total") == value(page, "tamis_workers") == 2


def test_store_events_are_in_the_metrics_of_their_names() -> None:
    bus, metrics = _observed()
    bus.emit(StoreStateChanged(Counters(10, 2, 3, 4), is_degraded=True))
    for count, fault in enumerate(STORE_FAULTS, start=1):
        for _ in range(count):
            bus.emit(StoreFailed(fault))
    assert metrics.counters == Counters(10, 2, 0, 4), "a spool is counted again by the next process"
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
    ] == [10, 2, 3, 4, 1]
    assert [value(page, "tamis_store_failures_total", fault=fault) for fault in STORE_FAULTS] == [
        *range(1, 1 + len(STORE_FAULTS))
    ]


def test_every_event_changes_a_metric() -> None:
    bus, metrics = _observed()
    for event in _ONE_OF_EACH:
        before = metrics.page()
        bus.emit(event)
        assert _without_process(metrics.page()) != _without_process(before), event
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)}
    # of these, drift has the gauges
    assert {type(event) for event in _ONE_OF_EACH} == kinds - {Event, events.TextsAnswered}


def _without_process(page: bytes) -> list[bytes]:
    return [line for line in page.splitlines() if not line.startswith(b"process_")]


def test_events_reach_only_the_subscribers_of_their_type() -> None:
    bus, seen = Events(), list[RequestFinished]()
    finished = RequestFinished("/prediction", "POST", 200, 0.01)
    bus.subscribe(RequestFinished, seen.append)
    bus.subscribe(RequestFinished, seen.append)
    bus.emit(RequestStarted())
    bus.emit(finished)
    assert seen == [finished, finished]
    with pytest.raises(AttributeError):
        finished.status = 500  # type: ignore[misc]  # this is what is tested


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
        **dict.fromkeys(DRIFT_METRICS, "`model`, `version`, `window`, `feature`"),
        **dict.fromkeys(FEEDBACK_METRICS, "`model`, `version`"),
        **dict.fromkeys(TRAFFIC_METRICS[3:], "`model`, `version`, `role`"),
        TRAFFIC_METRICS[0]: "`model`, `version`, `side`, `result`",
        TRAFFIC_METRICS[1]: "`model`, `version`, `side`",
        TRAFFIC_METRICS[2]: "`model`, `version`, `side`, `label`",
        TRAFFIC_METRICS[3]: "`model`, `version`, `role`, `result`",
        DRIFT_TEXTS: "`model`, `version`, `window`",
        MODEL_INFO: "`name`, `version`, `kind`, `digest`",
        BUILD_INFO: "`version`, `python_version`, `linear_scoring`",
    }
    looked_at = [
        (name, kind, labels_of.get((name, kind, help_text), ""), help_text)
        for name, kind, help_text in (WORKERS, *_OF_MODELS, MODEL_INFO, BUILD_INFO)
    ]
    processes = [(name, kind, "`worker`", help_text) for name, (kind, help_text) in PROCESS_METRICS.items()]
    assert [(name, kind, labels.strip(), help_text) for name, kind, labels, help_text in rows] == [
        *counted, *looked_at, *processes,
    ]  # fmt: skip


def test_every_metric_on_the_page_is_in_the_catalogue() -> None:
    page = Metrics().page().decode()
    names = re.findall(r"^# TYPE (\w+) ", page, re.MULTILINE)
    listed = [family.name for family in LAYOUT.families]
    of_models = [name for name, *_ in _OF_MODELS]
    assert names == [*listed, WORKERS[0], *of_models, MODEL_INFO[0], BUILD_INFO[0], *PROCESS_METRICS]
    assert all(re.fullmatch(r"(http|tamis|process)_[a-z_]+", name) for name in names)
    assert len(page) < 8_000, "before the first request"
    assert len({*metric_definitions.ROUTES}) == len(metric_definitions.ROUTES)
