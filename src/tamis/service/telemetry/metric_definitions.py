"""Every metric of the service: name, labels and help text.

A test compares the table in docs/operations.md with this module.
"""

from __future__ import annotations

import re

from starlette.types import Scope

from tamis.errors import STORE_FAULTS
from tamis.service.responses import STATUS_BY_CODE
from tamis.service.telemetry.metric_types import Merge, MetricLayout

OTHER = "other"
NO_ANSWER = "none"

DIALECT_ROUTES = (
    "/v2/models/{model}/infer",
    "/v2/models/{model}/versions/{version}/infer",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/{model}",
    "/v2/models/{model}/ready",
    "/v2/models/{model}/stats",
    "/v2/models/{model}/versions/{version}",
    "/v2/models/{model}/versions/{version}/ready",
    "/v2/models/{model}/versions/{version}/stats",
    "/v2/repository/index",
    "/v2/repository/models/{model}/load",
    "/v2/repository/models/{model}/unload",
    "/v1/models/{model}:predict",
    "/v1/models",
    "/v1/models/{model}",
    "/predict",
    "/info",
    "/hf",
    "/hf/info",
    "/hf/health",
    "/hf/models/{model}",
    "/hf/models/{model}/info",
    "/hf/models/{model}/health",
    "/invocations",
    "/ping",
    "/version",
    "/classify",
    "/v1/classify",
    "/v1/moderations",
)
"""The routes of other servers' wire formats. A test compares them with `dialects/`, which this module cannot
import: it is in a lower layer."""

DIALECTS = ("v2", "v1", "tei", "hf", "mlflow", "openai")

ROUTES = (
    "/",
    "/prediction",
    "/predictions",
    "/explanation",
    "/recent_log",
    "/log",
    "/log/summary",
    "/feedback",
    "/keys",
    "/keys/{name}",
    "/model",
    "/models",
    "/models/{model}",
    "/models/{model}/report",
    "/models/{model}/card",
    "/models/{model}/drift",
    "/models/{model}/prediction",
    "/models/{model}/predictions",
    "/models/{model}/explanation",
    "/models/{model}/aliases/{alias}",
    "/models/{model}/versions/{version}",
    "/models/{model}/versions/{version}/report",
    "/models/{model}/versions/{version}/card",
    "/models/{model}/versions/{version}/prediction",
    "/models/{model}/versions/{version}/predictions",
    "/models/{model}/versions/{version}/explanation",
    "/models/{model}/versions/{version}/load",
    "/models/{model}/versions/{version}/unload",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/{file}",
    "/redoc",
    "/redoc/{file}",
    "/ui",
    "/ui/{file}",
    "/health",
    "/healthz",
    *DIALECT_ROUTES,
    OTHER,
)
"""The values of the label `route`, listed to bound the number of series; `other` is a path without route."""

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", OTHER)
# 206, 304 and 416: Starlette's FileResponse answers range and conditional requests for the documentation
STATUSES = (
    *map(str, sorted({200, 201, 206, 304, 416, *STATUS_BY_CODE.values()})),
    NO_ANSWER,  # the client left, or the process failed, before a status was sent
    OTHER,
)
STAGES = ("read", "queue", "score", "store")
LAYERS = ("memory", "store")

# steps of 2 or 2.5: a quantile is interpolated within a bucket, so it is wrong by this factor at most
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# a stage is a part of a request, so its buckets begin ten times lower
STAGE_SECONDS = (0.00005, 0.0001, 0.00025, *SECONDS)
BATCH_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

# the order of the definitions is the order of the offsets in shared memory, and of `/metrics`
LAYOUT = MetricLayout()

REQUESTS = LAYOUT.counter(
    "http_requests_total", "Finished requests.", route=ROUTES, method=METHODS, status=STATUSES
)
REQUEST_SECONDS = LAYOUT.histogram(
    "http_request_duration_seconds",
    "Time from the request's headers to the end of the response.",
    SECONDS,
    route=ROUTES,
)
REQUESTS_IN_PROGRESS = LAYOUT.gauge("http_requests_in_progress", "Requests in progress.", Merge.SUM_OF_LIVING)
DIALECT_REQUESTS = LAYOUT.counter(
    "tamis_dialect_requests_total", "Requests in the wire format of another server.", dialect=DIALECTS
)
REFUSALS = LAYOUT.counter(
    "tamis_refusals_total", "Refused and failed requests, by error code.", code=tuple(STATUS_BY_CODE)
)
STAGE = LAYOUT.histogram(
    "tamis_stage_duration_seconds", "Time in one stage of a request.", STAGE_SECONDS, stage=STAGES
)
BATCH_TEXTS = LAYOUT.histogram("tamis_batch_texts", "Texts in one batch of the model.", BATCH_SIZES)
QUEUE_TEXTS = LAYOUT.gauge("tamis_queue_texts", "Texts in the queue of the model.", Merge.SUM_OF_LIVING)
QUEUE_SECONDS = LAYOUT.gauge(
    "tamis_queue_seconds", "Expected wait of a text that arrives now.", Merge.MAX_OF_LIVING
)
CACHE_HITS = LAYOUT.counter("tamis_cache_hits_total", "Texts whose prediction was cached.", layer=LAYERS)
CACHE_MISSES = LAYOUT.counter("tamis_cache_misses_total", "Texts whose prediction was not cached.")
CALLS_ACCEPTED = LAYOUT.counter(
    "tamis_calls_accepted_total", "Calls accepted for the log: written, spooled or dropped."
)
CALLS_WRITTEN = LAYOUT.counter("tamis_calls_written_total", "Calls written to the log.")
CALLS_SPOOLED = LAYOUT.gauge("tamis_calls_spooled", "Calls in the spool.", Merge.SUM)
CALLS_DROPPED = LAYOUT.counter("tamis_calls_dropped_total", "Calls that are lost.")
STORE_DEGRADED = LAYOUT.gauge(
    "tamis_store_degraded", "1 while the store fails or calls are spooled.", Merge.MAX_OF_LIVING
)
STORE_FAILURES = LAYOUT.counter(
    "tamis_store_failures_total", "Failures of the store, by cause.", fault=STORE_FAULTS
)
LOG_READS = LAYOUT.gauge(
    "tamis_log_reads_in_progress", "Reads of the call log in progress.", Merge.SUM_OF_LIVING
)
LOG_ROWS = LAYOUT.counter("tamis_log_read_rows_total", "Rows read from the call log.")
LOG_BYTES = LAYOUT.counter("tamis_log_read_bytes_total", "Bytes sent from the call log.")
MODEL_LOADS = LAYOUT.counter("tamis_model_loads_total", "Loaded model versions.")
MODEL_REFUSALS = LAYOUT.counter(
    "tamis_model_refusals_total", "Model versions that could not be loaded or failed their self-test."
)
WORKER_STARTS = LAYOUT.counter("tamis_worker_starts_total", "Started worker processes.")

WORKERS = ("tamis_workers", "gauge", "Running worker processes.")
DRIFT_TEXTS = ("tamis_drift_texts", "gauge", "Texts of a window that is compared with the training profile.")
DRIFT_PSI = (
    "tamis_drift_psi",
    "gauge",
    "Population stability index of a window against the training profile.",
)
DRIFT_PSI_LOW = ("tamis_drift_psi_low", "gauge", "Lower end of the index's 95 % interval.")
DRIFT_PSI_HIGH = ("tamis_drift_psi_high", "gauge", "Upper end of the index's 95 % interval.")
DRIFTING = ("tamis_drifting", "gauge", "1 while a feature of a window is drifting.")
DRIFT_METRICS = (DRIFT_TEXTS, DRIFT_PSI, DRIFT_PSI_LOW, DRIFT_PSI_HIGH, DRIFTING)
FEEDBACK = ("tamis_feedback_labels", "gauge", "True labels that came back about predictions.")
FEEDBACK_ACCURACY = (
    "tamis_feedback_accuracy",
    "gauge",
    "Share of them that was predicted; no random sample.",
)
FEEDBACK_LOW = ("tamis_feedback_accuracy_low", "gauge", "Lower end of the 95 % interval of this share.")
FEEDBACK_HIGH = ("tamis_feedback_accuracy_high", "gauge", "Upper end of the 95 % interval of this share.")
FEEDBACK_METRICS = (FEEDBACK, FEEDBACK_ACCURACY, FEEDBACK_LOW, FEEDBACK_HIGH)
MAX_FEEDBACK_VERSIONS = 100
"""`/metrics` shows the versions with the most feedback: the number of series must not grow for ever."""

CANARY_REQUESTS = (
    "tamis_canary_requests_total",
    "counter",
    "Requests that take part in a canary, by the side that answered.",
)
CANARY_SECONDS = ("tamis_canary_duration_seconds", "histogram", "Time of classifying these requests.")
CANARY_LABELS = ("tamis_canary_labels_total", "counter", "Predicted labels of these requests.")
COMPARISONS = (
    "tamis_comparisons_total",
    "counter",
    "Texts that a shadow, or the served version beside a canary, scored again or dropped.",
)
COMPARISON_SECONDS = (
    "tamis_comparison_duration_seconds",
    "histogram",
    "Time of the second scoring of a text.",
)
COMPARISON_DIFFERENCE = (
    "tamis_comparison_difference",
    "histogram",
    "Difference of the probability of the predicted label.",
)
TRAFFIC_METRICS = (
    CANARY_REQUESTS,
    CANARY_SECONDS,
    CANARY_LABELS,
    COMPARISONS,
    COMPARISON_SECONDS,
    COMPARISON_DIFFERENCE,
)

MODEL_INFO = ("tamis_model_info", "gauge", "The model that is served; always 1.")
BUILD_INFO = (
    "tamis_build_info",
    "gauge",
    "The version of Tamis and of Python, and how linear models are scored; always 1.",
)
"""Name, type and help text of the metrics that are computed at each scrape."""

_PATTERNS = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", route)), route) for route in ROUTES if "{" in route]
_ROUTES = frozenset(ROUTES)


def route_of(scope: Scope) -> str:
    """Return the route of an answered request; routes are bounded in number, paths are not."""
    path: str = scope["path"]
    if path in _ROUTES:  # nearly all requests, and the fast path sets no `route`
        return path
    template = getattr(scope.get("route"), "path_format", None)
    if template in _ROUTES:
        return str(template)
    # refused before the router was asked, such as by the host check: matched here as the router would
    return next((route for pattern, route in _PATTERNS if pattern.fullmatch(path)), OTHER)
