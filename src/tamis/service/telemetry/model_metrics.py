"""The metrics of each model version, read at a scrape from the files that all workers count in.

Their labels are models and versions, which are unknown when the shared memory is laid out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tamis.inference.classifier import Classifier
from tamis.inference.drift_report import WindowDrift
from tamis.inference.served_model import ServedModel
from tamis.inference.shadow import TrafficSide
from tamis.inference.traffic_counts import DIFFERENCES, SECONDS, SIDES
from tamis.service.telemetry import metric_definitions as defined
from tamis.service.telemetry.exposition import head, histogram, sample

TrafficReport = tuple[ServedModel, str, TrafficSide]
"""The served version, `canary` or `shadow`, and that version with its counts."""


def drift_lines(reports: Sequence[tuple[Classifier, Sequence[WindowDrift]]]) -> Iterator[str]:
    """Yield the gauges of drift: two windows of four features for every served version."""
    # read once: a report may be replaced between two metrics
    windows = [
        ({"model": model.name, "version": model.version, "window": one.window}, one)
        for model, found in reports
        for one in found
    ]
    yield from head(*defined.DRIFT_TEXTS)
    for labels, window in windows:
        yield sample(defined.DRIFT_TEXTS[0], labels, window.texts)
    for family, field in (
        (defined.DRIFT_PSI, "psi"),
        (defined.DRIFT_PSI_LOW, "psi_low"),
        (defined.DRIFT_PSI_HIGH, "psi_high"),
        (defined.DRIFTING, "is_drifting"),
    ):
        yield from head(*family)
        for labels, window in windows:
            for feature, drift in window.features.items():
                number = drift.as_dict()[field]
                if number is not None:  # None: too few counts; a gauge of 0 would look like no drift
                    yield sample(family[0], labels | {"feature": feature}, number)


def feedback_lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the gauges of feedback from `FeedbackAccuracy.as_dict()`, of a bounded number of versions."""
    # feedback may be about versions of long ago
    shown = sorted(found, key=lambda one: -one["total"])[: defined.MAX_FEEDBACK_VERSIONS]
    for family, field in zip(defined.FEEDBACK_METRICS, ("total", "accuracy", "low", "high"), strict=True):
        yield from head(*family)
        for one in shown:
            labels = {"model": one["model_name"] or "", "version": one["model_version"] or ""}
            yield sample(family[0], labels, one[field])


def traffic_lines(reports: Sequence[TrafficReport]) -> Iterator[str]:
    """Yield both sides of each canary, and what a canary's or a shadow's second scoring gave."""
    canaries = [report for report in reports if report[1] == "canary"]
    sides = [
        (
            {"model": served.name, "version": (trial.model if side == "canary" else served).version},
            side,
            trial.counts.side(side),
        )
        for served, _, trial in canaries
        for side in SIDES
    ]
    yield from head(*defined.CANARY_REQUESTS)
    # three loops, because the text format wants all series of a metric together
    for version, side, found in sides:
        for result, number in (("answered", found.requests - found.errors), ("error", found.errors)):
            yield sample(defined.CANARY_REQUESTS[0], {**version, "side": side, "result": result}, number)
    yield from head(*defined.CANARY_SECONDS)
    for version, side, found in sides:
        labels = {**version, "side": side}
        yield from histogram(defined.CANARY_SECONDS[0], labels, found.buckets, found.seconds, SECONDS)
    yield from head(*defined.CANARY_LABELS)
    for version, side, found in sides:
        for label, number in found.labels.items():
            yield sample(defined.CANARY_LABELS[0], {**version, "side": side, "label": label}, number)
    yield from _comparison_lines(reports)


def _comparison_lines(reports: Sequence[TrafficReport]) -> Iterator[str]:
    compared = [
        ({"model": served.name, "version": trial.model.version, "role": role}, trial.counts)
        for served, role, trial in reports
    ]
    yield from head(*defined.COMPARISONS)
    for labels, counts in compared:
        for result, number in counts.results.items():
            yield sample(defined.COMPARISONS[0], {**labels, "result": result}, number)
    for family, buckets, total, bounds in (
        (defined.COMPARISON_SECONDS, "compared_buckets", "compared_seconds", SECONDS),
        (defined.COMPARISON_DIFFERENCE, "difference_buckets", "differences", DIFFERENCES),
    ):
        yield from head(*family)
        for labels, counts in compared:
            found = counts.totals[0]
            yield from histogram(family[0], labels, found[buckets].tolist(), float(found[total]), bounds)


def model_lines(models: Sequence[ServedModel]) -> Iterator[str]:
    """Yield one line for each loaded version."""
    yield from head(*defined.MODEL_INFO)
    for model in models:
        manifest = model.classifier.manifest
        kind = manifest.kind if manifest else "mock"
        labels = {"name": model.name, "version": model.version, "kind": kind, "digest": model.digest}
        yield sample(defined.MODEL_INFO[0], labels, 1)
